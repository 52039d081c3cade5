"""Training on a device: on one that is none everywhere (tests.elsewhere), on a real one where there is one."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from procosm.world_model import precision, sparsity
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_tensors
from procosm.world_model.precision import bfloat16_pays, resolve_device
from procosm.world_model.training import stage
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.stage import StageConfig, run_stage
from procosm.world_model.training.train import TrainConfig, sparsifier, train
from tests.elsewhere import DEVICE, Elsewhere, Mismatch, elsewhere
from tests.world_model.test_sparse_training import data  # noqa: F401  (a fixture)

NO_GPU = not torch.cuda.is_available()


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """No bfloat16 on the CPU, so that devices differ by rounding of float32 alone."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)


def short(family: str) -> Preset:
    """Every stage of training in a few steps."""
    sizes = preset("debug", dynamics=family)
    for name in sizes.stages:
        sizes = sizes.with_stage(name, steps=4, batch=4, learning_rate=1e-3)
    return sizes


def trained(dataset: Path, out: Path, device: str, density: float, family: str = "diffusion") -> dict:
    """Metrics of a training, which every stage adds to."""
    config = TrainConfig(dataset, out, density=density, tokenizer_density=density, block=16, device=device)
    return json.loads((train(config, short(family)) / "metrics.json").read_text())


def flat(metrics: object, name: str = "") -> dict[str, float]:
    """Every number in nested metrics, by what leads to it."""
    if isinstance(metrics, dict | list):
        inner = metrics.items() if isinstance(metrics, dict) else enumerate(metrics)
        return {key: number for at, value in inner for key, number in flat(value, f"{name}.{at}").items()}
    return {name: float(metrics)} if isinstance(metrics, int | float) else {}


def assert_alike(ours: dict, theirs: dict, rel: float) -> None:
    ours, theirs = flat(ours), flat(theirs)
    assert ours.keys() == theirs.keys()
    assert ours == {key: pytest.approx(value, rel=rel, abs=rel) for key, value in theirs.items()}


# --- names of devices


def test_auto_is_a_device_that_is_there():
    assert resolve_device("auto").type == ("cpu" if NO_GPU else "cuda")
    assert resolve_device("cpu") == torch.device("cpu")
    with elsewhere():
        assert resolve_device("auto") == resolve_device("cuda") == resolve_device("cuda:0") == DEVICE
        with pytest.raises(ProcosmError, match="1 CUDA device"):
            resolve_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "mps", "", "meta"])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(ProcosmError, match="auto, cpu, cuda"):
        resolve_device(name)


@pytest.mark.skipif(not NO_GPU, reason="there is a device")
def test_a_device_that_is_missing_is_refused_before_any_work(tmp_path):
    with pytest.raises(ProcosmError, match="is not here"):
        TrainConfig(tmp_path / "none", tmp_path / "out", device="cuda")
    with pytest.raises(ProcosmError, match="is not here"):
        load(tmp_path / "none", "cuda:0")
    assert not list(tmp_path.iterdir())


# --- on a device that is none


def test_the_stand_in_device_refuses_to_mix():
    with elsewhere() as device:
        x = torch.randn(3).to(DEVICE, non_blocking=True)
        assert isinstance(x, Elsewhere) and x.device == DEVICE and not device.waits
        for mixed in (lambda: x + torch.randn(3), lambda: x[torch.arange(2)], lambda: torch.cat([x, torch.ones(1)])):
            with pytest.raises(Mismatch):
                mixed()
        assert float((x + 1).sum()) == pytest.approx(float(x.cpu().sum()) + 3, abs=1e-5)
        assert device.waits == ["_local_scalar_dense", "_to_copy"]


@pytest.mark.parametrize(
    "family, density",
    [("diffusion", 1.0), ("diffusion", 0.25), pytest.param("autoregressive", 0.5, marks=pytest.mark.slow)],
)
def test_every_stage_of_training_stays_on_its_device(data, tmp_path, family, density):  # noqa: F811
    here = trained(data, tmp_path / "here", "cpu", density, family)
    with elsewhere():
        there = trained(data, tmp_path / "there", "auto", density, family)
    assert_alike(there, here, 2e-3)
    model = load(tmp_path / "there")
    assert model.starts.device.type == "cpu" and model.provenance["device"] == "a device that is none"


