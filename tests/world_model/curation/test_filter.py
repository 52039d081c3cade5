"""Each planted fault is found under its own name, and clips without one are kept."""

from dataclasses import replace

import numpy as np
import pytest

from procosm.benchmarks.dream.curation.planted import FAULTS
from procosm.world_model.curation.filter import FilterConfig, measure_actions, measure_pictures, reasons
from procosm.world_model.curation.motion import measure_motion
from tests.world_model.curation import scenes

LIMITS = FilterConfig()
WORDS = {"frozen": "frozen", "shaky": "shaky camera", "blurred": "blurred", "dark": "dark"}


def found(episode, task):
    return reasons(measure_pictures(episode, task)[0], LIMITS)


@pytest.mark.parametrize("fault", WORDS)
def test_a_planted_fault_is_the_first_reason(fault):
    rng = np.random.default_rng(7)
    for seed in range(3):
        episode = scenes.episode(seed)
        frames, actions = FAULTS[fault](episode.frames, episode.actions, rng)
        said = found(replace(episode, frames=frames, actions=actions), scenes.TASK)
        assert said and said[0].startswith(WORDS[fault]), said


def test_good_clips_are_kept():
    assert [found(scenes.episode(seed), scenes.TASK) for seed in range(6)] == [[]] * 6


def test_one_bad_camera_of_two_is_enough():
    task = scenes.TWO_VIEWS
    episode = scenes.episode(0, task=task)
    frames = episode.frames.copy()
    frames[:, :, scenes.WIDTH :] = frames[:, :, scenes.WIDTH :] // 8
    assert found(episode, task) == [] and found(replace(episode, frames=frames), task)[0].startswith("dark")


def test_a_film_of_nothing_is_static_and_blank():
    episode = scenes.episode(0)
    said = found(replace(episode, frames=np.full_like(episode.frames, 128)), scenes.TASK)
    assert {word.partition(" (")[0] for word in said} >= {"static", "blank", "frozen"}


def test_a_caption_laid_over_the_film_is_seen():
    import cv2

    frames = scenes.episode(1, 20).frames.repeat(3, 1).repeat(3, 2).copy()
    for frame in frames:
        cv2.putText(frame, "REC 12:45:09", (12, 130), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    task = replace(scenes.TASK, views=(replace(scenes.TASK.views[0], height=144, width=192),))
    episode = replace(scenes.episode(1, 20), frames=frames)
    assert any(said.startswith("overlay text") for said in found(episode, task))


@pytest.mark.parametrize(("move", "tag"), [((0, 1), "pan"), ((1, 0), "tilt"), ((0, 0), "static camera")])
def test_camera_motion_is_named(move, tag):
    wide = scenes.floor(3, 140, 160)
    frames = np.stack([wide[20 + move[0] * t :, 20 + move[1] * t :][:64, :64] for t in range(20)])
    assert measure_motion(frames).tags() == [tag]


def test_a_zoom_is_named():
    import cv2

    picture = scenes.floor(5, 64, 64)
    turn = [cv2.getRotationMatrix2D((32, 32), 0, 1 + 0.02 * t) for t in range(12)]
    frames = np.stack([cv2.warpAffine(picture, each, (64, 64), borderMode=cv2.BORDER_REFLECT) for each in turn])
    assert measure_motion(frames).tags() == ["zoom"]


def test_one_frame_of_another_film_is_named():
    episode = scenes.episode(4, 39)
    frames = episode.frames.copy()
    frames[20] = scenes.episode(5, 1, scene=30).frames[0]
    assert found(replace(episode, frames=frames), scenes.TASK)[0].startswith("foreign frame")


def test_late_frames_are_named():
    times = np.arange(20) * 0.05
    times[10:] += 0.06
    assert reasons(measure_actions(None, times, 0.05), LIMITS)[0].startswith("dropped or late frames")
