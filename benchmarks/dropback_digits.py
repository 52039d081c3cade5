"""DropBack on its own ground: a convolutional network with 10 times fewer weights at the accuracy of the dense one?

    python -m procosm.benchmarks.dropback_digits

Scikit-learn's digits (1797 images of 8 x 8, shipped with the package), a network of 40 618 weights, a new split for
every seed. Literal DropBack (the published form: a clone of W0 that shrinks in place, torch.topk) beside this library's
forms, and beside RigL, SET and a static random pattern. Runs that are recorded already are not repeated.
"""

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
import torch
import tyro
from scipy.stats import t as student
from sklearn.datasets import load_digits
from torch import nn
from tqdm import tqdm

from procosm.benchmarks.record import RESULTS, record
from procosm.sparse.baselines import make
from procosm.sparse.optimizer import DropBack, DropBackConfig
from procosm.sparse.quantile import QuantileConfig

NAME = "dropback_digits"
TRAIN, BATCH = 1297, 64
RATES = {"sgd": 0.1, "adamw": 3e-3}
THRESHOLDS = ("sort", "dumique", "histogram")
SWAPS = ("static", "set", "rigl", "procrustes")
CURVE = ("dropback-histogram", "static", "set", "rigl", "procrustes")


@dataclass(frozen=True)
class DigitsConfig:
    """How much to run."""

    seeds: int = 5
    """Seeds at 10 % of the weights."""
    curve_seeds: int = 3
    """Seeds at the other densities."""
    epochs: int = 15
    """Passes over the training images; 20 steps each."""
    densities: tuple[float, ...] = (0.3, 0.05, 0.03)
    """Densities of the curve besides 0.1 and 1."""


def network(seed: int) -> nn.Module:
    """Three convolutions and two linear layers, for images (b, 1, 8, 8)."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after, pool in ((1, 16, False), (16, 32, True), (32, 64, True)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] * pool
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))


class Literal:
    """DropBack as published, with Procrustes' decay: score |W - W0|, keep the k largest, reset the rest."""

    def __init__(self, model: nn.Module, density: float) -> None:
        self.parameters = list(model.parameters())
        self.w0 = [p.detach().clone() for p in self.parameters]
        self.k = round(density * sum(p.numel() for p in self.parameters))

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """One selection over all parameters; W0 shrinks in place."""
        score = torch.cat([(p - z).abs().view(-1) for p, z in zip(self.parameters, self.w0, strict=True)])
        keep = torch.zeros_like(score, dtype=torch.bool)
        keep[score.topk(self.k).indices] = True
        parts = keep.split([p.numel() for p in self.parameters])
        for p, z, part in zip(self.parameters, self.w0, parts, strict=True):
            p.copy_(torch.where(part.view(p.shape), p, z))
            z.mul_(0.9)
            z[z.abs() < 1e-10] = 0.0


