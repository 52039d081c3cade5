"""Episodes in MuJoCo and in the dream, against plain Gymnasium, the single-env wrapper, and SB3's own loop."""

import dataclasses
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from procosm.agents.judge import rollouts, sweep
from procosm.agents.judge.evaluate import trained_player
from procosm.agents.judge.ranking import paired
from procosm.agents.judge.rollouts import (
    SLOTS,
    Played,
    Player,
    dreams_from,
    eyes_of,
    open_policy,
    play_dreams,
    play_truth,
)
from procosm.agents.policy.worlds import judged, truth
from procosm.agents.report import scenes
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.dreams.starts import _say_that_starts_are_wide
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.checkpoint import load, save
from procosm.world_model.conditioning.text import TextConfig
from procosm.world_model.errors import ProcosmError
from tests.conftest import DECAY, InstructedDynamics, restless_model, simulated_task


def test_doing_nothing_earns_what_it_earns_in_plain_gymnasium(finished_run):
    seeds = [5, 6, 7]
    played = play_truth(Player(finished_run / "world_model", "zero"), seeds, processes=1)
    env = gym.make("InvertedPendulum-v5")
    for episode, seed in zip(played, seeds, strict=True):
        env.reset(seed=seed)
        rewards, ended = [], False
        while not ended:
            _, reward, ended, _, _ = env.step(np.zeros(1))
            rewards.append(reward)
        assert (episode.seed, episode.total, episode.steps, episode.terminated) == (
            seed,
            sum(rewards),
            len(rewards),
            True,
        )


@pytest.mark.parametrize("observation", ["state", "latent", "pixels"])
def test_many_at_once_see_what_one_env_shows(finished_run, observation):
    """Eyes for a batch against PerceiveWrapper (or SB3's frame stack) for each episode alone."""
    model = load(finished_run / "world_model")
    alone = [judged(finished_run / "world_model", model.task, observation) for _ in range(2)]
    together = [truth(model.task, "pixels") for _ in range(2)]
    eyes, generator = eyes_of(observation, model, 3), np.random.default_rng(0)
    slots = np.array([0, 2])
    for seed, env in enumerate(alone):
        env.seed(seed)
    expected = np.concatenate([env.reset() for env in alone])
    frames = np.stack([env.reset(seed=seed)[0] for seed, env in enumerate(together)])
    found = eyes.see(slots, frames, first=True)
    for _ in range(3):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        actions = generator.uniform(-0.3, 0.3, (2, 1)).astype(np.float32)
        expected = np.concatenate([env.step(action[None])[0] for env, action in zip(alone, actions, strict=True)])
        frames = np.stack([env.step(action)[0] for env, action in zip(together, actions, strict=True)])
        found = eyes.see(slots, frames, first=False)
    for env in (*alone, *together):
        env.close()


def test_a_policy_earns_what_sb3_measures_on_the_single_env(finished_run):
    player = trained_player(finished_run)
    played = play_truth(player, [40, 41], processes=1)
    policy, model = load_policy(player.policy), load(player.world_model)
    env = judged(player.world_model, model.task, player.observation)
    for episode, seed in zip(played, (40, 41), strict=True):
        env.seed(seed)
        rewards, lengths = evaluate_policy(policy, env, 1, return_episode_rewards=True)
        assert (episode.total, episode.steps) == (rewards[0], lengths[0])
    env.close()


def test_two_processes_play_the_same_episodes_as_one(finished_run):
    player, seeds = Player(finished_run / "world_model", "random"), list(range(12))
    assert play_truth(player, seeds, processes=1) == play_truth(player, seeds, processes=2)


