"""DropBack on its own ground: a convolutional network with 10 times fewer weights at the accuracy of the dense one?

    python -m procosm.benchmarks.sparse.dropback_digits

Scikit-learn's digits, a network of 40 618 weights, a new split for every seed. Literal DropBack (the published form: a
clone of W0 that shrinks in place, torch.topk) beside this library's forms, and beside RigL, SET and a static random
pattern, which keep biases and norms besides their share of the weights. Runs that the result holds already are not
repeated. The same on a network of CIFAR's size: dropback_vgg.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse import digits
from procosm.sparse.baselines import make
from procosm.sparse.optimizer import DropBack, DropBackConfig
from procosm.sparse.quantile import Method, QuantileConfig
from procosm.world_model import command
from procosm.world_model.files import write_bytes
from procosm.world_model.settings import Count, Share

NAME = "dropback_digits"
BATCH = 64
RATES = {"sgd": 0.1, "adamw": 3e-3}
THRESHOLDS: tuple[Method, ...] = ("sort", "dumique", "histogram")
SWAPS = ("static", "set", "rigl", "procrustes")
STYLES = {
    "literal": ("DropBack as published", "#333333"), "dropback-histogram": ("DropBack, W0 regenerated", "#d9603b"),
    "procrustes": ("Procrustes, probed", "#f0b45b"), "rigl": ("RigL", "#33456b"), "set": ("SET", "#4f7cac"),
    "static": ("static random", "#9bc1d9"),
}  # fmt: skip
"""Arms of the curve over densities: label and colour."""


@dataclass(frozen=True)
class DigitsConfig(OnDevice):
    """How much to run."""

    seeds: Count = 5
    """Seeds at 10 % of the weights."""
    curve_seeds: Count = 3
    """Seeds at the other densities."""
    epochs: Count = 15
    """Passes over the training images; 20 steps each."""
    densities: tuple[Share, ...] = (0.3, 0.05, 0.03)
    """Densities of the curve besides 0.1 and 1."""


def network(seed: int) -> nn.Module:
    """Three convolutions and two linear layers, for images (b, 1, 8, 8)."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after, pool in ((1, 16, False), (16, 32, True), (32, 64, True)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] * pool
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))


def method_of(arm: str, model: nn.Module, base: torch.optim.Optimizer, density: float, steps: int, seed: int):
    """(optimizer to step, what to call before and after a step, weights that are stored in the end)."""
    everything = sum(p.numel() for p in model.parameters())
    if arm == "literal":
        literal = digits.Literal(model, density)
        return base, lambda step: None, lambda step: literal.after_step(), lambda: literal.k
    if arm.startswith("dropback"):
        form = arm.split("-")[1]
        config = DropBackConfig(
            density, seed=seed, quantile=QuantileConfig(next((t for t in THRESHOLDS if t == form), "sort")),
            moments="discard" if form == "discard" else "keep",
        )  # fmt: skip
        wrapper = DropBack(base, model.named_parameters(), config)
        stored: Callable[[], int] = lambda: sum(int(mask.sum()) for mask in wrapper.tracked().values())  # noqa: E731
        return wrapper, lambda step: None, lambda step: None, stored
    stop = {"stop_after": round(0.75 * steps)} if arm in ("set", "rigl", "procrustes") else {}
    every = {"update_every": 32} if arm in ("set", "rigl") else {}
    settings = {} if arm == "dense" else {"density": density, "seed": seed, **stop, **every}
    sparsifier = make(arm, model, base, **settings)
    free = everything - sum(w.parameter.numel() for w in sparsifier.weights)
    kept = lambda: free + sum(int(w.kept().sum()) for w in sparsifier.weights)  # noqa: E731
    return base, sparsifier.before_step, sparsifier.after_step, kept


