"""Episodes as one long table, and the windows cut from it.

A window starts at a step of an episode and holds the ``context`` frames up to it and the ``horizon`` steps after it.
Before an episode's first frame stands that frame again, as at the reset of an environment; after its last step the
last frame stands still and ``mask`` is 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.data.batch import Batch
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.on_disk import JoinedFrames, Rows, some
from procosm.world_model.errors import DatasetError
from procosm.world_model.precision import fits, sent

Embed = Callable[[Sequence[str]], Tensor]
"""b texts to (b, l, e)."""


@dataclass(frozen=True)
class Table:
    """All episodes of one kind, end to end.

    Attributes:
        frames: (n, H, W, 3) uint8; on disk if the episodes' are.
        actions: (n, a), ends: (n,), those of the step that leaves the frame; zeros at an episode's last frame.
        first, last: (n,) index of the first and last frame of each frame's episode.
        steps: indices of the frames that a step leaves, those whose outcome can be known from the frames before.
        signals: (n, …) each, what else was logged, such as ``state`` (n, s) of the frame and ``reward`` (n,) of the
            step that leaves it, which is 0 at an episode's last frame; ``text`` (n,), which of ``texts`` it has.
        texts: what was asked for in words. text: (len(texts), l, e), these embedded. Both of models that take words.
    """

    frames: Tensor | Rows
    actions: Tensor
    ends: Tensor
    first: Tensor
    last: Tensor
    steps: Tensor
    signals: dict[str, Tensor]
    texts: tuple[str, ...] = ()
    text: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where everything is but, if they are too many, the frames."""
        return self.steps.device

    def to(self, device: torch.device) -> "Table":
        """The table on a device; its frames stay where they are if they do not fit there."""
        stay = isinstance(self.frames, Rows) or not fits(self.frames.nbytes, device)
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: each for name, each in held.items() if isinstance(each, Tensor)}
        there = {name: each.to(device) for name, each in tensors.items() if not (name == "frames" and stay)}
        return Table(**held | there | {"signals": {name: each.to(device) for name, each in self.signals.items()}})

    def with_half_from(self, newest: int) -> "Table":
        """The same, the steps of the last ``newest`` frames listed so often that they are half of all, or more."""
        new = self.steps[self.steps >= len(self.first) - newest]
        times = round((len(self.steps) - len(new)) / len(new)) if len(new) else 1
        return replace(self, steps=torch.cat([self.steps, new.repeat(max(times, 1) - 1)]))

    def seen(self, index: Tensor) -> Tensor:
        """The frames at indices of any shape, uint8 (…, H, W, 3), on the table's device."""
        return self.frames[index.to(self.frames.device)].to(self.device)


def tabulate(episodes: list[Episode], kind: str, context: int, embed: Embed | None = None) -> Table:
    """The episodes of one kind as a table, with what was asked for in them where ``embed`` makes numbers of it.

    The first steps of an episode that began wide are left out of ``steps``: until ``context`` frames have been seen,
    its speed is anyone's guess, and guesses teach a model to shrink every motion towards the mean.
    """
    chosen = [e for e in episodes if e.kind == kind and len(e.actions)]
    if not chosen:
        raise DatasetError(f"the dataset has no {kind} episodes: collect more steps (procosm collect --steps)")
    lengths = torch.tensor([len(e.frames) for e in chosen])
    last = lengths.cumsum(0) - 1
    ends = torch.zeros(int(lengths.sum()))
    ends[last - 1] = torch.tensor([float(e.terminated) for e in chosen])
    leaves = torch.ones(len(ends), dtype=torch.bool)
    for e, end in zip(chosen, last.tolist(), strict=True):
        blind = context - 1 if e.wide else 0
        leaves[end - len(e.actions) : end - len(e.actions) + blind] = False
    leaves[last] = False
    signals = {name: _by_frame([e.signals[name] for e in chosen], lengths.tolist()) for name in chosen[0].signals}
    texts = () if embed is None else tuple(sorted({e.text for e in chosen}))
    if embed is not None:
        signals["text"] = torch.repeat_interleave(torch.tensor([texts.index(e.text) for e in chosen]), lengths)
    return Table(
        frames=_joined([e.frames for e in chosen]),
        actions=_by_frame([e.actions for e in chosen], lengths.tolist()),
        ends=ends,
        first=torch.repeat_interleave(last - lengths + 1, lengths),
        last=torch.repeat_interleave(last, lengths),
        steps=leaves.nonzero()[:, 0],
        signals=signals,
        texts=texts,
        text=None if embed is None else embed(texts),
    )


def _joined(frames: list[Any]) -> Tensor | Rows:
    if isinstance(frames[0], np.ndarray):
        return torch.from_numpy(np.concatenate(frames))
    return JoinedFrames(frames)


def _by_frame(episodes: list[np.ndarray], lengths: list[int]) -> Tensor:
    """(n, …): values of each episode's frames; where there is one for each step, the last frame gets zeros."""
    padded = [
        part
        for values, length in zip(episodes, lengths, strict=True)
        for part in (values, np.zeros((length - len(values), *values.shape[1:]), values.dtype))
    ]
    return torch.from_numpy(np.concatenate(padded))


def context_index(table: Table, at: Tensor, context: int) -> Tensor:
    """(b,) frame indices to (b, context) indices of the frames up to each, the first frame repeated before itself."""
    return torch.maximum(at[:, None] + torch.arange(1 - context, 1, device=at.device), table.first[at][:, None])


