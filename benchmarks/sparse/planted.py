"""Which method finds the blocks that matter? A sparse student learns what a sparse teacher of equal shape answers.

    python -m procosm.benchmarks.sparse.planted

Two tasks, a teacher of one layer and one of two with a ReLU between; 256 features, a tenth of the blocks of 16. A fixed
random pattern (static) is the control. ``procrustes`` is the product's: stored blocks, sparse.make's defaults.
``exact`` is what it approximates: a masked dense weight of the same blocks whose every gradient competes at every step
(DropBack's rule: one step's update against what was accumulated, no hysteresis, no limit). Errors are those of fresh
inputs over the answers' mean square, after equal steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from procosm.agents.judge.stats import t_interval
from procosm.benchmarks.record import RESULTS, record
from procosm.sparse import matrix
from procosm.sparse.baselines import make
from procosm.sparse.convert import convert
from procosm.world_model import command
from procosm.world_model.settings import Count, Settings
from procosm.world_model.threads import one_thread

FEATURES, BLOCK, DENSITY = 256, 16, 0.1
STEPS, BATCH = 600, 64
METHODS: dict[str, dict[str, Any]] = {
    "static": {},
    "set": {"stop_after": 450},
    "rigl": {"stop_after": 450},
    "procrustes": {},
    "exact": {
        **{"block": BLOCK, "update_every": 1, "probe_every": 1, "horizon": 1.0},
        **{"hysteresis": 0.0, "max_exchange": 1.0, "layer_floor": 0.0},
    },
}


@dataclass(frozen=True)
class PlantedConfig(Settings):
    """What to train, and how often."""

    out: Path = RESULTS / "sparse_planted.json"
    """Where the result goes."""
    seeds: Count = 3
    """Seeds of teachers, students and inputs."""
    depths: tuple[Count, ...] = (1, 2)
    """Layers of teacher and student, a task each."""


def planted(method: str, seed: int, depth: int) -> tuple[float, float]:
    """Train a student; the error left, and the share of the first teacher layer's blocks that it found."""
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    teacher = [matrix.random((FEATURES, FEATURES), BLOCK, DENSITY, g) for _ in range(depth)]
    weights = [matrix.to_dense(t) * (FEATURES * DENSITY) ** -0.5 for t in teacher]
    layers = [layer for _ in range(depth) for layer in (nn.Linear(FEATURES, FEATURES, bias=False), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    if method != "exact":
        convert(model, DENSITY, BLOCK, keep="balanced", generator=g)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4 if depth == 1 else 1e-3, weight_decay=0.0)
    kind = "procrustes" if method == "exact" else method
    sparsifier = make(kind, model, optimizer, density=DENSITY, **METHODS[method])

    def answer(x: Tensor) -> Tensor:
        for i, weight in enumerate(weights):
            x = x @ weight.T
            x = x if i == depth - 1 else x.relu()
        return x

    for step in range(STEPS):
        x = torch.randn(BATCH, FEATURES, generator=g)
        sparsifier.before_step(step)
        nn.functional.mse_loss(model(x), answer(x)).backward()
        optimizer.step()
        sparsifier.after_step(step)
        optimizer.zero_grad()
    x = torch.randn(1024, FEATURES, generator=g)
    error = (model(x).detach() - answer(x)).square().mean() / answer(x).square().mean()
    found = matrix.kept_of(teacher[0]) & sparsifier.weights[0].kept()
    return float(error), float(found.sum()) / teacher[0].n


def by_seed(values: list[float]) -> dict[str, float]:
    """Each seed's value under its name."""
    return {f"seed_{seed}": value for seed, value in enumerate(values)}


@one_thread()
def benchmark(config: PlantedConfig) -> Path:
    """Train every student; means over seeds with intervals, and differences from static paired by seed."""
    rows: list[dict[str, Any]] = []
    for depth in config.depths:
        errors: dict[str, list[float]] = {}
        for method in METHODS:
            cells = [planted(method, seed, depth) for seed in range(config.seeds)]
            errors[method] = [error for error, _ in cells]
            place = {"task": f"teacher of {depth} layers", "method": method, "density": DENSITY}
            pairs = [mine - chance for mine, chance in zip(errors[method], errors["static"], strict=True)]
            found = [share for _, share in cells]
            for metric, values in {"error": errors[method], "blocks found": found, "error minus static": pairs}.items():
                rows.append({"metric": metric, **place, "unit": "1", **t_interval(values), **by_seed(values)})
            print(depth, method, [round(value, 3) for value in (*errors[method], *found)], flush=True)
    details = {"features": FEATURES, "block": BLOCK, "steps": STEPS, "batch": BATCH}
    return record(config.out.stem, rows, config.out.parent, details)


if __name__ == "__main__":
    command.main(benchmark, PlantedConfig)
