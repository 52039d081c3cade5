"""DropBack on a network of CIFAR's size: VGG-S of the Procrustes paper, on digits scaled up to its 28 x 28 inputs.

    python -m procosm.benchmarks.sparse.dropback_vgg

At a quarter of VGG-S's width it asks whether 10 times fewer weights cost accuracy. At full width it trains all 15 M
weights at the published budget of 5.2 times fewer; the zeros it leaves are real masks for the accelerator model
(`procosm accelerator --network vgg-s --masks runs/dropback_vgg/full/dropback-seed0`). A killed run goes on from its
last save; what the result holds already is not trained again.
"""

import itertools
import json
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse import digits
from procosm.sparse.accelerator.workloads import network
from procosm.sparse.optimizer import DropBack, DropBackConfig
from procosm.sparse.quantile import QuantileConfig
from procosm.world_model import command
from procosm.world_model.files import read_tensors, write_tensors

NAME = "dropback_vgg"
RATE, SAVE_EVERY, IMAGE = 0.1, 20, 28


@dataclass(frozen=True)
class Trial:
    """One network and how it is trained: SGD without momentum, the rate a cosine from 0.1, products in bfloat16."""

    width: float
    """Channels of every hidden layer, relative to VGG-S."""
    density: float
    """Share of all weights that DropBack stores, biases and norms included."""
    arms: tuple[str, ...]
    """dense: plain SGD. literal: DropBack as published (digits.Literal). dropback: this library's, W0 regenerated and
    the threshold from a histogram."""
    seeds: int
    """Seeds 0, 1, ...: each has its own split and initial weights."""
    batch: int
    """Images a step."""
    steps: int


TRIALS = {
    "full": Trial(1.0, 1 / 5.2, ("dropback", "dense"), seeds=1, batch=32, steps=200),
    "quarter": Trial(0.25, 0.1, ("dense", "literal", "dropback"), seeds=3, batch=64, steps=260),
}


@dataclass(frozen=True)
class VggConfig(OnDevice):
    """What to train."""

    trials: tuple[Literal["full", "quarter"], ...] = ("full", "quarter")
    """full: the masks. quarter: the comparison over seeds."""
    out: Path = Path("runs/dropback_vgg")
    """Folder for the networks."""


def vgg_s(width: float) -> nn.Module:
    """VGG-S after the authors' layer table, norms and ReLUs added, pools where the table's images shrink.

    Images (b, 3, 28, 28); layers carry the table's names.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    side = IMAGE
    for layer in network("vgg-s").layers:
        assert layer.filters is not None  # none of them is depthwise
        before = layer.channels if layer.channels == 3 else round(layer.channels * width)
        after = layer.filters if layer.filters == 10 else round(layer.filters * width)
        if layer.height < side:
            modules[f"{layer.name}_pool"] = nn.MaxPool2d(2, ceil_mode=True)
            side = layer.height
        if layer.name == "FC1":
            modules["flat"] = nn.Flatten()
        linear = layer.name.startswith("FC")
        modules[layer.name] = nn.Linear(before, after) if linear else nn.Conv2d(before, after, 3, 1, 1, bias=False)
        if not linear:
            modules[f"{layer.name}_norm"] = nn.BatchNorm2d(after)
        if layer.name != "FC2":
            modules[f"{layer.name}_relu"] = nn.ReLU()
    return nn.Sequential(modules)


def task(trial: Trial) -> str:
    """How result rows name a trial's network."""
    return f"digits, vgg-s width {trial.width:g}"


def enlarged(images: Tensor) -> Tensor:
    """Digits (b, 1, 8, 8) as the network's input (b, 3, 28, 28), three equal channels."""
    return nn.functional.interpolate(images, IMAGE, mode="bilinear").expand(-1, 3, -1, -1)


