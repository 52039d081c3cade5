"""A trained world model: what an environment, an evaluation or a checkpoint holds of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.data.task import Task
from procosm.world_model.encoding import encode, read_off
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import MEAN, Condition, Dynamics, Memory, Prediction, Sampling, Tokenizer
from procosm.world_model.threads import one_thread, run_each

SMALLEST_PART, MOST_PARTS = 32, 8  # dreams that one thread moves by itself; fewer cost more in Python than they share


@dataclass(frozen=True)
class Practice:
    """Windows of the frames that a model learned from, evenly spread, for dreams in which policies practise.

    Attributes:
        latents: (m, context, c, h, w), standardised. actions: (m, context - 1, a), what was done between them, NaN
            before an episode's first step. texts: (m,) int64, as ``WorldModel.start_texts``.
    """

    latents: Tensor
    actions: Tensor
    texts: Tensor | None = None


@dataclass(frozen=True)
class WorldModel:
    """A tokenizer, its dynamics, and real frames to start dreaming from.

    Attributes:
        task: the task it has learned.
        tokenizer, dynamics: frozen, in eval mode.
        start_frames: (n, context, H, W, 3) uint8, held-out real frames. start_states: (n, s), true state at the last;
            None where no states were logged.
        starts: (n, context, c, h, w), the same windows as standardised latents.
        reward_range: least and greatest reward in the data; None where no rewards were logged.
        metrics: held-out metrics measured at the end of training. provenance: where it came from.
        trust: tensors of ``envs.trust.trust``, which tells when a dream is out of its depth; older models have none.
        resets: (m, c, h, w), latents of first frames after the task's own reset, with which its twin begins too; older
            models have none, nor have those of data without such episodes.
        start_actions: (n, context - 1, a), what was done between the frames of each start window, NaN before an
            episode's first step; older models have none.
        texts: what was asked for in words where it learned; () of models that take none.
        start_texts, reset_texts: (n,) and (m,) int64, which of them start windows and resets had.
        practice: windows of what it learned from; older models have none, nor have those that ship.
    """

    task: Task
    tokenizer: Tokenizer
    dynamics: Dynamics
    start_frames: Tensor
    start_states: Tensor | None
    starts: Tensor
    reward_range: tuple[float, float] | None
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    trust: dict[str, Tensor] | None = None
    resets: Tensor | None = None
    start_actions: Tensor | None = None
    texts: tuple[str, ...] = ()
    start_texts: Tensor | None = None
    reset_texts: Tensor | None = None
    practice: Practice | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of all that it can tell of a dream beside its latents and frames."""
        return self.dynamics.readouts | ({"trust"} if self.trust else set())

    @property
    def conditions(self) -> frozenset[str]:
        """What its dreams are told beside frames: ``actions`` unless its dynamics say otherwise, ``text``."""
        return getattr(self.dynamics, "conditions", frozenset({"actions"}))

    @property
    def frames_per_step(self) -> int:
        """How many frames one step makes, and how many actions it takes; 1 unless its dynamics say otherwise."""
        return getattr(self.dynamics, "frames_per_step", 1)

    @cached_property
    def read_sizes(self) -> dict[str, int]:
        """How many numbers it reads off latents at any moment, by name: ``state``, ``features``."""
        read = self.dynamics.read(self.dynamics.begin(self.starts[:1]))
        return {name: value.shape[1] for name, value in read.items()}

    @property
    def fewest(self) -> int:
        """Frames that a dream begins with, at least; where it begins with fewer than the context they stood still."""
        return getattr(self.dynamics, "fewest", self.starts.shape[1])

    @property
    def takes_words(self) -> bool:
        """Whether each dream can be told words of its own; a published model's text stands beside its weights."""
        return getattr(self.dynamics, "embed_text", None) is not None

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """(b, l, e): b texts as the dynamics take them; "" tells nothing.

        Raises:
            ProcosmError: they take none.
        """
        embed = getattr(self.dynamics, "embed_text", None)
        if embed is None:
            told = ", ".join(sorted(self.conditions)) or "frames alone"
            raise ProcosmError(f"the world model of {self.task.id} takes no words: it is told {told}")
        return embed(texts).to(self.starts)

    def text_condition(self, texts: Sequence[str]) -> Condition | None:
        """The condition of b dreams with these instructions; None of a model that takes none of each dream's own."""
        return Condition(text=self.embed_text(texts)) if self.takes_words else None

    def encode(self, frames: np.ndarray) -> Tensor:
        """(…, H, W, 3) uint8 real frames to (…, c, h, w) latents, each frame coded alone."""
        return encode(self.tokenizer, torch.from_numpy(frames), self.starts.device)

    def read(self, name: str, latents: Tensor) -> Tensor:
        """(b, s), what the model reads off (b, t, c, h, w) latents of real frames: ``state``, or ``features``.

        Raises:
            ProcosmError: it has not learned to.
        """
        if name not in self.dynamics.readouts:
            remedy = "train it on a log that has states" if name == "state" else "one trained without states does"
            raise ProcosmError(
                f"the world model of {self.task.id} tells no {name} (it tells "
                f"{', '.join(sorted(self.capabilities))}): {remedy}"
            )
        return read_off(self.dynamics, name, latents)

    @one_thread()
    def begin(self, latents: Tensor, condition: Condition | None = None) -> Memory:
        """As :meth:`interface.Dynamics.begin`, on one thread."""
        return self.dynamics.begin(latents, condition)

    @one_thread()
    def step(
        self,
        memory: Memory,
        action: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[Memory, Prediction]:
        """As :meth:`interface.Dynamics.step`, each part of a batch on a thread of its own."""
        spans = spans_of(len(action), action.device)
        if len(spans) == 1:
            return self.dynamics.step(memory, action, draws, sampling)

        def step(first: int, last: int) -> tuple[Tensor, Memory, Prediction]:
            slots = torch.arange(first, last, device=action.device)
            drawn = None if draws is None else draws[first:last]
            return slots, *self.dynamics.step(memory.take(slots), action[first:last], drawn, sampling)

        parts = run_each([partial(step, *span) for span in spans])
        for slots, part, _ in parts:
            memory.put(slots, part)
        predictions = [prediction for _, _, prediction in parts]
        readouts = {name: torch.cat([p.readouts[name] for p in predictions]) for name in predictions[0].readouts}
        shown = [p.frames for p in predictions if p.frames is not None]
        frames = torch.cat(shown) if shown else None
        return memory, Prediction(torch.cat([p.latents for p in predictions]), readouts, frames)

    @one_thread()
    def decode(self, latents: Tensor) -> Tensor:
        """(b, c, h, w) latents to (b, H, W, 3) uint8 frames, each part of a batch on a thread of its own."""
        parts = [latents[slice(*span), None] for span in spans_of(len(latents), latents.device)]
        tasks: list[Callable[[], Tensor]] = [partial(self.tokenizer.decode, part) for part in parts]
        return torch.cat([frames[:, -1] for frames in run_each(tasks)])


def spans_of(count: int, device: torch.device) -> list[tuple[int, int]]:
    """First dreams of the parts of ``count``, and their ends; on a device that is no CPU they are one.

    They depend on ``count`` alone, because a product's last bits depend on how many rows it has: the same dreams have
    the same bits with any number of threads.
    """
    parts = min(MOST_PARTS, max(1, count // SMALLEST_PART)) if device.type == "cpu" else 1
    return [(count * part // parts, count * (part + 1) // parts) for part in range(parts)]
