"""Post-training: what is shared goes on from the old weights, what is new begins anew, the folder opens by itself."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.world_model import checkpoint
from procosm.world_model.conditioning.rays import CameraConfig
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.data.task import MAIN, Task, View
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_tensors
from procosm.world_model.settings import SettingsError
from procosm.world_model.sparsity import sparse_layers, sparsify
from procosm.world_model.training.post import PostTrainConfig, continued, post_train
from procosm.world_model.training.presets import preset
from tests.conftest import restless_model, simulated_task

SIDE = 32
STAGES = {name: replace(stage, steps=2) for name, stage in preset("debug").stages.items() if name != "tokenizer"}


def task_of(actions: int, state_size: int = 4, name: str = "Old-v0") -> Task:
    return simulated_task(name, SIDE, state_size, actions=actions)


def write_log(folder: Path, task: Task, steps: int = 8) -> Path:
    """Random pictures, actions and states: what is learned from them does not matter here."""
    generator = np.random.default_rng(0)

    def episode(kind: str) -> Episode:
        signals = {"state": (steps + 1, task.state_size), "reward": (steps,)}
        return Episode(
            frames=generator.integers(0, 256, (steps + 1, *task.frame_shape), np.uint8),
            actions=generator.uniform(-1, 1, (steps, len(task.action_low))).astype(np.float32),
            terminated=False,
            kind=kind,
            signals={name: generator.normal(size=shape).astype(np.float32) for name, shape in signals.items()},
        )

    write_dataset(folder, task, [(episode(kind), None) for kind in ("train", "train", "holdout")], {}, None)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return checkpoint.save(tmp_path_factory.mktemp("old") / "world_model", restless_model(task_of(actions=2)))


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """Of another robot: other states, one action more."""
    return write_log(tmp_path_factory.mktemp("new") / "data", task_of(3, state_size=6, name="New-v0"))


def test_dynamics_for_more_actions_move_as_before_where_the_new_ones_do_nothing(base):
    old = checkpoint.load(base)
    task = task_of(actions=3)
    _, dynamics, new = continued(old, task)
    assert all(name.startswith(("state_head", "outcome_head")) for name in new), new
    context = torch.randn(5, old.dynamics.context, *old.tokenizer.spec.shape)
    actions = torch.rand(5, old.dynamics.context, 2) * 2 - 1
    more = torch.cat([actions, torch.rand(5, old.dynamics.context, 1)], dim=2)
    with torch.no_grad():
        assert torch.allclose(dynamics.advance(context, more), old.dynamics.advance(context, actions), atol=1e-5)
        # Of fewer actions those that are left are the first ones.
        _, fewer, _ = continued(old, task_of(actions=1))
        only_first = torch.cat([actions[..., :1], torch.zeros(5, old.dynamics.context, 1)], dim=2)
        kept = fewer.advance(context, actions[..., :1])
        assert torch.allclose(kept, old.dynamics.advance(context, only_first), atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_folder_opens_by_itself_and_the_base_stays_as_it_was(base, log, tmp_path, method):
    before = checkpoint.checksums(base)
    config = PostTrainConfig(base, log, tmp_path / "world_model", method=method, lora_rank=2)
    folder = post_train(config, STAGES)
    assert checkpoint.checksums(base) == before
    model = checkpoint.load(folder)
    assert model.task.id == "New-v0" and model.conditions == {"actions"}
    assert model.provenance["base"]["sha256"] == before
    env = gym.make("procosm.envs:Procosm/World-v0", checkpoint=str(folder))
    assert env.action_space.shape == (3,) and env.reset(seed=0)[1]["state"].shape == (6,)
    env.step(env.action_space.sample())
    assert bool(read_tensors(folder / "adapter.safetensors")) == (method == "lora")
    trained, whole = (model.metrics["trained"][key] for key in ("trained", "dense"))
    assert trained < whole if method == "lora" else trained == whole


def test_an_adapter_is_all_that_differs_from_the_base(base, log, tmp_path):
    folder = post_train(PostTrainConfig(base, log, tmp_path / "model", method="lora", lora_rank=2), STAGES)
    adapter, old = read_tensors(folder / "adapter.safetensors"), checkpoint.load(base).dynamics.state_dict()
    for name, tensor in checkpoint.load(folder).dynamics.state_dict().items():
        layer = name.removesuffix(".weight")
        if f"{layer}.up" in adapter:
            update = 16 / 2 * adapter[f"{layer}.up"] @ adapter[f"{layer}.down"]
            assert torch.equal(tensor, old[name] + update) and bool(update.abs().max() > 0), name
        else:
            assert torch.equal(tensor, adapter.get(name, old.get(name, tensor + 1))), name
    frozen = [name for name in old if name.startswith(("net.patch", "net.time")) or "modulate" in name]
    assert frozen and not set(frozen) & set(adapter)


def test_a_block_sparse_base_stays_as_sparse(log, tmp_path):
    model = restless_model(task_of(actions=2))
    torch.manual_seed(0)
    sparsify(model.dynamics, 0.5, 16, model.dynamics.stay_dense)
    base = checkpoint.save(tmp_path / "old", model)
    thin = {name: layer.kept() for name, layer in sparse_layers(model.dynamics).items()}
    for method in ("full", "lora"):
        config = PostTrainConfig(base, log, tmp_path / method, method=method, lora_rank=2)
        made = sparse_layers(checkpoint.load(post_train(config, STAGES)).dynamics)
        assert made.keys() == thin.keys() and all(torch.equal(made[name].kept(), thin[name]) for name in thin)
        assert any(not torch.equal(made[name].values, sparse_layers(model.dynamics)[name].values) for name in thin)


def test_what_does_not_fit_is_refused_before_the_work(base, log, tmp_path):
    larger = replace(task_of(2), views=(View(MAIN, 64, 64),))
    with pytest.raises(ProcosmError, match="frames of 64 by 64 pixels, and the base knows 32 by 32"):
        continued(checkpoint.load(base), larger)
    with pytest.raises(SettingsError, match="--preset huge: dynamics of the kind diffusion have debug"):
        post_train(PostTrainConfig(base, log, tmp_path / "out", preset="huge"))
    with pytest.raises(SettingsError, match="no smell can be added to such dynamics"):
        post_train(PostTrainConfig(base, log, tmp_path / "out", add=("smell",)), STAGES)
    with pytest.raises(ProcosmError, match="lie one in the other"):
        post_train(PostTrainConfig(base, log, base / "new"))


def test_rays_go_by_the_seconds_of_a_step_of_the_new_log():
    slow = replace(task_of(actions=6), dt_s=0.1)
    old = restless_model(slow, change=lambda config: replace(config, camera=CameraConfig(70.0, slow.dt_s)))
    _, dynamics, _ = continued(old, replace(slow, dt_s=0.02))
    assert dynamics.config.camera == CameraConfig(70.0, 0.02)
