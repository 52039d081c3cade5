"""A run's policy in MuJoCo: it does what it would about what its world model reads from the frames, and noise."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from procosm.agents.policy.learners import new_learner
from procosm.agents.policy.train import PolicyConfig
from procosm.agents.policy.worlds import dreams
from procosm.envs.collect.policies import Smooth
from procosm.envs.collect.policy_file import load_policy, save_learner
from procosm.envs.collect.run_policy import RunPolicy, observation_of
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import TaskError


@pytest.fixture(scope="module")
def run(tiny_checkpoint, tmp_path_factory) -> Path:
    """A run folder with an untrained world model, and an untrained policy of its state."""
    folder = tmp_path_factory.mktemp("acting")
    shutil.copytree(tiny_checkpoint, folder / "world_model")
    model = load(folder / "world_model")
    config = PolicyConfig(folder / "world_model", folder / "policy", observation="state", dreams=4, width=16)
    save_learner(new_learner(config, dreams(model, 4, "state", 4, 0.99), model), folder / "policy" / "policy.zip")
    return folder


def test_it_acts_on_what_the_world_model_reads_and_noise_is_added(run):
    model, frames = load(run / "world_model"), np.random.default_rng(3).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    behaviour, noise = RunPolicy(run, model.task), Smooth(model.task)
    behaviour.begin(np.random.default_rng(5))
    noise.begin(np.random.default_rng(5))
    context = model.starts.shape[1]
    for step in range(4):
        past = np.stack([frames[max(0, step - context + 1 + i)] for i in range(context)])
        seen = model.read("state", model.encode(past)[None]).numpy()
        expected = load_policy(run / "policy" / "policy.zip").predict(seen[0], deterministic=True)[0] + noise.away()
        found = behaviour.act(np.zeros(4), lambda step=step: frames[step])
        np.testing.assert_allclose(found, np.clip(expected, -3, 3), rtol=1e-4, atol=1e-4)


def test_a_new_episode_forgets_the_frames_before(run):
    task, frames = load(run / "world_model").task, np.random.default_rng(4).integers(0, 256, (2, 64, 64, 3), np.uint8)
    behaviour = RunPolicy(run, task)
    found = []
    for _ in range(2):
        behaviour.begin(np.random.default_rng(0))
        found.append([behaviour.act(np.zeros(4), lambda i=i: frames[i]) for i in range(2)])
    np.testing.assert_array_equal(*found)


def test_what_a_policy_sees_is_told_by_its_shape(run):
    model = load(run / "world_model")
    shapes = {(4,): "state", tuple(model.starts.shape[1:]): "latent", (64, 64, 9): "pixels", (9, 64, 64): "pixels"}
    assert {shape: observation_of(shape, model) for shape in shapes} == shapes
    with pytest.raises(TaskError, match=r"observes \(7,\)"):
        observation_of((7,), model)
    other = dataclasses.replace(model.task, action_low=(-1.0,))
    with pytest.raises(TaskError, match="acts on InvertedPendulum-v5"):
        RunPolicy(run, other)
