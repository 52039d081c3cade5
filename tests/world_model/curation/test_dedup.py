"""Copies of a clip are found whatever was done to them, and different clips of one scene are not taken for copies."""

import numpy as np
import pytest

from procosm.benchmarks.dream.curation.planted import COPIES
from procosm.world_model.curation.dedup import embed, embed_actions, find_duplicates
from procosm.world_model.curation.records import packed, unpacked
from tests.world_model.curation import scenes

LIKENESS = 0.5


@pytest.fixture(scope="module")
def originals():
    return [scenes.episode(seed) for seed in range(8)]


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found_and_the_better_one_is_kept(kind, originals):
    rng = np.random.default_rng(2)
    frames = [e.frames for e in originals] + [COPIES[kind](e.frames, rng) for e in originals[:4]]
    acted = [e.actions for e in originals] + [e.actions for e in originals[:4]]
    rank = [0] * 8 + [1, 1, -1, 1]  # the third copy is better than its original
    found = find_duplicates(
        np.stack(list(map(embed, frames))), np.stack(list(map(embed_actions, acted))), rank, LIKENESS
    )
    assert {(each.clip, each.original) for each in found} == {(8, 0), (9, 1), (2, 10), (11, 3)}


def test_the_same_picture_with_other_actions_is_no_copy(originals):
    seen = np.stack([embed(originals[0].frames)] * 2)
    acted = np.stack([embed_actions(originals[0].actions), embed_actions(originals[1].actions)])
    assert find_duplicates(seen, acted, [0, 1], LIKENESS) == []


def test_clusters_find_what_pairs_find():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2400, 24)).astype(np.float32)
    vectors[1200:1300] = vectors[:100] + 0.02 * rng.normal(size=(100, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = find_duplicates(vectors, vectors, list(range(2400)), 0.99)
    alike = np.triu(vectors @ vectors.T >= 0.99, 1)
    expected = {(int(b), int(a)) for a, b in np.argwhere(alike)}
    got = {(each.clip, each.original) for each in found}
    assert got <= expected and len(got) >= 0.98 * len(expected)


def test_an_embedding_survives_its_record(originals):
    vector = embed(originals[0].frames)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(unpacked(packed(vector)), vector, atol=1e-3)
