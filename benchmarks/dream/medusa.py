"""How many passes, and how much time, do Medusa heads save a dream that is made of tokens?

    python -m procosm.benchmarks.dream.medusa --world-model RUN/world_model

Dreams begin with held-out windows and take random actions; the most probable tokens are taken. With each number of
heads the same dreams are dreamed again, and every token must be the same. ``tokens per pass`` counts a dream's own
tokens; in a batch a pass is over when its slowest dream is, so the batch of one is what the model itself can do.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.world_model import command
from procosm.world_model.autoregressive.dynamics import AutoregressiveDynamics
from procosm.world_model.autoregressive.medusa import generate
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Seed
from procosm.world_model.threads import one_thread


@dataclass(frozen=True)
class MedusaConfig(OnDevice):
    """What to dream, and with how many heads."""

    world_model: Path
    """Folder of a checkpoint of autoregressive dynamics, with as many heads as the most that are tried."""
    out: Path = RESULTS / "medusa.json"
    """Where the result goes."""
    heads: tuple[int, ...] = (0, 3, 6, 9, 12)
    """Numbers of heads."""
    batches: tuple[Count, ...] = (1, 8)
    """Dreams side by side."""
    dreams: Count = 16
    """Dreams with each number of heads."""
    frames: Count = 20
    """Frames of a dream."""
    seed: Seed = 0
    """Of the actions."""


@dataclass(frozen=True)
class Dreamed:
    """Tokens (dreams, frames, n) of every dream, passes of all together, and the seconds that they took."""

    tokens: Tensor
    passes: int
    seconds: float


@torch.inference_mode()
def dream(model: WorldModel, actions: Tensor, batch: int, heads: int) -> Dreamed:
    """Greedy dreams of (dreams, frames, a) actions in the task's units, ``batch`` at a time."""
    dynamics = cast(AutoregressiveDynamics, model.dynamics)
    found, passes, began = [], 0, time.perf_counter()
    starts = model.starts[torch.linspace(0, len(model.starts) - 1, len(actions)).long()]
    for window, acted in zip(starts.split(batch), actions.split(batch), strict=True):
        memory = dynamics.begin(window)
        before, frames = memory.frame, []
        for action in dynamics.unit_action(acted).unbind(1):
            frame = (memory.cache.lengths[:, None] + 1) // dynamics.net.frame_tokens
            dynamics.net.act(memory.cache, action[:, None], frame)
            made = generate(dynamics.net, memory.cache, before, heads=heads)
            before, passes = made.tokens, passes + made.passes
            frames.append(made.tokens)
        found.append(torch.stack(frames, dim=1))
    tokens = torch.cat(found).cpu()  # waits for a device
    return Dreamed(tokens, passes, time.perf_counter() - began)


@one_thread()
def measure(config: MedusaConfig) -> Path:
    """Dream with each number of heads, and write what it took.

    Raises:
        ProcosmError: a checkpoint of another family, or of too few heads.
    """
    model = load(config.world_model, config.device)
    dynamics = model.dynamics
    if not isinstance(dynamics, AutoregressiveDynamics):
        raise ProcosmError(f"{config.world_model} is not autoregressive: train one with --family autoregressive")
    if max(config.heads) > dynamics.net.config.medusa_heads:
        raise ProcosmError(f"{config.world_model} has {dynamics.net.config.medusa_heads} Medusa heads: ask for fewer")
    low, high = model.task.bounds
    drawn = np.random.default_rng(config.seed).uniform(low, high, (config.dreams, config.frames, len(low)))
    actions = torch.from_numpy(drawn.astype(np.float32)).to(model.starts.device)
    rows: list[dict[str, Any]] = []
    for batch in config.batches:
        dream(model, actions[:batch, :1], batch, max(config.heads))  # memory is allocated
        results = {heads: dream(model, actions, batch, heads) for heads in (0, *config.heads)}
        plain = results[0]
        for heads in config.heads:
            made = results[heads]
            same = float((made.tokens == plain.tokens).double().mean())
            per_batch = made.tokens.numel() / batch
            values = {
                "forward passes": (made.passes, "passes"),
                "passes saved": (plain.passes / made.passes, "times fewer"),
                "tokens per pass": (per_batch / made.passes, "tokens"),
                "tokens per second": (made.tokens.numel() / made.seconds, "tokens/s"),
                "speedup": (plain.seconds / made.seconds, "times as fast"),
                "tokens equal to those without heads": (same, "share"),
            }
            rows += [
                {"metric": metric, "task": model.task.id, "value": value, "unit": unit, "heads": heads, "batch": batch}
                | {"n": made.tokens.numel()}
                for metric, (value, unit) in values.items()
            ]
    origin = {"commit": model.provenance.get("commit"), "sizes": model.provenance.get("configs", {}).get("sizes")}
    return record(config.out.stem, rows, config.out.parent, {"world_model": origin})


if __name__ == "__main__":
    command.main(measure, MedusaConfig)
