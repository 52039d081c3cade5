import dataclasses

import numpy as np
import pytest
import torch

from procosm.world_model.data import on_disk
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.on_disk import Rows
from procosm.world_model.data.windows import (
    candidates,
    choose_starts,
    context_index,
    cut,
    draw,
    first_frames,
    past_actions,
    tabulate,
)
from procosm.world_model.errors import DatasetError


def episodes() -> list[Episode]:
    rng = np.random.default_rng(0)
    made = []
    for length, ended, kind in ((5, True, "train"), (1, False, "train"), (7, False, "train"), (4, True, "holdout")):
        made.append(
            Episode(
                frames=rng.integers(0, 256, (length + 1, 8, 8, 3), dtype=np.uint8),
                actions=rng.uniform(-2, 2, (length, 2)).astype(np.float32),
                terminated=ended,
                kind=kind,
                signals={
                    "state": rng.normal(size=(length + 1, 3)).astype(np.float32),
                    "reward": rng.normal(size=length).astype(np.float32),
                },
            )
        )
    return made


def test_windows_against_a_loop_over_episodes():
    made = episodes()
    table = tabulate(made, "train", 3)
    latents = torch.arange(len(table.frames)).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    window = cut(table, table.steps, 3, 4, latents)
    pictures = cut(table, table.steps, 3, 0)  # without latents, as tokenizers see them
    assert not pictures.latents.numel() and not window.frames.numel()
    row, offset = 0, 0
    for e in (e for e in made if e.kind == "train"):
        length = len(e.actions)
        for t in range(length):
            context = [max(t - 2 + j, 0) + offset for j in range(3)]
            assert window.latents[row, :3, 0, 0, 0].tolist() == context
            assert torch.equal(pictures.frames[row, :3], table.frames[torch.tensor(context)])
            for j, done in enumerate(range(t - 2, t)):
                if done < 0:
                    assert window.actions[row, j].isnan().all(), "nothing was done before the episode began"
                else:
                    assert torch.allclose(window.actions[row, j], torch.from_numpy(e.actions[done]))
            for h in range(4):
                assert window.mask[row, h] == (t + h < length)
                if t + h < length:
                    assert window.latents[row, 3 + h, 0, 0, 0] == offset + t + h + 1
                    assert torch.allclose(window.actions[row, 2 + h], torch.from_numpy(e.actions[t + h]))
                    state = torch.from_numpy(e.signals["state"][t + h + 1])
                    assert torch.allclose(window.signals["state"][row, 3 + h], state)
                    assert window.signals["reward"][row, h] == pytest.approx(float(e.signals["reward"][t + h]))
                    assert window.ends[row, h] == float(e.terminated and t + h == length - 1)
            row += 1
        offset += length + 1
    assert row == len(table.steps) == 13


def test_context_repeats_the_first_frame():
    table = tabulate(episodes(), "train", 3)
    assert context_index(table, torch.tensor([6, 8, 9]), 3).tolist() == [[6, 6, 6], [8, 8, 8], [8, 8, 9]]


def test_draws_depend_on_seed_and_step_only():
    table = tabulate(episodes(), "train", 3)
    first = draw(table, 50, 1, 7)[0]
    assert torch.equal(first, draw(table, 50, 1, 7)[0])
    assert not torch.equal(first, draw(table, 50, 1, 8)[0])
    assert set(first.tolist()) <= set(table.steps.tolist())


def test_a_kind_without_episodes_is_an_error():
    with pytest.raises(DatasetError, match="no constant episodes"):
        tabulate(episodes(), "constant", 3)


def test_blind_steps_of_wide_starts_are_left_out():
    first, *others = episodes()
    table = tabulate([dataclasses.replace(first, wide=True), *others], "train", 3)
    assert table.steps.tolist() == [2, 3, 4, 6, *range(8, 15)]


def crowd(states: np.ndarray) -> Episode:
    """An episode that passes these states, whatever it looks like."""
    n = len(states) - 1
    frames = np.zeros((n + 1, 8, 8, 3), np.uint8)
    signals = {"state": states.astype(np.float32), "reward": np.zeros(n, np.float32)}
    return Episode(frames, np.zeros((n, 2), np.float32), False, "holdout", signals=signals)


def latents_like(numbers: np.ndarray) -> torch.Tensor:
    """(n, k) numbers as latents (n, k, 1, 1)."""
    return torch.from_numpy(numbers.astype(np.float32))[..., None, None]


def test_start_windows_are_spread_over_the_states():
    rng = np.random.default_rng(0)
    states = np.concatenate([0.01 * rng.normal(size=(180, 2)), rng.uniform(-1, 1, (21, 2))])
    table = tabulate([crowd(states)], "holdout", 3)
    starts = choose_starts(table, latents_like(np.zeros((201, 1))), 3, most=20)
    chosen = states[starts[:, -1]]
    assert (
        len(set(starts[:, -1].tolist())) == 20 and (starts.diff(dim=1) >= 0).all() and (starts[:, -1].diff() > 0).all()
    )
    assert (np.abs(chosen).max(axis=1) > 0.1).sum() >= 15  # as they come, two of 20 would lie out there
    # What is left out lies nearer to a chosen state than any two chosen states lie to each other.
    scaled = states[:-1] / states[:-1].std(axis=0)
    chosen, left = scaled[starts[:, -1]], np.delete(scaled, starts[:, -1], axis=0)
    between = np.linalg.norm(chosen[:, None] - chosen, axis=2)[~np.eye(20, dtype=bool)]
    assert np.linalg.norm(left[:, None] - chosen, axis=2).min(axis=1).max() <= between.min() + 1e-6


