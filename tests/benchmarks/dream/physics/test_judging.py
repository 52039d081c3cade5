"""Colours, overlaps, conditioning and rows against what can be worked out by hand."""

import json

import numpy as np
import pytest
import torch

from procosm.benchmarks.dream.physics.__main__ import PhysicsConfig, physics
from procosm.benchmarks.dream.physics.colours import fit_colours, object_iou
from procosm.benchmarks.dream.physics.data import CLIP, CONDITION, TASK, _cut, _cuts, draws, first_frame
from procosm.benchmarks.dream.physics.dreams import UNITS, Trial, conditioned, dream, held_out, score
from procosm.benchmarks.dream.physics.film import FRAMES, film
from procosm.benchmarks.dream.physics.rows import ALL, per_film, reading, rows
from procosm.benchmarks.dream.physics.scenarios import SCENARIOS
from procosm.benchmarks.dream.physics.training import QUICK
from procosm.world_model import checkpoint, registry
from procosm.world_model.data.episodes import load_episodes, write_dataset
from procosm.world_model.data.windows import context_index, tabulate
from procosm.world_model.errors import ProcosmError


@pytest.fixture(scope="module")
def taken():
    return film("unstable stack", draws(0, "test", "unstable stack", 0), masks=True)


@pytest.fixture(scope="module")
def model():
    """An untrained world model, as a checkpoint holds it."""
    torch.manual_seed(0)
    tokenizer, dynamics = registry.untrained(TASK, QUICK.tokenizer, QUICK.dynamics)
    torch.nn.init.normal_(dynamics.net.patch_out.weight, std=0.1)  # at zero it would say that nothing changes
    return checkpoint.WorldModel(
        task=TASK, tokenizer=tokenizer.eval(), dynamics=dynamics.requires_grad_(False).eval(),
        start_frames=torch.zeros(1), start_states=torch.zeros(1), starts=torch.zeros(1),
        reward_range=(0.0, 0.0), metrics={}, provenance={},
    )  # fmt: skip


def test_overlap_is_counted_by_object_and_only_of_those_in_view():
    true = np.zeros((3, 4, 4), int)
    true[0, :2, :2], true[0, 3, 3], true[1, 0, 0] = 1, 2, 3
    found = true.copy()
    found[0, :2, 1] = 0  # half of object 1 is lost
    found[1] = 0
    found[1, 2, 2] = 5  # nobody is there
    np.testing.assert_allclose(object_iou(found, true), [(0.5 + 1) / 2, 0.0, np.nan])


def test_colours_fitted_to_some_frames_find_objects_in_others(taken):
    classifier = fit_colours(taken.frames[:2, ::5], taken.classes[:2, ::5])
    seen = object_iou(classifier(taken.frames[2, 2::5]), taken.classes[2, 2::5])
    assert np.nanmean(seen) > 0.9
    blank = np.full((1, 64, 64, 3), 107, np.uint8)  # the floor
    assert not classifier(blank).any()


def test_training_films_are_cut_in_three_whole_ones_begin_at_any_moment(taken):
    for number in range(20):
        parts = _cuts("train", draws(0, "train", "dominoes", number))
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
        assert parts[0].start == 0 and parts[-1].stop == FRAMES
        assert min(part.stop - part.start for part in parts) >= 8
        assert 0 <= first_frame(draws(0, "test", "dominoes", number)) <= FRAMES - CLIP
    starts = {first_frame(draws(0, "test", "dominoes", number)) for number in range(20)}
    assert len(starts) > 8


def test_films_become_a_dataset_that_training_reads(taken, tmp_path):
    parts = _cuts("train", draws(0, "train", "unstable stack", 0))
    write_dataset(tmp_path / "data", TASK, (pair for part in parts for pair in _cut(taken, "train", part)), {}, "{}")
    episodes = load_episodes(tmp_path / "data")
    assert len(episodes) == 12
    np.testing.assert_array_equal(episodes[1].frames, taken.frames[1, parts[0]])
    table = tabulate(episodes, "train", CONDITION)
    assert not table.actions.any() and not table.signals["reward"].any() and not table.ends.any()
    alone = (table.steps[:, None] == table.first[table.steps][:, None]).all(axis=1)
    assert int(alone.sum()) == 12  # every piece begins with a window that holds one frame alone
    assert len(torch.unique(context_index(table, table.steps[alone], CONDITION), dim=1)) == 12