def stage_of(device: torch.device, density: float = 1.0) -> tuple[nn.Module, object]:
    """A module on a device and the losses of a stage, with the CPU's random numbers."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))
    if density < 1:
        sparsity.sparsify(module, density, 16)
    module.to(device)

    def losses(step: int):
        x = torch.randn(32, 64, generator=torch.Generator().manual_seed(step))
        loss = (module(precision.sent(x, device)) - 1.0).square().mean()
        return loss, {"loss": loss.detach()}

    return module, losses


@pytest.mark.parametrize("density", [1.0, 0.25])
def test_a_step_waits_for_its_device_only_to_log(tmp_path, monkeypatch, density):
    monkeypatch.setattr(stage, "SAVE_SECONDS", 1e9)
    with elsewhere() as device:
        module, losses = stage_of(DEVICE, density)
        seen = []

        def counted(step: int):
            seen.append(len(device.waits))
            return losses(step)

        run_stage("s", module, counted, StageConfig(40, 4, 1e-3), tmp_path / "s.safetensors")
    waits = [after - before for before, after in pairwise(seen)]
    assert [step for step, count in enumerate(waits) if count] == [0, 20]


@pytest.mark.parametrize("density", [1.0, 0.25])
@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_a_stage_begun_on_one_device_goes_on_on_another(tmp_path, monkeypatch, density, first):
    monkeypatch.setattr(stage, "SAVE_SECONDS", 0.0)
    config, save = StageConfig(16, 4, 1e-2), tmp_path / "s.safetensors"
    make = sparsifier(TrainConfig(tmp_path, tmp_path, density=density), density)

    class Stopped(Exception):
        pass

    def part(name: str, stop_at: int | None) -> dict[str, float]:
        device = DEVICE if name == "cuda" else torch.device("cpu")
        module, losses = stage_of(device, density)

        def until(step: int):
            if step == stop_at:
                raise Stopped
            return losses(step)

        return run_stage("s", module, until, config, save, make)

    def on(name: str, stop_at: int | None = None) -> dict[str, float]:
        if name == "cpu":
            return part(name, stop_at)
        with elsewhere():
            return part(name, stop_at)

    expected = on("cpu")
    whole = read_tensors(save)
    save.unlink()
    with pytest.raises(Stopped):
        on(first, 12)
    assert int(read_tensors(save)["step"]) == 12
    found = on("cuda" if first == "cpu" else "cpu")
    assert found == {key: pytest.approx(value, rel=1e-4) for key, value in expected.items()}
    for key, value in read_tensors(save).items():
        assert torch.allclose(value.float(), whole[key].float(), atol=1e-4), key


def test_a_loss_that_is_not_finite_is_named_with_its_step_however_late_it_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SAVE_SECONDS", 1e9)
    save = tmp_path / "s.safetensors"
    with elsewhere():
        module, losses = stage_of(DEVICE)

        def spoilt(step: int):
            return losses(step)[0] * (float("nan") if step in (24, 26) else 1.0), {}

        with pytest.raises(ProcosmError, match="nan at step 24"):
            run_stage("s", module, spoilt, StageConfig(60, 4, 1e-3), save)
    assert not save.exists()


# --- on a real one


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("density", [1.0, 0.25])
def test_training_on_cuda_is_that_on_the_cpu_to_rounding(data, tmp_path, density, monkeypatch):  # noqa: F811
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert not bfloat16_pays(torch.device("cuda", 0))
    here, there = (trained(data, tmp_path / name, name, density) for name in ("cpu", "cuda"))
    assert_alike(there, here, 5e-3)


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("density", [1.0, 0.25])
def test_training_on_cuda_in_bfloat16_is_finite_and_opens_on_the_cpu(data, tmp_path, density):  # noqa: F811
    metrics = trained(data, tmp_path / "w", "cuda", density)
    assert all(torch.tensor(list(flat(metrics).values())).isfinite())
    model = load(tmp_path / "w")
    assert model.provenance["device"] == torch.cuda.get_device_name()
    assert load(tmp_path / "w", "cuda").starts.is_cuda and not model.starts.is_cuda


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("density", [1.0, 0.25])
def test_a_stage_begun_on_the_cpu_goes_on_on_cuda_and_back(tmp_path, monkeypatch, density):
    monkeypatch.setattr(stage, "SAVE_SECONDS", 0.0)
    config, save, expected = StageConfig(16, 4, 1e-2), tmp_path / "s.safetensors", None

    class Stopped(Exception):
        pass

    for plan in (["cpu"], ["cpu", "cuda", "cpu"], ["cuda", "cpu", "cuda"]):
        for i, name in enumerate(plan):
            module, losses = stage_of(torch.device(name), density)

            stop = 7 + 5 * i if i + 1 < len(plan) else None

            def until(step: int, losses=losses, stop=stop):
                if step == stop:
                    raise Stopped
                return losses(step)

            try:
                found = run_stage("s", module, until, config, save)
            except Stopped:
                continue
        save.unlink()
        expected = expected or found
        assert found == {key: pytest.approx(value, rel=1e-4) for key, value in expected.items()}