def test_each_dream_begins_with_its_own_frame(linear_world):
    frames = np.stack([np.full((40, 40, 3), grey, np.uint8) for grey in (108, 128, 148)])
    env = dreams_from(linear_world, frames, "latent")
    observed, _ = env.reset(seed=0, options={"start": [0, 1, 2]})
    # grey 128 is latent 0, and 20 levels are 1
    np.testing.assert_array_equal(
        observed, np.array([-1.0, 0.0, 1.0])[:, None, None, None, None] * np.ones((3, 3, 1, 2, 2))
    )


def test_dreams_from_given_frames_say_nothing_of_others(linear_world, caplog):
    _say_that_starts_are_wide.cache_clear()
    dreams_from(linear_world, np.zeros((2, 40, 40, 3), np.uint8), "latent").reset(seed=0)
    assert not caplog.records


def test_a_dream_is_counted_until_its_first_end(finished_run):
    player = trained_player(finished_run)
    model = load(player.world_model)
    frames = model.start_frames[:2, -1].numpy()
    found = play_dreams(player, [Played(seed, 0.0, 1, False, -1, frame) for seed, frame in enumerate(frames, 7)])
    assert [episode.seed for episode in found] == [7, 8]
    policy = open_policy(player.policy, player.algorithm)
    for i, episode in enumerate(found):
        env = dreams_from(model, frames[i : i + 1], player.observation)
        observed, _ = env.reset(seed=0, options={"start": [0]})
        total, steps, ended = 0.0, 0, False
        while not ended:
            observed, reward, ends, cuts, _ = env.step(policy.predict(observed, deterministic=True)[0])
            total, steps, ended = total + float(reward[0]), steps + 1, bool(ends[0] or cuts[0])
        assert episode.steps == steps and episode.total == pytest.approx(total, rel=1e-3)


def test_a_missing_policy_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ProcosmError, match=r"no policy at .*none.zip"):
        open_policy(tmp_path / "none.zip")


def test_an_unfinished_policy_says_how_to_finish(tmp_path):
    with pytest.raises(ProcosmError, match="procosm train-policy"):
        trained_player(tmp_path)


def test_latents_of_a_dream_start_are_the_eyes_first_view(finished_run):
    model = load(finished_run / "world_model")
    frames = model.start_frames[:3, -1].numpy()
    seen = eyes_of("latent", model, 3).see(np.arange(3), frames, first=True)
    env = dreams_from(model, frames, "latent")
    observed, _ = env.reset(seed=0, options={"start": [0, 1, 2]})
    assert torch.equal(torch.from_numpy(seen), torch.from_numpy(observed))


def test_episodes_are_saved_as_they_are_played_and_taken_from_there(truth_checkpoint, tmp_path, monkeypatch):
    seeds = list(range(50, 50 + 2 * SLOTS))
    player = Player(truth_checkpoint, "zero")
    expected = play_truth(player, seeds, processes=1)

    def stop(player: Player, wave: tuple[int, ...]) -> list:
        if wave[0] != seeds[0]:
            raise KeyboardInterrupt
        return expected[:SLOTS]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rollouts, "_play", stop)
        play_truth(player, seeds, 1, tmp_path)
    played: list[tuple[int, ...]] = []
    real = rollouts._play
    monkeypatch.setattr(rollouts, "_play", lambda player, wave: played.append(wave) or real(player, wave))
    assert play_truth(player, seeds, 1, tmp_path) == expected
    assert played == [tuple(seeds[SLOTS:])]  # the first ten are not played again


def test_dreams_from_frames_of_mujoco_are_told_none_of_the_texts_of_other_windows():
    task = simulated_task("Told-v0", 32, 2)
    model = restless_model(task, change=lambda config: dataclasses.replace(config, text=TextConfig()))
    turns = torch.arange(len(model.starts)) % 2
    model = dataclasses.replace(model, texts=("push it left", "push it right"), start_texts=turns)
    frames = np.zeros((len(model.starts) + 1, 32, 32, 3), np.uint8)
    _, info = dreams_from(model, frames, "latent").reset(seed=0, options={"start": list(range(len(frames)))})
    assert set(info["instruction"]) == {""}


