"""Does `procosm train --density` train faster? Steps per second of every preset's dynamics, sparse over dense.

    python -m procosm.benchmarks.sparse.steps

Blocks are those that training chooses here. A step is the product's own (diffusion loss, backward, clipping, AdamW, the
preset's batch) on one thread. Dense and all densities take turns within a round; seconds are what the processor worked,
so that other processes matter less. ``value`` is the least dense over the least sparse seconds, ``low`` and ``high``
the extremes of the rounds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.cpu import processor
from procosm.world_model import command
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.rehearsal import ACTIONS, LATENT_SHAPE, STATES, made_up
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.settings import Count, Settings, Share
from procosm.world_model.sparsity import sparsify
from procosm.world_model.threads import one_thread
from procosm.world_model.training.blocks import Part, choose_blocks
from procosm.world_model.training.layouts import LAYOUTS
from procosm.world_model.training.presets import PRESETS, Preset, preset

CPU, SEED = torch.device("cpu"), 0


@dataclass(frozen=True)
class SparseStepsConfig(Settings):
    """What to time, and how often."""

    out: Path = RESULTS / "sparse_steps.json"
    """Where the result goes."""
    presets: tuple[str, ...] = tuple(name for name in PRESETS if name not in ("debug", *LAYOUTS))
    """Presets."""
    densities: tuple[Share, ...] = (0.5, 0.25, 0.1)
    """Densities beside 1."""
    rounds: Count = 5
    """How often each step is timed."""


def fresh(sizes: Preset) -> DiffusionDynamics:
    """The preset's dynamics, of a seed of their own."""
    torch.manual_seed(SEED)
    return DiffusionDynamics(sizes.dynamics, LATENT_SHAPE, ACTIONS, STATES)


def step_of(sizes: Preset, dynamics: DiffusionDynamics, batch: int) -> Callable[[], None]:
    """A training step of the stage that chooses blocks, on made-up windows."""
    return sizes.stages["diffusion"].rehearse(dynamics, made_up(dynamics, batch))


def chosen_block(sizes: Preset, density: float, work: Path) -> int:
    """What training would choose on this machine, now; or what it did choose, where that stands in ``work``."""
    stage = sizes.stages["diffusion"]
    part = Part("dynamics", fresh(sizes), density, partial(step_of, sizes), stage.batch, "", " (--preset wide)")
    return choose_blocks([part], None, CPU, work)["dynamics"]


def seconds(step: Callable[[], object]) -> float:
    """Of the processor, for one step."""
    began = time.process_time()
    step()
    return time.process_time() - began


def preset_rows(name: str, config: SparseStepsConfig) -> list[dict[str, Any]]:
    """A row for each density of one preset; density 1 is 1 by definition, and says how fast dense is."""
    sizes = preset(name)
    blocks = {}
    for density in config.densities:
        with TemporaryDirectory() as work:
            blocks[density] = chosen_block(sizes, density, Path(work))
    batch = sizes.stages["diffusion"].batch
    steps = {1.0: step_of(sizes, fresh(sizes), batch)}
    for density, block in blocks.items():
        dynamics = fresh(sizes)
        sparsify(dynamics, density, block, dynamics.stay_dense)
        steps[density] = step_of(sizes, dynamics, batch)
    for step in steps.values():
        step()
    times: dict[float, list[float]] = {density: [] for density in steps}
    for _ in range(config.rounds):
        for density, step in steps.items():
            times[density].append(seconds(step))
    rows = []
    for density, taken in times.items():
        ratios = [dense / thin for dense, thin in zip(times[1.0], taken, strict=True)]
        value: dict[str, Any] = {"value": round(min(times[1.0]) / min(taken), 3), "low": round(min(ratios), 3)}
        value |= {"high": round(max(ratios), 3), "n": config.rounds, "seed": SEED, "block": blocks.get(density)}
        place: dict[str, Any] = {"metric": "speedup of a training step", "task": f"{name} density={density:g}"}
        place |= {"unit": "dense time / sparse time", "preset": name, "density": density}
        rows.append(place | value | {"seconds": round(min(taken), 4), "width": sizes.dynamics.transformer.width})
    return rows


@one_thread()
def benchmark(config: SparseStepsConfig) -> Path:
    """Time every preset, print and record."""
    rows: list[dict[str, Any]] = []
    for name in config.presets:
        for row in preset_rows(name, config):
            print(f"{row['task']:24} blocks of {row['block'] or '-':>3}: {row['value']:5.2f}", flush=True)
            rows.append(row)
    details = {"processor": processor(), "threads": 1, "bfloat16": bfloat16_pays(CPU), "latent_shape": LATENT_SHAPE}
    return record(config.out.stem, rows, config.out.parent, details)


if __name__ == "__main__":
    command.main(benchmark, SparseStepsConfig)
