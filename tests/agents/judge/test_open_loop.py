"""Fidelity by horizon in the linear world, whose errors are known by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from procosm.agents.judge.growth import state_deviation
from procosm.agents.judge.open_loop import choose_windows, open_loop, window
from procosm.agents.judge.summary import verdicts
from procosm.world_model import encoding
from procosm.world_model.errors import DatasetError
from tests.conftest import InstructedDynamics

HALF_LEVEL = 0.5 / 20
"""Frames have whole grey levels, 20 to a unit: a latent read off a frame is off by at most half a level."""


@pytest.fixture
def rows(linear_world, linear_episodes):
    windows = choose_windows(linear_episodes, 3, 8, 500, seed=1)
    return windows, open_loop(linear_world, windows, state_deviation(linear_episodes), seed=1)


def value(rows, method, metric):
    return {row["horizon"]: row["value"] for row in rows if row["method"] == method and row["metric"] == metric}


def test_windows_are_cut_where_they_say_and_padded_at_the_end(linear_episodes):
    episode = linear_episodes[6]  # 9 steps
    cut = window(episode, 2, context=3, horizon=8)
    assert cut.steps == 5  # frames 2, 3, 4 are context; frames 5 to 9 follow
    assert (cut.frames[:8] == episode.frames[2:10]).all() and (cut.frames[8:] == episode.frames[9]).all()
    assert (cut.signals["state"][:6] == episode.signals["state"][4:10]).all()
    assert (cut.actions[:5] == episode.actions[4:9]).all()


def test_every_start_is_chosen_once_when_all_are_asked_for(linear_episodes):
    windows = choose_windows(linear_episodes, 3, 8, 10_000, seed=0)
    assert len(windows.steps) == sum(len(episode.actions) - 2 for episode in linear_episodes)
    assert windows.steps.min() == 1 and windows.steps.max() == 8


def test_a_perfect_model_errs_only_by_the_rounding_of_its_first_frame(rows):
    _, found = rows
    dream = value(found, "dream", "latent_mse")
    # The first latent is off by at most half a level and so is the frame it is compared with; 0.9 shrinks the former.
    assert all(error <= (2 * HALF_LEVEL) ** 2 for error in dream.values())
    assert max(value(found, "dream", "state_nrmse").values()) < 0.1


def test_copying_the_last_frame_errs_as_numpy_says(rows):
    windows, found = rows
    latent = (windows.frames[:, :, ::20, ::20, 0].astype(np.float64) - 128) / 20  # (n, t, 2, 2), straight from pixels
    pixel = windows.frames.astype(np.float64) / 255
    for horizon, error in value(found, "copy last frame", "latent_mse").items():
        there = windows.steps >= horizon
        expected = np.square(latent[there, 2] - latent[there, 2 + horizon]).mean()
        assert error == pytest.approx(expected, rel=1e-5)
        expected = np.square(pixel[there, 2] - pixel[there, 2 + horizon]).mean()
        assert value(found, "copy last frame", "pixel_mse")[horizon] == pytest.approx(expected, rel=1e-4)


def test_both_controls_are_worse_than_a_perfect_model_at_every_horizon(rows):
    _, found = rows
    for metric, by_control in verdicts(found).items():
        for control, verdict in by_control.items():
            assert verdict == {"better": 8, "horizons": 8, "worse_at": []}, (metric, control)


def test_verdicts_name_the_horizons_where_the_dream_loses():
    rows = [
        {"horizon": h, "method": method, "metric": "psnr_db", "value": v}
        for h, scores in ((1, (30, 20, 20)), (2, (19, 20, 18)))
        for method, v in zip(("dream", "copy last frame", "shuffled actions"), scores, strict=True)
    ]
    found = verdicts(rows)["psnr_db"]
    assert found["copy last frame"] == {"better": 1, "horizons": 2, "worse_at": [2]}
    assert found["shuffled actions"] == {"better": 2, "horizons": 2, "worse_at": []}


def test_encoding_in_parts_changes_nothing_and_keeps_the_axes(linear_world, linear_episodes, monkeypatch):
    frames = np.stack([episode.frames[:4] for episode in linear_episodes])
    whole = linear_world.encode(frames)
    monkeypatch.setattr(encoding, "FRAMES", 3)
    assert torch.equal(linear_world.encode(frames), whole)
    alone = linear_world.tokenizer.encode(torch.from_numpy(frames[1, 2])[None, None])[0, 0]
    assert torch.equal(whole[1, 2], alone) and whole.shape[:2] == frames.shape[:2]


def test_episodes_shorter_than_the_context_are_no_ground_for_comparison(linear_episodes):
    with pytest.raises(DatasetError, match="collect again"):
        choose_windows(linear_episodes[:1], 4, 8, 10, seed=0)


def test_a_model_of_words_is_told_what_was_asked_for(linear_world, linear_episodes):
    scale, world = state_deviation(linear_episodes), dataclasses.replace(linear_world, dynamics=InstructedDynamics())

    def judged(model, text):
        asked = [dataclasses.replace(episode, text=text) for episode in linear_episodes]
        return value(open_loop(model, choose_windows(asked, 3, 4, 40, 1), scale, 1), "dream", "latent_mse")

    right, still = judged(linear_world, ""), judged(world, "")
    assert judged(world, "go") == pytest.approx(right, rel=1e-4)
    assert min(still.values()) > 5 * max(right.values())
