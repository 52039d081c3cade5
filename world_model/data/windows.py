"""Episodes as one long table, and the windows cut from it.

A window starts at a step of an episode and holds the ``context`` frames up to it and the ``horizon`` steps after it.
Before an episode's first frame stands that frame again, as at the reset of an environment; after its last step the
last frame stands still and ``mask`` is 0.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.data.episodes import Episode
from procosm.world_model.diffusion.dynamics import DiffusionDynamics, Window
from procosm.world_model.errors import DatasetError
from procosm.world_model.precision import fits, sent


@dataclass(frozen=True)
class Table:
    """All episodes of one kind, end to end.

    Attributes:
        frames: (n, H, W, 3) uint8. states: (n, s). actions: (n, a), rewards, ends: (n,), those of the step that leaves
            the frame; zeros at an episode's last frame.
        first, last: (n,) index of the first and last frame of each frame's episode.
        steps: indices of the frames that a step leaves, those whose outcome can be known from the frames before.
    """

    frames: Tensor
    states: Tensor
    actions: Tensor
    rewards: Tensor
    ends: Tensor
    first: Tensor
    last: Tensor
    steps: Tensor

    @property
    def device(self) -> torch.device:
        """Where everything is but, if they are too many, the frames."""
        return self.steps.device

    def to(self, device: torch.device) -> "Table":
        """The table on a device; its frames stay where they are if they do not fit there."""
        stay = not fits(self.frames.nbytes, device)
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return Table(**{k: v if k == "frames" and stay else v.to(device) for k, v in tensors.items()})

    def seen(self, index: Tensor) -> Tensor:
        """The frames at indices of any shape, uint8 (…, H, W, 3), on the table's device."""
        return self.frames[index.to(self.frames.device)].to(self.device)


def tabulate(episodes: list[Episode], kind: str, context: int) -> Table:
    """The episodes of one kind as a table.

    The first steps of an episode that began wide are left out of ``steps``: until ``context`` frames have been seen,
    its speed is anyone's guess, and guesses teach a model to shrink every motion towards the mean.
    """
    chosen = [e for e in episodes if e.kind == kind and len(e.actions)]
    if not chosen:
        raise DatasetError(f"the dataset has no {kind} episodes: collect more steps (procosm collect --steps)")
    pad = [np.zeros((1, chosen[0].actions.shape[1]), np.float32)]
    lengths = torch.tensor([len(e.frames) for e in chosen])
    last = lengths.cumsum(0) - 1
    ends = torch.zeros(int(lengths.sum()))
    ends[last - 1] = torch.tensor([float(e.terminated) for e in chosen])
    leaves = torch.ones(len(ends), dtype=torch.bool)
    for e, end in zip(chosen, last.tolist(), strict=True):
        blind = context - 1 if e.wide else 0
        leaves[end - len(e.actions) : end - len(e.actions) + blind] = False
    leaves[last] = False
    return Table(
        frames=torch.from_numpy(np.concatenate([e.frames for e in chosen])),
        states=torch.from_numpy(np.concatenate([e.states for e in chosen])),
        actions=torch.from_numpy(np.concatenate([part for e in chosen for part in (e.actions, *pad)])),
        rewards=torch.from_numpy(np.concatenate([np.append(e.rewards, np.float32(0)) for e in chosen])),
        ends=ends,
        first=torch.repeat_interleave(last - lengths + 1, lengths),
        last=torch.repeat_interleave(last, lengths),
        steps=leaves.nonzero()[:, 0],
    )


def context_index(table: Table, at: Tensor, context: int) -> Tensor:
    """(b,) frame indices to (b, context) indices of the frames up to each, the first frame repeated before itself."""
    return torch.maximum(at[:, None] + torch.arange(1 - context, 1, device=at.device), table.first[at][:, None])


def cut(table: Table, latents: Tensor, at: Tensor, horizon: int, dynamics: DiffusionDynamics) -> Window:
    """The windows at these frames.

    Args:
        latents: (n, c, h, w), one for each frame of the table. at: (b,), frames that a step leaves.
    """
    ahead = at[:, None] + torch.arange(horizon, device=at.device)
    mask = (ahead < table.last[at][:, None]).float()
    ahead = torch.minimum(ahead, table.last[at][:, None] - 1)
    seen = at[:, None] + torch.arange(1 - dynamics.context, 0, device=at.device)
    acted = torch.cat([seen.clamp_min(0), ahead], dim=1)
    begun = torch.cat([seen >= table.first[at][:, None], torch.ones_like(ahead, dtype=torch.bool)], dim=1)
    index = torch.cat([context_index(table, at, dynamics.context), ahead + 1], dim=1)
    outcome = dynamics.outcome_head
    return Window(
        latents=latents[index],
        actions=dynamics.unit_action(table.actions[acted]).clamp(-1, 1).where(begun[..., None], torch.nan),
        states=dynamics.state_head.standardise(table.states[ahead + 1]),
        rewards=(table.rewards[ahead] - outcome.reward_mean) / outcome.reward_std,
        ends=table.ends[ahead],
        mask=mask,
    )


def draw(table: Table, batch: int, seed: int, step: int) -> tuple[Tensor, torch.Generator]:
    """Frames of one batch, and the generator of its noise: a function of seed and step alone, so that runs resume.

    The generator is the CPU's on every device: all devices train on the same batches and the same noise.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) & 0x7FFF_FFFF_FFFF)
    return table.steps[sent(torch.randint(len(table.steps), (batch,), generator=generator), table.device)], generator


def first_frames(table: Table) -> Tensor:
    """(n,) frames with which episodes begin that the task's own reset began, those that began wide left out."""
    return table.steps[table.first[table.steps] == table.steps]


def choose_starts(table: Table, context: int, most: int = 512) -> Tensor:
    """(n, context) frame indices of held-out windows to start dreams from, spread over the true states.

    Logged states crowd where the task's reset puts them. Taken as they come, hardly any dream would begin at the end of
    a rail, and a policy would learn nothing of what it is worth to stay away from there. So each window chosen is the
    one farthest from all chosen before (Gonzalez 1985), in standard deviations of the true state.

    Raises:
        DatasetError: every held-out episode ends before its speeds can be seen.
    """
    if not len(table.steps):
        raise DatasetError(
            f"no held-out episode shows {context} frames, so no dream could start: collect more steps (--steps)"
        )
    states = table.states[table.steps].cpu()  # one after another: a device would be waited for each time
    states = (states - states.mean(0)) / states.std(0).clamp_min(1e-6)
    near = torch.full((len(states),), torch.inf)
    chosen = [int(states.square().sum(1).argmin())]
    while len(chosen) < min(most, len(states)):
        near = torch.minimum(near, (states - states[chosen[-1]]).square().sum(1))
        near[chosen[-1]] = -1.0  # of equal states too, each is taken once
        chosen.append(int(near.argmax()))
    return context_index(table, table.steps[torch.tensor(chosen).sort().values.to(table.device)], context)
