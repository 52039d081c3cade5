"""What few steps cost: a world model that draws in many, one distilled from it, and what many draw in few, by horizon.

    python -m procosm.benchmarks.dream.distillation --data RUN/data --world-model RUN/world_model

The checkpoint's dynamics are distilled (``world_model.diffusion.distillation``) on the training episodes and judged on
held-out ones, under the same actions and from the same noise. Errors are against true frames; ``apart`` is how far a
dream is from the checkpoint's own of 32 steps: what distillation is to keep. The control is the checkpoint itself with
as few steps. ``low`` and ``high`` are 95 % intervals over windows.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.open_loop import Windows, choose_windows, decode, psnr_db
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.diffusion.recipe import Distill
from procosm.world_model.interface import MEAN, Sampling
from procosm.world_model.settings import Count, Seed
from procosm.world_model.threads import one_thread
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.train import read_tables

MANY = Sampling(32)
ARMS = {
    "mean": ("many", MEAN),
    "many, 32 steps": ("many", MANY),
    **{f"many, {n} steps, {solver}": ("many", Sampling(n, solver)) for n in (2, 4) for solver in ("euler", "unipc")},  # type: ignore[arg-type]
    **{f"distilled, {n} steps": ("few", Sampling(n, "consistency")) for n in (2, 4)},
    "distilled, mean": ("few", MEAN),
}
"""Whose dreams, and how they are drawn."""
HORIZONS = (1, 2, 4, 8)
UNITS = {"psnr_db": "dB", "latent_mse": "standardised latent²", "apart": "standardised latent²"}


@dataclass(frozen=True)
class DistillationConfig(OnDevice):
    """What to distil, and how closely to look."""

    data: Path
    """Dataset of the task."""
    world_model: Path
    """Checkpoint of diffusion dynamics."""
    out: Path = RESULTS
    """Folder of the result."""
    steps: Count = 600
    """Optimizer steps of the distillation."""
    batch: Count = 64
    """Windows in a batch."""
    windows: Count = 64
    """Held-out windows that are dreamed on."""
    seed: Seed = 0
    """Of batches, noise, windows and intervals."""


@one_thread()
def compare(config: DistillationConfig) -> Path:
    """Distil, dream with both, and write what came of it."""
    device = config.resolved()
    model = load(config.world_model, device)
    tables = read_tables(config.data, model.dynamics, device)
    few: Any = copy.deepcopy(model.dynamics)
    with TemporaryDirectory() as work:  # a finished stage that is found there is not run again, whatever is asked
        training = Training(model.tokenizer, few, tables, config.seed, Path(work))
        learned = Distill(config.steps, config.batch, 1e-4).run("distill", training)
    held_out = [episode for episode in load_episodes(config.data) if episode.kind == "holdout"]
    chosen = choose_windows(held_out, model.dynamics.context, HORIZONS[-1], config.windows, config.seed)
    dreams = {
        name: dreamed(model, {"many": model.dynamics, "few": few.requires_grad_(False).eval()}[who], chosen, how)
        for name, (who, how) in ARMS.items()
    }
    rows = [row | {"task": model.task.id, "seed": config.seed} for row in judged(model, chosen, dreams, config.seed)]
    return record("distillation", rows, config.out, {"learned": learned, "windows": config.windows})


@torch.inference_mode()
def dreamed(model: WorldModel, dynamics: Any, windows: Windows, sampling: Sampling) -> Tensor:
    """(n, horizon, c, h, w) latents under the windows' actions, each window's noise from a generator of its own."""
    draws = [np.random.default_rng([7, index]) for index in range(len(windows.actions))]
    memory, found = dynamics.begin(model.encode(windows.frames[:, : dynamics.context])), []
    for action in torch.from_numpy(windows.actions).to(model.starts.device).unbind(1):
        memory, after = dynamics.step(memory, action, draws, sampling)
        found.append(after.latents)
    return torch.stack(found, dim=1)


def judged(model: WorldModel, windows: Windows, dreams: Mapping[str, Tensor], seed: int) -> list[dict[str, Any]]:
    """Rows of each dream, and of the last frame kept."""
    context = model.dynamics.context
    real, whole = model.encode(windows.frames), dreams["many, 32 steps"]
    kept = real[:, context - 1 : context].expand_as(whole)
    rows = []
    for name, latents in [*dreams.items(), ("copy last frame", kept)]:
        for horizon in HORIZONS:
            there, step = windows.steps >= horizon, horizon - 1
            now, truth = latents[:, step], windows.frames[:, context + step]
            shown = windows.frames[:, context - 1] if name == "copy last frame" else decode(model, now)
            scores = {
                "psnr_db": psnr_db(shown, truth),
                "latent_mse": (now - real[:, context + step]).square().flatten(1).mean(1).double().cpu().numpy(),
                "apart": (now - whole[:, step]).square().flatten(1).mean(1).double().cpu().numpy(),
            }
            for metric, values in scores.items():
                found = estimate(values[there], seed, least=-np.inf if metric == "psnr_db" else 0.0)
                rows.append(
                    {"metric": metric, "method": name, "horizon": horizon, "unit": UNITS[metric], "value": found.mean}
                    | {"low": found.low, "high": found.high, "n": found.n}
                )
    return rows


if __name__ == "__main__":
    command.main(compare, DistillationConfig)
