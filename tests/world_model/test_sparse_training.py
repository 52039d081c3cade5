"""Training a world model with block-sparse layers: from the first step, through every stage, in the checkpoint."""

import json
import re
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from procosm.sparse import baselines
from procosm.sparse.nn import BlockWeight
from procosm.world_model import checkpoint, registry, sparsity
from procosm.world_model.data.episodes import Episode, load_episodes, load_task, write_dataset
from procosm.world_model.data.windows import tabulate
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_tensors
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.training import blocks, stage
from procosm.world_model.training.presets import preset
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.stage import Optimizer, StageConfig, rate, run_stage
from procosm.world_model.training.train import TrainConfig, sparsifier, train
from tests.conftest import simulated_task

DENSITY, BLOCK = 0.25, 16


def episode(seed: int, steps: int, kind: str) -> tuple[Episode, np.ndarray]:
    """A square that an action drives to and fro over a grey ground."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (1 if kind == "constant" else steps, 1)).repeat(steps if kind == "constant" else 1, 0)
    place = 28 + 4 * np.append(0.0, np.cumsum(actions))
    frames = np.full((steps + 1, 64, 64, 3), 90, np.uint8)
    for frame, x in zip(frames, place.clip(0, 56).round().astype(int), strict=True):
        frame[28:36, x : x + 8] = 220
    states = np.stack([place / 64, np.append(0.0, actions[:, 0])], 1).astype(np.float32)
    rewards = -np.abs(actions[:, 0]).astype(np.float32)
    signals = {"state": states, "reward": rewards}
    return Episode(frames, actions.astype(np.float32), seed == 0, kind, signals=signals), np.zeros((steps + 1, 4))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A dataset on disk as `procosm collect` writes one, without MuJoCo."""
    task = simulated_task("InvertedPendulum-v5", 64, 2, max_episode_steps=50)
    kinds = ["train"] * 4 + ["holdout"] * 2 + ["constant"] * 2
    path = tmp_path_factory.mktemp("run") / "data"
    episodes = (episode(seed, 10, kind) for seed, kind in enumerate(kinds))
    write_dataset(path, task, episodes, {"seed": 0}, gym.spec("InvertedPendulum-v5").to_json())
    return path