def method(trial: Trial, arm: str, model: nn.Module, seed: int, done: int) -> tuple[Any, Callable[[], None], Any]:
    """(optimizer to step, what follows a step, weights stored in the end), as it stands after ``done`` steps."""
    plain = torch.optim.SGD(model.parameters(), RATE)
    if arm == "literal":
        published = digits.Literal(model, trial.density)
        for _ in range(done):
            published.shrink()
        return plain, published.after_step, lambda: published.k
    if arm == "dropback":
        settings = DropBackConfig(trial.density, seed=seed, quantile=QuantileConfig("histogram"))
        wrapper = DropBack(plain, model.named_parameters(), settings)
        wrapper.steps = done
        return wrapper, lambda: None, lambda: sum(int(p.count_nonzero()) for p in model.parameters())
    return plain, lambda: None, lambda: sum(p.numel() for p in model.parameters())


def train(trial: Trial, arm: str, seed: int, path: Path, device: torch.device = digits.CPU) -> dict[str, Any]:
    """Train one network, or go on where the file at ``path`` was left; returns its row."""
    images, labels, test_images, test_labels = (each.to(device) for each in digits.digits(seed))
    torch.manual_seed(seed)
    model = vgg_s(trial.width).to(device)
    saved = read_tensors(path) if path.exists() else {}
    done = int(saved.pop("steps_done", 0))
    optimizer, after, count = method(trial, arm, model, seed, done)
    if saved:
        model.load_state_dict(saved)
    bar = tqdm(range(done, trial.steps), desc=path.parent.name, initial=done, total=trial.steps, unit="step")
    for step in bar:
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / trial.steps))
        rows = digits.batch_of(step, trial.batch, seed).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            scores = model(enlarged(images[rows]).contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(scores.float(), labels[rows])
        if not torch.isfinite(loss):
            raise RuntimeError(f"{path.parent}: the loss is not finite at step {step}")
        loss.backward()
        optimizer.step()
        after()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == trial.steps:
            write_tensors(path, {**model.state_dict(), "steps_done": torch.tensor(step + 1)})
    if isinstance(optimizer, DropBack):
        forget(model, optimizer)
        write_tensors(path, {**model.state_dict(), "steps_done": torch.tensor(trial.steps)})
    return {
        "metric": "accuracy", "task": task(trial), "unit": "share", "seed": seed,
        "value": digits.accuracy(model, enlarged(test_images), test_labels), "arm": arm, "optimizer": "sgd",
        "density": 1.0 if arm == "dense" else trial.density, "weights": count(),
        "dense_weights": sum(p.numel() for p in model.parameters()), "batch": trial.batch, "steps": trial.steps,
    }  # fmt: skip


@torch.no_grad()
def forget(model: nn.Module, optimizer: DropBack) -> None:
    """Set what is not tracked to zero: d_t W0 is negligible by now (d_200 = 7e-10) and storage has none of it."""
    parameters = dict(model.named_parameters())
    for name, mask in optimizer.tracked().items():
        parameters[name].mul_(mask)


def trained(run: Path, seed: int = 0) -> tuple[nn.Module, tuple[Tensor]]:
    """The full-width network of a run's folder and 64 of its held-out images, for tools that trace a model."""
    model = vgg_s(1.0)
    tensors = read_tensors(run / "network.safetensors")
    tensors.pop("steps_done")
    model.load_state_dict(tensors)
    return model, (enlarged(digits.digits(seed)[2][:64]),)


def main(config: VggConfig) -> None:
    """Train what the results do not hold yet, record after every run, sum up."""
    path = RESULTS / f"{NAME}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = [row for row in rows if row["metric"] == "accuracy"]
    done = {(row["task"], row["arm"], row["seed"]) for row in rows}
    for name in config.trials:
        trial = TRIALS[name]
        for seed, arm in itertools.product(range(trial.seeds), trial.arms):
            if (task(trial), arm, seed) not in done:
                network_path = config.out / name / f"{arm}-seed{seed}" / "network.safetensors"
                rows.append(train(trial, arm, seed, network_path))
                record(NAME, rows + digits.summary(rows))
    digits.show(digits.summary(rows))


if __name__ == "__main__":
    command.main(main, VggConfig)
