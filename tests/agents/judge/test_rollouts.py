"""Episodes in MuJoCo and in the dream, against plain Gymnasium, the single-env wrapper, and SB3's own loop."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy

from procosm.agents.judge import rollouts
from procosm.agents.judge.evaluate import trained_player
from procosm.agents.judge.rollouts import SLOTS, Player, dreams_from, eyes_of, open_policy, play_dreams, play_truth
from procosm.agents.policy.worlds import judged, truth
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.dreams.starts import _say_that_starts_are_wide
from procosm.world_model.checkpoint import load
from procosm.world_model.conditioning.text import TextConfig
from procosm.world_model.errors import ProcosmError
from tests.conftest import restless_model, simulated_task


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
    found = play_dreams(player, frames)
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
