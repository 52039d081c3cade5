"""Cuts are found where two scenes meet and nowhere else; spans cover a log once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from procosm.world_model.curation.split import SplitConfig, find_cuts, spans_between
from procosm.world_model.curation.stages import cut, split_log
from procosm.world_model.data.logs import Log
from procosm.world_model.errors import ProcosmError
from tests.world_model.curation import scenes

CONFIG = SplitConfig(shortest=8, longest=32)


def test_cuts_are_the_first_frames_of_new_scenes():
    parts = [scenes.episode(seed, steps, scene=7 * seed).frames for seed, steps in ((1, 19), (2, 24), (3, 30))]
    assert find_cuts(np.concatenate(parts), CONFIG) == [20, 45]


def test_one_scene_has_no_cut_however_fast_its_square():
    for seed in range(6):
        assert find_cuts(scenes.episode(seed).frames, CONFIG) == []


@given(st.integers(1, 400), st.sets(st.integers(1, 399)))
def test_every_frame_lies_in_one_span(count, cuts):
    cuts = sorted(each for each in cuts if each < count)
    kept, short = spans_between(count, cuts, CONFIG)
    frames = [frame for span in sorted([*kept, *short], key=lambda span: span.first)
              for frame in range(span.first, span.last + 1)]  # fmt: skip
    assert frames == list(range(count))
    assert all(CONFIG.shortest <= span.count <= CONFIG.longest for span in kept)
    assert all(span.count < CONFIG.shortest for span in short)
    assert not any(span.first < each <= span.last for span in kept for each in cuts)


def test_a_log_is_cut_where_frames_are_missing():
    log = scenes.log(3, steps=30)
    times_s = log.times_s.copy()
    times_s[12:] += 2 * scenes.TASK.dt_s
    kept, short = split_log(Log(log.name, log.episode, times_s), scenes.TASK.dt_s, CONFIG)
    assert [(span.first, span.last) for span in kept] == [(0, 11), (12, 30)] and not short


def test_a_clip_has_the_actions_between_its_frames():
    log = scenes.log(2, steps=30)
    kept, _ = spans_between(31, [10], CONFIG)
    clip, times_s = cut(log, kept[1])
    assert len(clip.frames) == 21 and len(clip.actions) == 20 and clip.wide
    np.testing.assert_array_equal(clip.actions, log.episode.actions[10:])
    np.testing.assert_array_equal(clip.signals["proprio"], log.episode.signals["proprio"][10:])
    np.testing.assert_array_equal(clip.signals["reward"], log.episode.signals["reward"][10:])
    np.testing.assert_array_equal(times_s, log.times_s[10:])


def test_only_the_clip_with_the_last_step_ends_for_good():
    log = scenes.log(1, steps=30)
    kept, _ = spans_between(31, [10], CONFIG)
    assert log.episode.terminated and [cut(log, span)[0].terminated for span in kept] == [False, True]


def test_lengths_that_exclude_each_other_are_refused():
    with pytest.raises(ProcosmError, match=r"longest 20 is less than two of --shortest 16"):
        SplitConfig(shortest=16, longest=20)