def test_mujoco_episodes_say_what_was_asked_for_also_when_they_were_saved(tmp_path, monkeypatch):
    task = MujocoEnv("Tabletop-v0", frame_size=32, camera="above", observation="pixels").task
    task = dataclasses.replace(task, max_episode_steps=2)
    folder = save(tmp_path / "world_model", restless_model(task))
    monkeypatch.setattr(rollouts, "actor", lambda *_: lambda seen, slots: np.zeros((len(seen), 6), np.float32))
    env, seeds = truth(task, "pixels"), [3, 4, 5]
    expected = [env.reset(seed=seed)[1]["instruction"] for seed in seeds]
    env.close()
    assert len(set(expected)) > 1
    for kind in ("trained", "zero"):
        player = Player(folder, kind, observation="latent")
        for _ in ("played", "read"):
            played = play_truth(player, seeds, 1, tmp_path / "saves")
            assert [(episode.seed, episode.instruction) for episode in played] == list(
                zip(seeds, expected, strict=True)
            )


ASKED = ("", "go", "", "go")


@pytest.fixture
def instructed(linear_world):
    """It moves where it is told to go, else it stands still."""
    return dataclasses.replace(linear_world, dynamics=InstructedDynamics())


GREY = np.full((4, 40, 40, 3), 138, np.uint8)
"""Frames of z = 1/2, which becomes .45 in a step without an action."""


def test_a_dream_is_told_what_its_mujoco_episode_was_asked_for(instructed, monkeypatch):
    monkeypatch.setattr(rollouts, "opened", lambda folder, device: dataclasses.replace(instructed, reward_range=None))
    begun = [Played(i, 0.0, 1, False, -1, frame, text) for i, (frame, text) in enumerate(zip(GREY, ASKED, strict=True))]
    found = play_dreams(Player(Path("none"), "zero", observation="state"), begun)
    going, still = (sum(0.5 * DECAY**t for t in steps) for steps in (range(1, 8), [1] * 7))  # paid as if it had moved
    assert [episode.total for episode in found] == pytest.approx([still, going, still, going], abs=1e-4)
    assert [episode.instruction for episode in found] == list(ASKED)


def test_a_panels_dreams_are_told_what_their_mujoco_episodes_are_asked_for(instructed, monkeypatch):
    monkeypatch.setattr(paired, "first_frames", lambda task, seeds: (GREY, list(ASKED)))
    dream = paired.Dream(instructed, [10, 11, 12, 13], 2, mixed=False)
    for seeds in ((11, 10), (12, 13)):
        dream.begin(np.arange(2), np.array(seeds))
        dream.step(np.arange(2), np.zeros((2, 1)))
        expected = [0.5 * DECAY if ASKED[seed - 10] else 0.5 for seed in seeds]
        assert dream.observed[:, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_films_and_sweeps_of_dreams_are_told_it_too(instructed, monkeypatch, tmp_path):
    monkeypatch.setattr(scenes, "actor", lambda *_: lambda seen, slots: np.zeros((len(seen), 1), np.float32))
    player = Player(Path("none"), "trained", observation="latent")
    going, still = (scenes.film_dream(instructed, player, GREY[0], text) for text in ("go", ""))
    assert (going[0] == still[0]).all() and (going[2] != still[2]).any()
    drawn: dict[str, list] = {}
    for text in ("go", ""):
        monkeypatch.setattr(
            sweep, "_real", lambda model, actions, seed, text=text: (GREY[0], text, [{}] * len(actions))
        )
        monkeypatch.setattr(sweep, "_draw", lambda path, rows, text=text: drawn.update({text: rows}))
        sweep.sweep(tmp_path / "sweep.png", instructed, 0)
    frames = {text: rows[5][1][3] for text, rows in drawn.items()}  # no action, four steps on
    assert (frames[""] == 138).all() and frames["go"].max() < 138