def method_of(arm: str, model: nn.Module, base: torch.optim.Optimizer, density: float, steps: int, seed: int):
    """(optimizer to step, what to call before and after a step, weights that are stored in the end)."""
    everything = sum(p.numel() for p in model.parameters())
    if arm == "literal":
        literal = Literal(model, density)
        return base, lambda step: None, literal.after_step, lambda: literal.k
    if arm.startswith("dropback"):
        form = arm.split("-")[1]
        config = DropBackConfig(
            density, seed=seed, quantile=QuantileConfig(form if form in THRESHOLDS else "sort"),
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


def run(arm: str, optimizer: str, density: float, seed: int, epochs: int) -> dict[str, Any]:
    """Train once, judge on the 500 images held out."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels)
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=g)
    train, test = order[:TRAIN], order[TRAIN:]
    model, steps = network(seed), epochs * (TRAIN // BATCH)
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    base = kind(model.parameters(), RATES[optimizer])
    stepper, before, after, stored = method_of(arm, model, base, density, steps, seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
    for step in range(steps):
        if step % (TRAIN // BATCH) == 0:
            shuffled = train[torch.randperm(TRAIN, generator=g)]
        rows = shuffled.split(BATCH)[step % (TRAIN // BATCH)]
        before(step)
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        if not torch.isfinite(loss):
            raise RuntimeError(f"{arm} at density {density}, seed {seed}: the loss is not finite at step {step}")
        loss.backward()
        stepper.step()
        after(step)
        stepper.zero_grad()
        schedule.step()
    model.eval()
    with torch.no_grad():
        accuracy = float((model(x[test]).argmax(1) == y[test]).float().mean())
    return {
        "metric": "accuracy", "task": "digits", "value": accuracy, "unit": "share", "seed": seed, "arm": arm,
        "optimizer": optimizer, "density": density, "weights": stored(), "epochs": epochs,
    }  # fmt: skip


def plan(config: DigitsConfig) -> Iterator[tuple[str, str, float, int]]:
    """(arm, optimizer, density, seed) of every run."""
    arms = ["literal", *(f"dropback-{form}" for form in THRESHOLDS), *SWAPS]
    adam = ["dropback-sort", "dropback-discard", *SWAPS]
    for seed in range(config.seeds):
        yield from (("dense", optimizer, 1.0, seed) for optimizer in RATES)
        yield from ((arm, "sgd", 0.1, seed) for arm in arms)
        yield from ((arm, "adamw", 0.1, seed) for arm in adam)
    for seed in range(config.curve_seeds):
        for density in config.densities:
            yield from ((arm, "sgd", density, seed) for arm in CURVE)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and 95 % t-interval of the mean over seeds, one row per arm, optimizer and density."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["optimizer"], row["density"]), []).append(row)
    found = []
    for (arm, optimizer, density), members in groups.items():
        values, n = [m["value"] for m in members], len(members)
        mean = statistics.fmean(values)
        half = float(student.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.nan
        found.append({
            "metric": "accuracy_mean", "task": "digits", "value": mean, "unit": "share", "n": n,
            "low": mean - half, "high": mean + half, "arm": arm, "optimizer": optimizer, "density": density,
            "weights": statistics.fmean(m["weights"] for m in members),
        })  # fmt: skip
    return found


def draw(means: list[dict[str, Any]]) -> None:
    """Accuracy over density with intervals, SGD."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for arm in CURVE:
        points = sorted((m for m in means if m["arm"] == arm and m["optimizer"] == "sgd"), key=lambda m: m["density"])
        x, y = [p["density"] for p in points], [p["value"] for p in points]
        axes.errorbar(x, y, [p["high"] - p["value"] for p in points], marker="o", capsize=3, label=arm)
    dense = next(m["value"] for m in means if m["arm"] == "dense" and m["optimizer"] == "sgd")
    axes.axhline(dense, color="black", linestyle="--", linewidth=1, label="dense")
    axes.set(xscale="log", xlabel="density", ylabel="accuracy, 500 held-out digits")
    axes.legend()
    figure.savefig(RESULTS / f"{NAME}.png", dpi=120, bbox_inches="tight")


def main(config: DigitsConfig) -> None:
    """Run what is missing, record after every run, sum up."""
    torch.set_num_threads(1)
    path = RESULTS / f"{NAME}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in rows if row["metric"] == "accuracy" and row["epochs"] == config.epochs]
    done = {(r["arm"], r["optimizer"], r["density"], r["seed"]) for r in rows}
    for arm, optimizer, density, seed in tqdm([p for p in plan(config) if p not in done]):
        rows.append(run(arm, optimizer, density, seed, config.epochs))
        record(NAME, rows + summary(rows))
    means = summary(rows)
    record(NAME, rows + means)
    draw(means)
    for m in sorted(means, key=lambda m: (m["optimizer"], -m["density"], -m["value"])):
        interval = f"{m['value']:.4f} [{m['low']:.4f}, {m['high']:.4f}]"
        print(
            f"{m['optimizer']:6} {m['density']:5.2f} {m['arm']:20} {interval} {m['weights']:8.0f} weights",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main(tyro.cli(DigitsConfig))
