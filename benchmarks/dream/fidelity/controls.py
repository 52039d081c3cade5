"""One window, dreamed and continued in every other way that a dream must beat.

Axis letters: n window, t step, c channel, h w latent, s true state.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from procosm.agents.judge.open_loop import Windows, predictions
from procosm.benchmarks.dream.fidelity.linear import LinearWorld
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.interface import Prediction


@dataclass(frozen=True)
class Rollout:
    """What one method says happens after the context; None where it says nothing.

    Attributes:
        latents: (n, t, c, h, w), standardised. states: (n, t, s), read by the world model's probe.
        rewards, ends: (n, t), reward and probability of the end.
    """

    latents: Tensor
    states: np.ndarray
    rewards: np.ndarray | None = None
    ends: np.ndarray | None = None


def rollouts(model: WorldModel, linear: LinearWorld, windows: Windows, seed: int) -> dict[str, Rollout]:
    """Every method's rollout of all windows: the dream, its controls, and the truth through the tokenizer.

    ``shuffled actions`` dreams under another window's actions. ``copy last frame`` says that nothing changes.
    """
    context = model.dynamics.context
    real = model.encode(windows.frames)
    begun, after = real[:, :context], real[:, context:]
    shuffled = windows.actions[np.random.default_rng(seed).permutation(len(windows.actions))]
    still = begun[:, -1:].expand_as(after)
    return {
        "dream": gathered(predictions(model, begun, windows.actions)),
        "shuffled actions": gathered(predictions(model, begun, shuffled)),
        "linear": gathered(linear.predictions(model, begun, windows.actions)),
        "copy last frame": Rollout(still, probed(model, begun, still), ends=np.zeros(after.shape[:2], np.float32)),
        "tokenizer": Rollout(after, probed(model, begun, after)),
    }


def gathered(predicted: Iterable[Prediction]) -> Rollout:
    """A rollout from its steps."""
    steps = [(p.latents, *(p.readouts[name] for name in ("state", "reward", "termination"))) for p in predicted]
    latents, states, rewards, ends = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
    return Rollout(latents.cpu(), *(each.cpu().numpy() for each in (states, rewards, ends)))


@torch.inference_mode()
def probed(model: WorldModel, begun: Tensor, after: Tensor) -> np.ndarray:
    """(n, t, s) true state that the probe reads off the last few of the latents at each step."""
    both, context = torch.cat((begun, after), dim=1), begun.shape[1]
    steps = [model.read("state", both[:, t + 1 : t + 1 + context]) for t in range(after.shape[1])]
    return torch.stack(steps, dim=1).cpu().numpy()


@torch.inference_mode()
def read_now(model: WorldModel, windows: Windows) -> np.ndarray:
    """(n, s) true state at the end of each window's context, as the probe reads it from the real frames."""
    begun = model.encode(windows.frames[:, : model.dynamics.context])
    return model.read("state", begun).cpu().numpy()
