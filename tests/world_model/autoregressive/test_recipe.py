"""From a log to dreams that are made of tokens: `procosm train --family autoregressive`."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model.autoregressive.dynamics import AutoregressiveDynamics
from procosm.world_model.checkpoint import load
from procosm.world_model.settings import SettingsError
from procosm.world_model.sparsity import sparse_layers
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig, train

DEBUG = preset("debug", dynamics="autoregressive")
BRIEF = DEBUG.with_stage("tokenizer", steps=3).with_stage("state_head", steps=3).with_stage("tokens", steps=6)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return collect(CollectConfig(env="InvertedPendulum", out=tmp_path_factory.mktemp("run"), steps=120, processes=1))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    return train(asked(data, tmp_path_factory.mktemp("whole")), BRIEF)


def asked(data: Path, folder: Path, **settings) -> TrainConfig:
    return TrainConfig(data=data, out=folder / "world_model", preset="debug", family="autoregressive", **settings)


def test_the_checkpoint_is_of_tokens_and_says_how_it_was_trained(trained):
    model = load(trained)
    assert isinstance(model.dynamics, AutoregressiveDynamics) and model.tokenizer.spec.vocabulary == 1000
    assert model.capabilities == {"reward", "termination", "state"}
    assert set(model.metrics) >= {"tokenizer", "state_head", "tokens", "open_loop"}
    assert set(model.metrics["tokens"]) == {"nll", "right", "drafts_right", "reward", "end", "loss"}


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_a_batch_of_dreams_is_as_many_single_ones_and_begins_again_one_by_one(trained, mode):
    settings = {"checkpoint": str(trained), "denoising_steps": 2, "observation": ("pixels", "state")}
    batch = gym.make_vec("procosm.envs:Procosm/World-v0", 2, autoreset_mode=mode, max_episode_steps=2, **settings)
    single = gym.make("procosm.envs:Procosm/World-v0", max_episode_steps=2, **settings)
    for _ in range(2):  # the same seed, the same dream
        seen, many = single.reset(seed=8)[0], batch.reset(seed=7)[0]
        for step in range(2):
            seen, reward, ended, cut, _ = single.step(np.float32([1.0]))
            many, rewards, ends, cuts, infos = batch.step(np.float32([[-1.0], [1.0]]))
            last = mode == "SAME_STEP" and (ends | cuts)[1]
            there = infos["final_obs"][1] if last else {name: value[1] for name, value in many.items()}
            assert np.array_equal(there["pixels"], seen["pixels"]) and rewards[1] == pytest.approx(reward, abs=1e-4)
            assert (ends[1], cuts[1]) == (ended, cut) and cut == (step == 1)
    single.close()
    batch.close()


def test_stopped_in_the_stage_of_tokens_it_ends_as_if_nothing_had_happened(data, trained, tmp_path, monkeypatch):
    whole, calls = AutoregressiveDynamics.loss, []

    def stopped(self, batch, generator):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self, batch, generator)

    monkeypatch.setattr(AutoregressiveDynamics, "loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(asked(data, tmp_path), BRIEF)
    again = load(train(asked(data, tmp_path), BRIEF))
    assert len(calls) == 6
    for name, tensor in load(trained).dynamics.state_dict().items():
        assert torch.equal(tensor, again.dynamics.state_dict()[name]), name


def test_attention_and_mlps_may_be_block_sparse(data, tmp_path):
    sizes = replace(BRIEF, dynamics=replace(BRIEF.dynamics, transformer=replace(BRIEF.dynamics.transformer, width=64)))
    model = load(train(asked(data, tmp_path, density=0.5, block=16), sizes))
    thin = sparse_layers(model.dynamics)
    assert {name.split(".")[-1] for name in thin} == {"q", "kv", "out", "gate_and_up", "down"}
    assert all(layer.live_blocks < layer.padded[0] * layer.padded[1] / 16**2 for layer in thin.values())


def test_a_size_that_the_family_does_not_come_in_is_refused_by_name():
    with pytest.raises(SettingsError, match="no preset is called 'wide': choose one of debug, small, base"):
        preset("wide", dynamics="autoregressive")
