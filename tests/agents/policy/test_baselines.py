"""Baselines: what each learns from, that shuffling shuffles, and that cloning clones."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from procosm.agents.judge.rollouts import eyes_of
from procosm.agents.policy.baselines import logged
from procosm.agents.policy.baselines.cloning import clone
from procosm.agents.policy.baselines.logged import Logged
from procosm.agents.policy.baselines.offline import memory
from procosm.agents.policy.baselines.shuffled import Shuffled
from procosm.agents.policy.worlds import dreams
from procosm.world_model.checkpoint import load
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.errors import ProcosmError


def test_cloning_recovers_a_linear_policy_from_what_it_did():
    gain = np.array([0.5, -0.3, 0.8, 0.2], np.float32)
    seen = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    actions = (seen @ gain)[:, None]
    policy = PPO("MlpPolicy", gym.make("InvertedPendulum-v5"), seed=0).policy
    before = policy.predict(seen[2500:], deterministic=True)[0]
    clone(policy, torch.from_numpy(seen[:2500]), torch.from_numpy(actions[:2500]), 500, seed=0, learning_rate=1e-3)
    after = policy.predict(seen[2500:], deterministic=True)[0]
    left = [np.square(acted - actions[2500:]).mean() / actions[2500:].var() for acted in (before, after)]
    assert left[0] > 0.9 and left[1] < 0.01, "the share of the variance of new actions that is not explained"


def test_every_dream_takes_the_action_of_another(linear_world):
    env = Shuffled(dreams(linear_world, 5, "latent", 7, 0.99))
    env.seed(3)
    seen = env.reset()
    chosen = np.array([[0.05], [-0.1], [0.2], [0.15], [-0.2]], np.float32)
    orders = set()
    for _ in range(4):
        before, (seen, *_) = seen[:, -1], env.step(chosen)
        taken = ((seen[:, -1] - 0.9 * before) / np.float32(0.5))[:, 0, 0, 0]  # z' = 0.9 z + B a, with 0.5 first in B
        order = np.abs(taken[:, None] - chosen[:, 0]).argmin(axis=1)
        assert np.allclose(taken, chosen[order, 0], atol=1e-5)
        assert sorted(order) == list(range(5)) and not (order == np.arange(5)).any()
        orders.add(tuple(order))
    assert len(orders) > 1, "another permutation each step"
    env.seed(3)
    again = env.reset()
    for _ in range(4):
        again, *_ = env.step(chosen)
    assert np.array_equal(again, seen), "the same seed shuffles alike"


def test_one_dream_cannot_be_shuffled(linear_world):
    with pytest.raises(ProcosmError, match="at least two"):
        Shuffled(dreams(linear_world, 1, "state", 7, 0.99))


def test_logged_transitions_are_seen_as_a_policy_sees_them(truth_checkpoint, pendulum_log, tmp_path):
    model, episodes = load(truth_checkpoint), load_episodes(pendulum_log)
    data = logged.see(model, episodes)
    bar = np.quantile([e.signals["reward"].sum() for e in episodes if e.kind != "constant"], 0.9)
    at = 0
    for kind in ("constant", "holdout", "train"):
        for episode in (e for e in episodes if e.kind == kind):
            eyes, slot = eyes_of("state", model, 1), np.arange(1)
            seen = [eyes.see(slot, frame[None], first=t == 0)[0] for t, frame in enumerate(episode.frames)]
            for t in range(model.dynamics.context - 1 if episode.wide else 0, len(episode.actions)):
                assert np.allclose(data.seen[at], seen[t], atol=1e-4)
                assert np.allclose(data.after[at], seen[t + 1], atol=1e-4)
                assert np.array_equal(data.actions[at], episode.actions[t])
                assert data.rewards[at] == episode.signals["reward"][t]
                assert data.ends[at] == (episode.terminated and t == len(episode.actions) - 1)
                assert data.best[at] == (kind != "constant" and episode.signals["reward"].sum() >= bar)
                at += 1
    assert at == len(data.seen) > 100 and 0 < data.best.sum() < at
    logged.write(tmp_path / "seen.safetensors", data)
    again = logged.read(tmp_path / "seen.safetensors")
    assert all(torch.equal(kept, each) for kept, each in zip(vars(again).values(), vars(data).values(), strict=True))


def test_sacs_memory_is_the_data():
    learner = SAC("MlpPolicy", gym.make("InvertedPendulum-v5"), buffer_size=10, seed=0)
    n = 50
    data = Logged(
        torch.arange(4 * n).view(n, 4).float(), torch.linspace(-3, 3, n)[:, None], torch.arange(n).float(),
        torch.arange(4 * n).view(n, 4).float() + 1, (torch.arange(n) % 7 == 0).float(), torch.ones(n),
    )  # fmt: skip
    drawn = memory(learner, data, scale=0.5).sample(400)
    row = (drawn.observations[:, 0] / 4).long()
    assert set(row.tolist()) == set(range(n)), "every transition, none beyond"
    assert torch.equal(drawn.next_observations, data.after[row])
    assert torch.allclose(drawn.actions * 3, data.actions[row], atol=1e-6)
    assert torch.equal(drawn.rewards[:, 0], data.rewards[row] * 0.5) and torch.equal(drawn.dones[:, 0], data.ends[row])