def test_one_frame_stands_for_the_past_it_does_not_have():
    real = torch.arange(42.0).view(1, 42, 1, 1, 1)
    assert conditioned(real, 9).flatten().tolist() == list(range(9))
    assert conditioned(real, 1).flatten().tolist() == [8.0] * 9


def test_sampled_dreams_differ_by_seed_alone(model):
    begun = torch.randn(2, CONDITION, *model.tokenizer.spec.shape, generator=torch.Generator().manual_seed(1))
    first, again, other = (dream(model, begun, 3, seed) for seed in (1, 1, 2))
    assert first.shape == (2, 3, *model.tokenizer.spec.shape)
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert torch.equal(dream(model, begun, 3, None), dream(model, begun, 3, None))
    longer = dream(model, begun, 4, None)
    torch.testing.assert_close(longer[:, :3], dream(model, begun, 3, None))


def test_a_film_that_stands_still_is_copied_without_error(model):
    one = held_out("stable stack", 1, seed=0)
    still = Trial(np.repeat(one.frames[:, :, :1], 11, axis=2), np.repeat(one.classes[:, :, :1], 11, axis=2))
    classifier = fit_colours(one.frames, one.classes)
    found, shown = score(model, classifier, still, [0, 1])
    assert found["copy last frame/ssim"] == pytest.approx(1.0)
    assert found["copy last frame/psnr_db"].min() > 80
    np.testing.assert_array_equal(found["copy last frame/iou"], found["real frames/iou"])
    assert found["real frames/iou"].min() > 0.9
    assert found["9 frames, sampled/psnr_db"].shape == (1, 4, 2, 2) and found["9 frames, mean/psnr_db"].shape == (
        1,
        4,
        1,
        2,
    )
    np.testing.assert_array_equal(shown["truth"], still.frames[0, 0, CONDITION:])


def made_up(films, better):
    """Scores whose nine-frame arm is better than its one-frame arm by ``better`` in every frame."""
    rng = np.random.default_rng(films)
    base = rng.uniform(0.2, 0.6, (films, 4, 2, 33))
    methods = ("1 frame, mean", "1 frame, sampled", "copy last frame", "tokenizer")
    scores = {f"{method}/{metric}": base for method in methods for metric in UNITS}
    return scores | {f"9 frames, {kind}/{metric}": base + better for kind in ("mean", "sampled") for metric in UNITS}


def test_rows_average_a_films_cameras_seeds_and_frames_first():
    found = {"seesaw": made_up(6, 0.1), "dominoes": made_up(5, 0.1)}
    made = rows(found, seed=0)
    chosen = {(r["task"], r["method"], r["metric"], r.get("frame")): r for r in made}
    row = chosen["seesaw", "1 frame, mean", "iou", None]
    assert row["n"] == 6 and row["value"] == pytest.approx(found["seesaw"]["1 frame, mean/iou"].mean())
    assert row["low"] < row["value"] < row["high"]
    both = chosen[ALL, "9 frames less 1 frame, mean", "iou", None]
    assert both["n"] == 11 and both["value"] == pytest.approx(0.1)
    assert both["high"] - both["low"] < 1e-9  # pairs: what films have in common is no doubt about the difference
    late = chosen[ALL, "copy last frame", "ssim", 33]
    every = np.concatenate([found[name]["copy last frame/ssim"][..., 32] for name in found])
    assert late["value"] == pytest.approx(every.mean())
    assert "more frames help: +0.10" in reading(made)
    assert "do not help for certain" in reading(rows({"seesaw": made_up(6, 0.0)}, seed=0))


def test_a_film_in_which_no_object_is_seen_is_left_out():
    values = np.full((3, 1, 1, 2), 0.5)
    values[1] = np.nan
    values[2, ..., 0] = np.nan
    np.testing.assert_array_equal(per_film(values), [0.5, 0.5])


def test_settings_that_make_no_sense_are_errors():
    with pytest.raises(ProcosmError, match="--held-out 0"):
        PhysicsConfig(held_out=0)
    with pytest.raises(ProcosmError, match="without --quick"):
        PhysicsConfig(quick=True, publish=True)


@pytest.mark.slow
def test_the_quick_command_goes_through_every_part_and_is_not_repeated(tmp_path):
    result = physics(PhysicsConfig(out=tmp_path, quick=True))
    made = json.loads(result.read_text())
    assert {row["task"] for row in made["rows"]} == {*SCENARIOS, ALL}
    assert result.with_suffix(".png").stat().st_size > 20_000
    written = result.stat().st_mtime_ns
    assert physics(PhysicsConfig(out=tmp_path, quick=True)) == result
    assert result.stat().st_mtime_ns == written
