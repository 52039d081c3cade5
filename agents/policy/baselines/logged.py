"""The transitions of a log, as a policy that was trained in its world model's dream sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.windows import context_index, tabulate
from procosm.world_model.files import read_tensors, write_tensors

BEST_SHARE = 0.1
"""Of the episodes, that count as the best."""
READ = 1024
"""Windows whose states are read at once."""


@dataclass(frozen=True)
class Logged:
    """The transitions of a log as the world model's eyes see them, without those whose speed cannot be seen; on the
    CPU.

    Attributes:
        seen, after: (n, s) estimated states before and after. actions: (n, a). rewards, ends: (n,).
        best: (n,) bool, whether the transition is of one of the episodes of highest return; growth-test episodes, which
            are short, never are.
    """

    seen: Tensor
    actions: Tensor
    rewards: Tensor
    after: Tensor
    ends: Tensor
    best: Tensor


def see(model: WorldModel, episodes: Sequence[Episode]) -> Logged:
    """Every transition of some episodes: trained on, held out and of the growth test.

    Raises:
        TaskError: the model tells no state, or no rewards were logged.
    """
    model.task.require("a baseline that learns from logs", "state", "reward")
    returns = [float(e.signals["reward"].sum()) for e in episodes if e.kind != "constant"]
    bar = float(np.quantile(returns, 1 - BEST_SHARE))
    parts = []
    for kind in sorted({episode.kind for episode in episodes}):
        table = tabulate(list(episodes), kind, model.dynamics.context)
        rewards = table.signals["reward"]
        total = torch.nn.functional.pad(rewards.double().cumsum(0), (1, 0))
        earned = total[table.last + 1] - total[table.first]
        with torch.inference_mode():
            latents = model.encode(table.seen(torch.arange(len(table.frames))).numpy())
            index = context_index(table, torch.arange(len(latents)), model.dynamics.context)
            states = torch.cat([model.read("state", latents[part]).cpu() for part in index.split(READ)])
        at = table.steps
        best = (earned[at] >= bar - 1e-6) & (kind != "constant")
        parts.append((states[at], table.actions[at], rewards[at], states[at + 1], table.ends[at], best))
    return Logged(*(torch.cat(column) for column in zip(*parts, strict=True)))


def write(path: Path, logged: Logged) -> None:
    """Keep what was seen: encoding all frames takes longer than cloning."""
    write_tensors(path, vars(logged))


def read(path: Path) -> Logged:
    """What was kept."""
    return Logged(**read_tensors(path))