def run(data: Path, out: Path, density: float = DENSITY) -> Path:
    settings = {"density": density, "tokenizer_density": density, "block": BLOCK}
    return train(TrainConfig(data=data, out=out, preset="debug", **settings))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> tuple[Path, checkpoint.WorldModel]:
    """A sparse checkpoint, and the model in memory that it was written from."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            checkpoint, "save", lambda out, model, save=checkpoint.save: kept.append(model) or save(out, model)
        )
        return run(data, tmp_path_factory.mktemp("sparse") / "world_model"), kept[0]


@pytest.fixture(scope="module")
def dense(data, tmp_path_factory) -> Path:
    return run(data, tmp_path_factory.mktemp("dense") / "world_model", density=1.0)


def sparse_layers(module: nn.Module) -> dict[str, BlockWeight]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, BlockWeight)}


def test_only_inner_layers_are_sparse_and_all_of_those(trained):
    model = checkpoint.load(trained[0])
    inner = {"net.blocks.0.attention.qkv", "net.blocks.0.attention.out", "net.blocks.0.mlp.0", "net.blocks.0.mlp.2"}
    assert set(sparse_layers(model.dynamics)) == inner
    # 16 x 48 attention has three blocks, a quarter of which is less than one; the first 8 channels do not divide.
    convs = {f"{side}.conv{i}.space.conv" for side in ("encoder.2", "encoder.4") for i in (1, 2)}
    convs |= {f"{side}.conv{i}.space.conv" for side in ("decoder.1", "decoder.3") for i in (1, 2)}
    assert set(sparse_layers(model.tokenizer)) == convs


def test_a_tokenizer_keeps_whole_what_nothing_bypasses_and_what_is_narrow():
    """Of preset small: sparse are the four residual blocks of 64 channels and the attention between them, no other."""
    torch.manual_seed(0)
    tokenizer = CausalTokenizer(preset("small").tokenizer)
    sparsity.sparsify(tokenizer, 0.1, BLOCK, tokenizer.stay_dense)
    found = {".".join(name.split(".")[:2]) for name in sparse_layers(tokenizer)}
    assert found == {f"encoder.{i}" for i in (3, 4, 5)} | {f"decoder.{i}" for i in (1, 2, 3)}
    assert len(sparse_layers(tokenizer)) == 4 * 2 + 2 * 2


def test_density_alone_leaves_the_tokenizer_as_the_dense_run_has_it(data, dense, tmp_path, capsys):
    """To the bit; and what is said of the weights is what the files hold."""
    folder = train(TrainConfig(data=data, out=tmp_path / "world_model", preset="debug", density=DENSITY, block=BLOCK))
    ours, theirs = (read_tensors(f / "tokenizer.safetensors") for f in (folder, dense))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    ours, theirs = (checkpoint.load(f).dynamics for f in (folder, dense))
    counts = json.loads((folder / "metrics.json").read_text())["weights"]
    live = sum(layer.values.numel() for layer in sparse_layers(ours).values())
    everything = sum(p.numel() for p in theirs.parameters())
    assert counts["dynamics"]["live"] == live == pytest.approx(DENSITY * counts["dynamics"]["whole"], rel=0.1)
    assert counts["dynamics"]["whole"] + counts["dynamics"]["dense"] == everything
    assert counts["dynamics"]["live"] + counts["dynamics"]["dense"] == sum(p.numel() for p in ours.parameters())
    assert counts["tokenizer"]["live"] == counts["tokenizer"]["whole"] == 0
    share = (live + counts["dynamics"]["dense"]) / everything
    told = capsys.readouterr().err.replace(",", "")
    assert re.search(rf"^dynamics +{live} of +{counts['dynamics']['whole']} .* {share:.1%}$", told, re.MULTILINE)
    assert re.search(r"^tokenizer +0 of +0 .* 100.0%$", told, re.MULTILINE)


def test_blocks_are_chosen_told_and_kept(data, tmp_path, capsys, monkeypatch):
    """Of preset debug only blocks of 16 fit; provenance says what was chosen, and resuming times nothing."""
    config = TrainConfig(data=data, out=tmp_path / "world_model", preset="debug", density=DENSITY)
    folder = train(config)
    told = capsys.readouterr().err
    assert re.search(
        r"^dynamics: density 0.25 in blocks of 16 trains \d\.\d\d times as fast as dense", told, re.MULTILINE
    )
    assert json.loads((folder / "provenance.json").read_text())["blocks"] == {"dynamics": 16}
    assert {layer.block for layer in sparse_layers(checkpoint.load(folder).dynamics).values()} == {16}
    monkeypatch.setattr(blocks, "_choose", lambda *_: pytest.fail("timed again"))
    train(config)
    assert "dynamics: blocks of 16, as training began" in capsys.readouterr().err


def test_the_checkpoint_holds_live_blocks_and_nothing_else(trained, dense):
    folder, model = trained
    for name, module in (("tokenizer", model.tokenizer), ("dynamics", model.dynamics)):
        tensors, whole = (read_tensors(f / f"{name}.safetensors") for f in (folder, dense))
        layers_ = sparse_layers(module)
        grid = sum(whole[f"{key}.weight"].numel() for key in layers_) // BLOCK**2
        stored = 0
        for key in layers_:
            n = len(tensors[f"{key}.values"])
            assert tensors[f"{key}.values"].shape == (n, BLOCK, BLOCK)
            assert tensors[f"{key}.rows"].shape == tensors[f"{key}.cols"].shape == (n,)
            assert f"{key}.weight" not in tensors
            stored += n
        assert stored == pytest.approx(DENSITY * grid, rel=0.15)  # a whole number of blocks in each small layer
        saved = (folder / f"{name}.safetensors").stat().st_size
        assert saved < (dense / f"{name}.safetensors").stat().st_size - 0.7 * grid * BLOCK**2 * 4


def test_a_loaded_model_dreams_as_the_one_in_memory(trained):
    folder, ours = trained
    theirs = checkpoint.load(folder)
    assert all(layer.capacity == max(layer.live_blocks, 1) for layer in sparse_layers(theirs.dynamics).values())
    dreams = []
    for model in (ours, theirs):
        memory, action = model.dynamics.begin(model.starts[:6]), torch.linspace(-2, 2, 6)[:, None]
        for _ in range(4):
            memory, prediction = model.dynamics.step(memory, action)
        latents = prediction.latents
        dreams.append((latents, *prediction.readouts.values(), model.tokenizer.decode(latents[:, None])))
    assert all(torch.equal(a, b) for a, b in zip(*dreams, strict=True))
    assert torch.isfinite(dreams[0][0]).all()


def test_the_unrolled_stage_keeps_the_pattern(trained):
    """And the stage before it changes the one that training begins with."""
    folder, _ = trained
    last = read_tensors(folder.with_name("world_model.training") / "diffusion.safetensors")
    ours = read_tensors(folder / "dynamics.safetensors")
    torch.manual_seed(0)
    sizes = preset("debug")
    tokenizer, dynamics = registry.untrained(checkpoint.load(folder).task, sizes.tokenizer, sizes.dynamics)
    for module in (tokenizer, dynamics):
        sparsity.sparsify(module, DENSITY, BLOCK, module.stay_dense)
    first = dynamics.state_dict()
    places = [key for key in ours if key.endswith((".rows", ".cols"))]
    assert places and all(torch.equal(ours[key], last[f"model.{key}"]) for key in places)
    assert not all(torch.equal(ours[key], first[key]) for key in places)


class Stopped(Exception):
    """Stands for a kill."""


def test_stopped_in_every_stage_it_ends_as_if_nothing_had_happened(data, trained, tmp_path, monkeypatch):
    """Stops 20-step stages in step 13, the 10-step one in step 7: after a save, and after a change of the pattern."""
    out, real = tmp_path / "part", stage.Optimizer.step
    places = {"tokenizer": 13, "state_head": 7 + 13, "manifold": 7 + 13, "diffusion": 7 + 13, "unroll-0": 7 + 7}
    monkeypatch.setattr(stage, "SAVE_SECONDS", 0.0)
    # Steps that are timed beforehand are of no stage, and would be counted.
    monkeypatch.setattr(blocks, "_choose", lambda *_: {"block": BLOCK, "gain": 1.0})
    for name, at in places.items():
        steps = 0

        def stop(self, learning_rate: float, at: int = at) -> None:
            nonlocal steps
            steps += 1
            if steps > at:
                raise Stopped
            real(self, learning_rate)

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(stage.Optimizer, "step", stop)
            run(data, out)
        saved = read_tensors(tmp_path / "part.training" / f"{name}.safetensors")
        assert any(key.startswith("sparsifier.probe.") for key in saved) == (name in ("tokenizer", "diffusion"))
    run(data, out)
    for name in ("tokenizer", "dynamics", "starts"):
        ours, theirs = (read_tensors(folder / f"{name}.safetensors") for folder in (out, trained[0]))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


SETTINGS = {  # of each method, such that a few steps change the pattern, and that saves fall between two probes
    "procrustes": {"update_every": 8, "probe_every": 2, "horizon": 1e4},
    "rigl": {"update_every": 8},
    "set": {"update_every": 8},
    "static": {},
}


@pytest.mark.parametrize("method", SETTINGS)
def test_a_stage_resumes_to_the_bit_with_every_method(method, tmp_path, monkeypatch):
    """And only ``static`` keeps its first pattern."""
    monkeypatch.setattr(stage, "SAVE_SECONDS", 0.0)
    config = StageConfig(steps=24, batch=8, learning_rate=1e-1)

    def make(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> baselines.Sparsifier:
        return baselines.make(method, module, optimizer, density=DENSITY, **SETTINGS[method])

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))
        sparsity.sparsify(model, DENSITY, BLOCK)
        return model

    def losses_of(model: nn.Module, stop_at: int | None = None):
        def losses(step: int):
            if step == stop_at:
                raise Stopped
            g = torch.Generator().manual_seed(step)
            loss = (model(torch.randn(32, 64, generator=g)) - 1.0).square().mean()
            return loss, {"loss": loss.detach()}

        return losses

    whole, part, again = fresh(), fresh(), fresh()
    first = [layer.kept() for layer in sparse_layers(whole).values()]
    expected = run_stage("whole", whole, losses_of(whole), config, tmp_path / "whole.safetensors", make)
    with pytest.raises(Stopped):
        run_stage("part", part, losses_of(part, stop_at=14), config, tmp_path / "part.safetensors", make)
    shutil.copy(tmp_path / "part.safetensors", tmp_path / "stopped.safetensors")
    assert run_stage("part", again, losses_of(again), config, tmp_path / "part.safetensors", make) == expected
    if method == "procrustes":
        assert int(read_tensors(tmp_path / "stopped.safetensors")["sparsifier.probe_count"]) == 2  # of steps 10 and 12
    ours, theirs = again.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    last = [layer.kept() for layer in sparse_layers(whole).values()]
    assert all(map(torch.equal, first, last)) == (method == "static")
    assert sum(int(k.sum()) for k in last) == pytest.approx(DENSITY * 24, abs=1)


def test_a_dense_stage_is_the_plain_loop(tmp_path):
    """Against AdamW, clipping and the schedule written out, to the bit."""
    config = StageConfig(steps=12, batch=4, learning_rate=1e-2)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)))
    batch = torch.randn(12, 4, 3, generator=torch.Generator().manual_seed(1))

    def losses(step: int):
        return models[0](batch[step]).square().mean(), {}

    run_stage("dense", models[0], losses, config, tmp_path / "dense.safetensors")
    adam = torch.optim.AdamW(models[1].parameters(), betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True)
    for step in range(config.steps):
        adam.zero_grad()
        models[1](batch[step]).square().mean().backward()
        nn.utils.clip_grad_norm_(models[1].parameters(), 1.0)
        adam.param_groups[0]["lr"] = rate(step, config)
        adam.step()
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_density_one_is_the_dense_model_to_the_bit(data, dense, tmp_path):
    """The first stage called directly, with no word of sparsity, ends with the same tokenizer."""
    sizes, task = preset("debug"), load_task(data)
    torch.manual_seed(0)
    tokenizer, dynamics = registry.untrained(task, sizes.tokenizer, sizes.dynamics)
    tables = {"train": tabulate(load_episodes(data), "train", dynamics.context)}
    sizes.stages["tokenizer"].run("tokenizer", Training(tokenizer, dynamics, tables, 0, tmp_path))
    stored = read_tensors(dense / "tokenizer.safetensors")
    ours = tokenizer.state_dict()
    assert ours.keys() == stored.keys() and all(torch.equal(ours[key], stored[key]) for key in ours)
    assert json.loads((dense / "config.json").read_text())["sparse"] == {"tokenizer": {}, "dynamics": {}}


def test_a_checkpoint_from_before_sparsity_opens(dense, tmp_path):
    folder = shutil.copytree(dense, tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    del config["sparse"]
    (folder / "config.json").write_text(json.dumps(config))
    assert not sparse_layers(checkpoint.load(folder).dynamics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda blocks: blocks.update(dict.fromkeys(blocks, 32)),
            r"\(1, 16, 16\), \(1, 32, 32\).*train again",
        ),
        (lambda blocks: blocks.update({"net.patch_in": 16}), "net.patch_in.cols is missing.*train again"),
        (lambda blocks: blocks.clear(), "does not fit its config.json"),
    ],
)
def test_a_checkpoint_whose_config_lies_is_an_error(trained, tmp_path, change, message):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    change(config["sparse"]["dynamics"])
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_each_method_is_reached_from_the_settings(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64))
    sparsity.sparsify(module, DENSITY, BLOCK)
    adam = torch.optim.AdamW(module.parameters())
    for method, kind in (("procrustes", "Procrustes"), ("rigl", "RigL"), ("set", "SET"), ("static", "Static")):
        make = sparsifier(TrainConfig(tmp_path, tmp_path, sparse_method=method), DENSITY)
        made = make(module, adam, 800)
        assert type(made).__name__ == kind and made.config.density == DENSITY
        if method != "static":
            assert [t for t in range(1, 800) if made.updates_at(t)] == [*range(64, 601, 64)]
    assert sparsifier(TrainConfig(tmp_path, tmp_path), 1.0) is None


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["density", "tokenizer_density"])
def test_a_density_that_is_none_is_refused_before_anything_is_read(name, density, tmp_path):
    with pytest.raises(ProcosmError, match=rf"--{name.replace('_', '-')} .* must be"):
        TrainConfig(data=tmp_path, out=tmp_path, **{name: density})


def test_blocks_that_fit_no_layer_say_what_to_do(data, tmp_path):
    with pytest.raises(ProcosmError, match="blocks of 16, a higher density or a wider preset"):
        train(TrainConfig(data=data, out=tmp_path / "w", preset="debug", density=0.1, block=128))


def test_going_on_with_another_density_is_refused(data, dense):
    with pytest.raises(ProcosmError, match="begun with another model"):
        run(data, dense)


def test_values_keep_the_scale_of_activations():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(512, 512, bias=False))
    x = torch.randn(256, 512)
    before = wide(x).std().item()
    sparsity.sparsify(wide, 0.125, BLOCK)
    assert wide(x).std().item() == pytest.approx(before, rel=0.1)


def test_adam_moves_sparse_weights_faster_by_the_root_of_what_is_missing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    sparsity.sparsify(model, 0.25, BLOCK, ["0*"])
    optimizer = Optimizer(model, StageConfig(10, 4, 1e-3, weight_decay=0.0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.randn(8, 64)).square().sum().backward()
    optimizer.step(1e-3)
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    # Adam's first step is the learning rate wherever there is a gradient.
    assert moved == {
        "0.weight": pytest.approx(1e-3, rel=1e-3), "0.bias": pytest.approx(1e-3, rel=1e-3),
        "1.values": pytest.approx(2e-3, rel=1e-3), "1.bias": pytest.approx(1e-3, rel=1e-3),
    }  # fmt: skip
