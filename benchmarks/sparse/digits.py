"""What the two DropBack benchmarks share: the data, DropBack as published, means with intervals.

The data are scikit-learn's 1797 handwritten digits of 8 x 8 pixels, which ship with the package; every seed has its own
split into 1297 training and 500 held-out images.
"""

import statistics
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from procosm.agents.judge.stats import t_interval

TRAIN = 1297
CPU = torch.device("cpu")


def digits(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images (1297, 1, 8, 8) in [0, 1] and labels, then the 500 held-out ones and theirs."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SystemExit("the digits are scikit-learn's: pip install -e '.[bench]'") from error
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, test = order[:TRAIN], order[TRAIN:]
    return x[train], y[train], x[test], y[test]


def batch_of(step: int, batch: int, seed: int) -> Tensor:
    """Indices of the training images of one step: a function of its arguments, so that a resumed run sees the same."""
    each = TRAIN // batch
    order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(1_000_003 * (seed + 1) + step // each))
    return order[step % each * batch :][:batch]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images the model, left in evaluation mode, names rightly."""
    model.eval()
    with torch.no_grad():
        named = torch.cat([model(part).argmax(1) for part in images.split(100)])
    return float((named == labels).double().mean())


class Literal:
    """DropBack as published, with Procrustes' decay: score |W - W0|, keep the k largest, reset the rest.

    A clone of W0 and torch.topk: the independent form this library's own is measured against.
    """

    def __init__(self, model: nn.Module, density: float) -> None:
        self.parameters = list(model.parameters())
        self.w0 = [p.detach().clone() for p in self.parameters]
        self.k = round(density * sum(p.numel() for p in self.parameters))

    @torch.no_grad()
    def after_step(self) -> None:
        """One selection over all parameters; W0 shrinks in place."""
        score = torch.cat([(p - z).abs().view(-1) for p, z in zip(self.parameters, self.w0, strict=True)])
        keep = torch.zeros_like(score, dtype=torch.bool)
        keep[score.topk(self.k).indices] = True
        parts = keep.split([p.numel() for p in self.parameters])
        for p, z, part in zip(self.parameters, self.w0, parts, strict=True):
            p.copy_(torch.where(part.view(p.shape), p, z))
        self.shrink()

    def shrink(self) -> None:
        """One step of the decay of W0."""
        for z in self.w0:
            z.mul_(0.9)
            z[z.abs() < 1e-10] = 0.0


def summary(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over seeds, by task, arm, optimizer and density: mean accuracy, and mean of (arm - dense) on the same seeds."""
    groups: dict[tuple[str, str, str, float], dict[int, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["arm"], row["optimizer"], row["density"]), {})[row["seed"]] = row
    found = []
    for (task, arm, optimizer, density), runs in groups.items():
        about = {
            "task": task, "unit": "share", "arm": arm, "optimizer": optimizer,
            "density": density, "weights": statistics.fmean(run["weights"] for run in runs.values()),
        }  # fmt: skip
        found.append({"metric": "accuracy_mean", **t_interval([run["value"] for run in runs.values()]), **about})
        dense = groups.get((task, "dense", optimizer, 1.0), {})
        gaps = [run["value"] - dense[seed]["value"] for seed, run in runs.items() if seed in dense]
        if arm != "dense" and gaps:
            found.append({"metric": "accuracy_minus_dense", **t_interval(gaps), **about})
    return found


def show(means: Iterable[dict[str, Any]]) -> None:
    """Print a summary, best mean first."""
    for m in sorted(means, key=lambda m: (m["task"], m["metric"], m["optimizer"], -m["density"], -m["value"])):
        interval = f"[{m['low']:+.4f}, {m['high']:+.4f}]" if m["n"] > 1 else "one seed"
        print(f"{m['task']:24} {m['metric']:21}{m['optimizer']:6}{m['density']:6.3f}  {m['arm']:20}"
              f"{m['value']:+.4f} {interval:20} n={m['n']} {m['weights']:9.0f} weights")  # fmt: skip