def run(
    arm: str, optimizer: str, density: float, seed: int, epochs: int, device: torch.device = digits.CPU
) -> dict[str, Any]:
    """Train once, judge on the 500 images held out."""
    images, labels, test_images, test_labels = (each.to(device) for each in digits.digits(seed))
    model, steps = network(seed).to(device), epochs * (digits.TRAIN // BATCH)
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    base = kind(model.parameters(), RATES[optimizer])
    stepper, before, after, stored = method_of(arm, model, base, density, steps, seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
    for step in range(steps):
        rows = digits.batch_of(step, BATCH, seed).to(device)
        before(step)
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        if not torch.isfinite(loss):
            raise RuntimeError(f"{arm} at density {density}, seed {seed}: the loss is not finite at step {step}")
        loss.backward()
        stepper.step()
        after(step)
        stepper.zero_grad()
        schedule.step()
    return {
        "metric": "accuracy", "task": "digits", "value": digits.accuracy(model, test_images, test_labels),
        "unit": "share", "seed": seed, "arm": arm, "optimizer": optimizer, "density": density, "weights": stored(),
        "epochs": epochs,
    }  # fmt: skip


def plan(config: DigitsConfig) -> Iterator[tuple[str, str, float, int]]:
    """(arm, optimizer, density, seed) of every run: first what the figure shows, then the other forms and AdamW."""
    for seed in range(config.seeds):
        yield "dense", "sgd", 1.0, seed
        yield from ((arm, "sgd", 0.1, seed) for arm in STYLES)
    for seed in range(config.curve_seeds):
        yield from ((arm, "sgd", density, seed) for density in config.densities for arm in STYLES)
    for seed in range(config.seeds):
        yield from ((f"dropback-{form}", "sgd", 0.1, seed) for form in ("sort", "dumique"))
        yield "dense", "adamw", 1.0, seed
        yield from ((arm, "adamw", 0.1, seed) for arm in ("dropback-sort", "dropback-discard", *SWAPS))


def figure(rows: list[dict[str, Any]]) -> bytes:
    """Accuracy under SGD over the weights stored: every seed as a dot, means as lines, dense as a band; a PNG.

    Few seeds, some of which fail outright, have no symmetric interval that could be drawn.
    """
    import io

    from matplotlib.figure import Figure

    found = [m for m in rows if m["metric"] == "accuracy_mean" and m["optimizer"] == "sgd"]
    single = [m for m in rows if m["metric"] == "accuracy" and m["optimizer"] == "sgd"]
    picture = Figure(figsize=(7.5, 4.2), dpi=150, layout="constrained")
    axes = picture.subplots()
    dense = next(m for m in found if m["arm"] == "dense")
    axes.axhspan(100 * dense["low"], 100 * dense["high"], color="#d5d9e2", zorder=0)
    axes.axhline(100 * dense["value"], color="#333333", linewidth=1, zorder=1)
    for number, (arm, (label, colour)) in enumerate(STYLES.items()):
        points = sorted((m for m in found if m["arm"] == arm), key=lambda m: m["density"])
        shift = 1.035 ** (number - (len(STYLES) - 1) / 2)  # side by side, so that the intervals can be read
        x, y = [m["density"] * shift for m in points], [100 * m["value"] for m in points]
        axes.plot(x, y, marker="_", markersize=9, linewidth=1.2, color=colour, label=label)
        seeds = [(m["density"] * shift, 100 * m["value"]) for m in single if m["arm"] == arm]
        axes.plot(*zip(*seeds, strict=True), "o", markersize=3.5, markeredgewidth=0, alpha=0.7, color=colour)
    axes.set_xscale("log")
    ticks = sorted({m["density"] for m in found if m["arm"] in STYLES})
    axes.set_xticks(ticks, [f"{100 * tick:g} %\n{1 / tick:.0f}x fewer" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("weights stored", fontsize=9)
    axes.set_ylabel("accuracy on 500 held-out digits, %", fontsize=9)
    axes.set_ylim(0, 102)
    title = f"40,618 weights, SGD: dots are seeds; line and band: the dense network, n = {dense['n']} seeds"
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    stream = io.BytesIO()
    picture.savefig(stream, format="png", metadata={"Title": NAME})
    return stream.getvalue()


def main(config: DigitsConfig) -> None:
    """Run what is missing, record after every run, sum up, draw."""
    torch.set_num_threads(1)
    device = config.resolved()
    path = RESULTS / f"{NAME}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = [row for row in rows if row["metric"] == "accuracy" and row["epochs"] == config.epochs]
    done = {(r["arm"], r["optimizer"], r["density"], r["seed"]) for r in rows}
    for arm, optimizer, density, seed in tqdm([p for p in plan(config) if p not in done], unit="run"):
        rows.append(run(arm, optimizer, density, seed, config.epochs, device))
        record(NAME, rows + digits.summary(rows))
    means = digits.summary(rows)
    write_bytes(RESULTS / "figures" / f"{NAME}.png", figure(rows + means))
    digits.show(means)


if __name__ == "__main__":
    command.main(main, DigitsConfig)