def test_start_windows_without_states_are_spread_over_the_latents():
    rng = np.random.default_rng(0)
    latents = np.concatenate([0.01 * rng.normal(size=(180, 2)), rng.uniform(-1, 1, (21, 2))])
    table = tabulate([dataclasses.replace(crowd(latents), signals={})], "holdout", 3)
    chosen = choose_starts(table, latents_like(latents), 3, most=20)[:, -1]
    assert (np.abs(latents[chosen]).max(axis=1) > 0.1).sum() >= 15  # as they come, two of 20 would lie out there


def test_signals_follow_the_frames_whatever_they_are():
    """One for each frame or one for each step, vectors and numbers, and none at all: nothing is made up."""
    rng = np.random.default_rng(0)
    made = [
        dataclasses.replace(
            e,
            signals={
                "proprio": rng.normal(size=(len(e.actions) + 1, 2, 2)).astype(np.float32),
                "force": rng.normal(size=(len(e.actions), 3)).astype(np.float32),
            },
        )
        for e in episodes()
    ]
    table = tabulate(made, "train", 3)
    assert set(table.signals) == {"proprio", "force"}
    first = 0
    for e in (e for e in made if e.kind == "train"):
        n = len(e.actions)
        assert torch.equal(table.signals["proprio"][first : first + n + 1], torch.from_numpy(e.signals["proprio"]))
        assert torch.equal(table.signals["force"][first : first + n], torch.from_numpy(e.signals["force"]))
        first += n + 1
    assert tabulate([dataclasses.replace(e, signals={}) for e in made], "train", 3).signals == {}


def test_of_frames_on_disk_start_windows_are_chosen_among_some_and_as_many_of_the_newest(monkeypatch):
    monkeypatch.setattr(on_disk, "SAMPLE", 20)
    here = tabulate([crowd(np.zeros((200, 2)))], "holdout", 3)
    frames = Rows()
    frames.shape = tuple(here.frames.shape)
    there = dataclasses.replace(here, frames=frames)
    assert torch.equal(candidates(here, 30).steps, here.steps)
    among = candidates(there, 30).steps
    assert len(among.unique()) == 40 and torch.isin(among, here.steps).all() and (among >= 170).sum() == 20
    assert candidates(there).steps.diff().max() <= 11 and len(candidates(there, 200).steps) == 20
    few = tabulate([crowd(np.zeros((20, 2)))], "holdout", 3)
    assert torch.equal(candidates(few, 5).steps, few.steps)


def test_every_window_is_a_start_where_there_are_few_and_equal_states_count_apart():
    table = tabulate([crowd(np.zeros((9, 2)))], "holdout", 3)
    assert choose_starts(table, latents_like(np.zeros((9, 1))), 3)[:, -1].tolist() == table.steps.tolist()


def test_held_out_episodes_too_short_to_show_speeds_are_an_error():
    table = tabulate([dataclasses.replace(crowd(np.zeros((3, 2))), wide=True)], "holdout", 3)
    with pytest.raises(DatasetError, match="collect more steps"):
        choose_starts(table, latents_like(np.zeros((3, 1))), 3)


def test_past_actions_are_those_of_the_log():
    table = tabulate(episodes(), "train", 3)
    done, index = past_actions(table, table.steps, 3), context_index(table, table.steps, 3)
    known = 0
    for row, frame, seen in zip(done, table.steps.tolist(), index.tolist(), strict=True):
        for place, before in enumerate((frame - 2, frame - 1)):
            if before < int(table.first[frame]):
                assert row[place].isnan().all() and seen[place] == int(table.first[frame])
            else:
                assert torch.equal(row[place], table.actions[before]) and seen[place] == before
                known += 1
    assert 0 < known < 2 * len(done)


def test_half_of_the_steps_drawn_are_of_the_newest_frames():
    table = tabulate(episodes(), "train", 3)  # of 5, 1 and 7 steps
    newest = table.with_half_from(8)
    drawn = draw(newest, 100_000, 0, 0)[0]
    assert torch.isin(drawn, table.steps).all()
    assert (drawn >= len(table.first) - 8).float().mean() == pytest.approx(7 / 13, abs=0.01)
    last = dataclasses.replace(table, steps=torch.arange(12)).with_half_from(len(table.first) - 9)
    assert (draw(last, 100_000, 0, 0)[0] >= 9).float().mean() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(table.with_half_from(0).steps, table.steps)
    several = tabulate(episodes() * 3, "train", 3)
    again = several.with_half_from(8)
    assert len(again.steps) > len(several.steps) and torch.equal(first_frames(again), first_frames(several))


def test_half_of_the_start_windows_are_the_newest():
    rng = np.random.default_rng(1)
    table = tabulate([dataclasses.replace(e, kind="holdout") for e in episodes() * 20], "holdout", 3)
    table.signals["state"][:, :] = torch.from_numpy(rng.normal(size=(len(table.first), 3)))
    latents = torch.zeros(len(table.first), 1, 2, 2)
    newest = len(table.first) - 40
    ends = choose_starts(table, latents, 3, most=20, newest=40)[:, -1]
    anywhere = choose_starts(table, latents, 3, most=20)[:, -1]
    assert (ends >= newest).sum() >= 10 > (anywhere >= newest).sum()
    assert len(ends.unique()) == 20