def cut(table: Table, at: Tensor, context: int, horizon: int, latents: Tensor | Rows | None = None) -> Batch:
    """The windows at these frames, in the task's own units.

    Args:
        at: (b,), frames that a step leaves. context, horizon: frames up to each, and steps after it.
        latents: (n, c, h, w), one for each frame of the table; without them the batch holds frames.
    """
    ahead = at[:, None] + torch.arange(horizon, device=at.device)
    mask = (ahead < table.last[at][:, None]).float()
    ahead = torch.minimum(ahead, table.last[at][:, None] - 1)
    index = torch.cat([context_index(table, at, context), ahead + 1], dim=1)
    logged = {"state": index, "reward": ahead, "success": ahead}
    told = {} if table.text is None else {"text": table.text[table.signals["text"][at]]}
    return Batch(
        frames=table.seen(index) if latents is None else table.frames[:0],
        latents=at.new_empty(0, dtype=torch.float32) if latents is None else latents[index],
        actions=torch.cat([past_actions(table, at, context), table.actions[ahead]], dim=1),
        signals={name: table.signals[name][place] for name, place in logged.items() if name in table.signals} | told,
        ends=table.ends[ahead],
        mask=mask,
    )


def past_actions(table: Table, at: Tensor, context: int) -> Tensor:
    """(b, context - 1, a), what was done between the frames up to (b,) frames; NaN before an episode's first."""
    seen = at[:, None] + torch.arange(1 - context, 0, device=at.device)
    begun = seen >= table.first[at][:, None]
    return table.actions[seen.clamp_min(0)].where(begun[..., None], torch.nan)


def draw(table: Table, batch: int, seed: int, step: int) -> tuple[Tensor, torch.Generator]:
    """Frames of one batch, and the generator of its noise: a function of seed and step alone, so that runs resume.

    The generator is the CPU's on every device: all devices train on the same batches and the same noise.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) & 0x7FFF_FFFF_FFFF)
    return table.steps[sent(torch.randint(len(table.steps), (batch,), generator=generator), table.device)], generator


def first_frames(table: Table) -> Tensor:
    """(n,) frames with which episodes begin that the task's own reset began, those that began wide left out."""
    return table.steps[table.first[table.steps] == table.steps].unique()  # steps of the newest are listed again


def choose_starts(
    table: Table,
    latents: Tensor | Rows,
    context: int,
    most: int = 512,
    features: Tensor | None = None,
    newest: int = 0,
) -> Tensor:
    """(n, context) frame indices of held-out windows to start dreams from, spread over what was logged.

    Logged states crowd where the task's reset puts them. Taken as they come, hardly any dream would begin at the end of
    a rail, and a policy would learn nothing of what it is worth to stay away from there. So each window chosen is the
    one farthest from all chosen before (Gonzalez 1985), in standard deviations of the true state; where no state
    was logged, of features, or else of the latents and what changes in them over the window.

    Args:
        latents: (n, c, h, w), one for each frame of the table.
        features: (n, f), read off the latents up to each of the table's ``steps``, where a model reads some.
        newest: half of the windows, if there are so many, are chosen among the last so many frames before the others.

    Raises:
        DatasetError: every held-out episode ends before its speeds can be seen.
    """
    if not len(table.steps):
        raise DatasetError(
            f"no held-out episode shows {context} frames, so no dream could start: collect more steps (--steps)"
        )
    places = _places(table, latents, context, features)
    near = torch.full((len(places),), torch.inf)
    late = (table.steps >= len(table.first) - newest).cpu()
    first = late if late.any() else torch.ones_like(late)
    chosen = [int(places.square().sum(1).masked_fill(~first, torch.inf).argmin())]
    while len(chosen) < min(most, len(places)):
        near = torch.minimum(near, (places - places[chosen[-1]]).square().sum(1))
        near[chosen[-1]] = -1.0  # of equal states too, each is taken once
        among = first if len(chosen) < min(most // 2, int(first.sum())) else torch.ones_like(first)
        chosen.append(int(near.where(among, -2.0).argmax()))
    return context_index(table, table.steps[torch.tensor(chosen).sort().values.to(table.device)], context)


def candidates(table: Table, newest: int = 0) -> Table:
    """The table with the steps that windows to start dreams from are chosen among, see ``choose_starts``.

    In memory these are all. On disk they are ``on_disk.SAMPLE`` at most, evenly spread; as many again of the ``newest``
    frames.
    """
    late = table.steps >= len(table.first) - newest
    chosen = [some(table.frames, table.steps[which]) for which in (~late, late)]
    return replace(table, steps=torch.cat(chosen))


def _places(table: Table, latents: Tensor | Rows, context: int, features: Tensor | None) -> Tensor:
    """(steps, k): where each step of a table begins, in deviations of the states or, where none were logged, of
    features or latents.

    On the CPU: they are looked at one after another, and a device would be waited for each time.
    """
    places = table.signals["state"][table.steps] if "state" in table.signals else features
    if places is not None:
        places = places.cpu()
        return (places - places.mean(0)) / places.std(0).clamp_min(1e-6)
    seen = latents[context_index(table, table.steps, context)[:, [0, -1]]].flatten(2).cpu()
    # Each number in the units of all: one that hardly varies would count as much as what moves.
    parts = (seen[:, -1], seen[:, -1] - seen[:, 0])
    return torch.cat([(part - part.mean(0)) / part.std().clamp_min(1e-6) for part in parts], dim=1)
