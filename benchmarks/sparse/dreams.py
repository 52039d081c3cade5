"""Do sparse dreams run faster, and is sparse never slower where the cost model chose it?

    python -m procosm.benchmarks.sparse.dreams

A step of a preset's dynamics in a dream, by density, block and number of dreams; and the three products of one square
layer in the cells where sparse gains least (float32, blocks of 32, d 1024). On one thread, in processor seconds, dense
and sparse in turns; ``value`` is the least dense over the least sparse seconds. Weights are random: they change no
speed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from procosm import sparse
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.cpu import processor
from procosm.benchmarks.sparse.steps import fresh, seconds
from procosm.world_model import command
from procosm.world_model.diffusion.rehearsal import ACTIONS, LATENT_SHAPE
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.settings import Count, Settings
from procosm.world_model.sparsity import sparsify
from procosm.world_model.threads import one_thread
from procosm.world_model.training.presets import preset

THIN = ((0.5, 128), (0.25, 128), (0.1, 128))
CELLS = ((0.25, 256), (0.25, 1024), (0.5, 256), (0.5, 1024))
"""Density and tokens of the layers that gain least."""
CELL_WIDTH, CELL_BLOCK = 1024, 32


@dataclass(frozen=True)
class SparseDreamsConfig(Settings):
    """What to time, and how often."""

    out: Path = RESULTS / "sparse_dreams.json"
    """Where the result goes."""
    preset: str = "wide"
    """Size of the dynamics."""
    dreams: tuple[Count, ...] = (1, 8, 64)
    """Dreams side by side."""
    rounds: Count = 5
    """How often each is timed, after once that is not."""


def compared(steps: dict[float, Callable[[], object]], rounds: int) -> dict[float, dict[str, Any]]:
    """For each density its least seconds, and dense over it with the extremes of the rounds."""
    for step in steps.values():
        step()
    times: dict[float, list[float]] = {density: [] for density in steps}
    for _ in range(rounds):
        for density, step in steps.items():
            times[density].append(seconds(step))
    found = {}
    for density, taken in times.items():
        ratios = [dense / thin for dense, thin in zip(times[1.0], taken, strict=True)]
        spread = {"low": round(min(ratios), 3), "high": round(max(ratios), 3), "n": rounds}
        value = round(min(times[1.0]) / min(taken), 3)
        found[density] = {"value": value, **spread, "seconds": min(taken), "unit": "dense time / sparse time"}
    return found


def dream_rows(config: SparseDreamsConfig) -> list[dict[str, Any]]:
    """A row for each density and number of dreams."""
    sizes = preset(config.preset)
    rows: list[dict[str, Any]] = []
    models = {1.0: (fresh(sizes), 0)}
    for density, block in THIN:
        models[density] = (fresh(sizes), block)
        sparsify(models[density][0], density, block, models[density][0].stay_dense)
    for model, _ in models.values():
        model.eval().requires_grad_(False)
    for count in config.dreams:
        actions = torch.zeros(count, ACTIONS)
        steps: dict[float, Callable[[], object]] = {}
        for density, (model, _) in models.items():
            memory = model.begin(torch.randn(count, model.context, *LATENT_SHAPE))
            steps[density] = partial(model.step, memory, actions)
        for density, row in compared(steps, config.rounds).items():
            task = f"{config.preset} dreams={count} density={density:g}"
            place = {"metric": "speedup of a step of dreams", "task": task, "preset": config.preset, "dreams": count}
            rows.append(place | row | {"density": density, "block": models[density][1] or None})
    return rows


def products(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    """The three products of a layer."""
    layer(x).backward(grad)


def cell_rows(config: SparseDreamsConfig) -> list[dict[str, Any]]:
    """A row for each of CELLS: forward and backward of a layer as ``auto`` runs it, and what it chose."""
    rows: list[dict[str, Any]] = []
    for density, tokens in CELLS:
        thin = sparse.nn.Linear(CELL_WIDTH, CELL_WIDTH, bias=False, block=CELL_BLOCK, density=density)
        layers: dict[float, nn.Module] = {1.0: nn.Linear(CELL_WIDTH, CELL_WIDTH, bias=False), density: thin}
        x, grad = torch.randn(tokens, CELL_WIDTH, requires_grad=True), torch.randn(tokens, CELL_WIDTH)
        steps: dict[float, Callable[[], object]] = {d: partial(products, layer, x, grad) for d, layer in layers.items()}
        chose = "sparse" if thin.choice("cpu", torch.float32).sparse(tokens) else "dense"
        row = compared(steps, 4 * config.rounds)[density]
        task = f"d={CELL_WIDTH} tokens={tokens} density={density:g} b={CELL_BLOCK} float32"
        rows.append({"metric": "speedup of three products", "task": task, **row, "chosen": chose, "density": density})
    return rows


@one_thread()
def benchmark(config: SparseDreamsConfig) -> Path:
    """Time everything, print and record."""
    torch.manual_seed(0)
    rows = dream_rows(config) + cell_rows(config)
    for row in rows:
        print(f"{row['task']:50} {row['value']:5.2f} {row.get('chosen', '')}", flush=True)
    details = {"processor": processor(), "threads": 1, "bfloat16_pays": bfloat16_pays(torch.device("cpu"))}
    return record(config.out.stem, rows, config.out.parent, details)


if __name__ == "__main__":
    command.main(benchmark, SparseDreamsConfig)
