"""The names every other part of procosm needs to know about a world model, and nothing more.

Axis letters, used at every reshape of this package:
b batch · t frame · h, w height and width · c channel · k attention head · d model width · a action · s true state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What is known, beside the latents, of the past that a memory begins with.

    Attributes:
        actions: (b, t - 1, a), what was done between t latents, in the task's own units, NaN where nobody knows; None
            where nothing is known, as when a dream begins from frames alone.
        text: (b, l, e), embedded tokens of what is said of the dream, for models that take a text.
    """

    actions: Tensor | None = None
    text: Tensor | None = None


Solver = Literal["euler", "dpm++", "unipc", "consistency"]
"""How denoising steps are joined, see :class:`Sampling`."""


@dataclass(frozen=True)
class Sampling:
    """How the next latents are drawn.

    Attributes:
        steps: denoising steps, from 1 up; 1 takes the mean, or the most probable tokens, and draws nothing. More than 1
            makes a model of tokens draw each of them.
        solver: of denoising models. ``euler``: first order; ``dpm++`` and ``unipc``: second order, from the steps
            before, at the same cost; ``consistency``: for models distilled to few steps, draws noise at each.
        churn: of ``euler``: by how much noise is renewed on the way, all steps together; 0 draws none.
        guidance: of denoising models: how far a prediction is moved away from what the model expects of no action, or
            of its negative text; None leaves it as the model has it.
        temperature: of tokens that are drawn; above 0. Below 1 they are the more probable ones.
        top_k: how many of the most probable tokens may be drawn; None for all.
        top_p: the most probable tokens that have this share of the probability together may be drawn.
    """

    steps: int = 1
    solver: Solver = "euler"
    churn: float = 0.0
    guidance: float | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0


MEAN = Sampling()


@dataclass(frozen=True)
class Prediction:
    """What one action leads to.

    Attributes:
        latents: (b, c, h, w), the next latents, standardised.
        readouts: what else the model tells of this step, by name, and no more than it has learned to tell. ``reward``:
            (b,), in the task's own units. ``termination``: (b,), probability that the episode ends here. ``success``:
            (b,), probability that this step is at the task's goal. ``state``: (b, s), estimate of the simulator's
            state, in its own units. ``features``: (b, f), compact, without units.
        frames: (b, k, H, W, 3) uint8, all frames of this step, of dynamics whose steps are k > 1 frames; the latents
            are then of the last one alone. None of others: their frames are decoded where somebody looks.
    """

    latents: Tensor
    readouts: Mapping[str, Tensor]
    frames: Tensor | None = None


@dataclass(frozen=True)
class LatentSpec:
    """What the latents of a tokenizer are like.

    Attributes:
        shape: (c, h, w) of one latent.
        frames_per_latent: k. The first latent stands for the first frame alone, every later one for the k frames after
            those before it: 1 + k n frames become 1 + n latents.
        vocabulary: how many different tokens there are, where each place of a latent is one; None where latents are
            continuous.
    """

    shape: tuple[int, int, int]
    frames_per_latent: int = 1
    vocabulary: int | None = None


class Memory(Protocol):
    """What a dynamics remembers of a batch of dreams. Only the dynamics that made it knows what is in it."""

    def take(self, slots: Tensor) -> Any:
        """The memory of some dreams, in the order of (k,) int64 slots; a copy."""

    def put(self, slots: Tensor, other: Any) -> None:
        """Replace what is remembered of the dreams in (k,) different slots by a memory of k dreams, in place."""


class Tokenizer(Protocol):
    """Frames to latents and back; causal in time."""

    spec: LatentSpec
    mixed: bool
    """Whether frames are decoded in bfloat16; see :class:`Dynamics`."""

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (b, t, h, w, 3) to standardised latents (b, t', c, h', w'); t as ``spec`` says."""

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (b, t', c, h', w') to uint8 (b, t, h, w, 3)."""


class DiscreteTokenizer(Tokenizer, Protocol):
    """A tokenizer whose ``spec`` has a vocabulary."""

    def quantize(self, latents: Tensor) -> Tensor:
        """Standardised latents (b, t', c, h', w') to the nearest tokens, int64 (b, t', h', w')."""

    def dequantize(self, tokens: Tensor) -> Tensor:
        """Tokens (b, t', h', w') to the standardised latents that they stand for, (b, t', c, h', w')."""


class Dynamics(Protocol):
    """The next latents, and what they mean, given what came before and an action.

    Where one step is k > 1 frames, and takes as many actions, dynamics say so by ``frames_per_step``.
    """

    context: int
    """How many latents of the past a memory can begin with: what is seen in a dream's first frames."""
    readouts: frozenset[str]
    """Names of all that :class:`Prediction` holds beside the latents."""
    mixed: bool
    """Whether products are taken in bfloat16: faster where ``precision.bfloat16_pays``, and equal to fewer digits."""

    def begin(self, latents: Tensor, condition: Condition | None = None) -> Any:
        """The memory of dreams that begin after real frames.

        Args:
            latents: (b, t, c, h, w), newest last. Of more than ``context`` the last count; of fewer, the first stands
                for those before it.
            condition: what else is known.
        """

    def read(self, memory: Any) -> Mapping[str, Tensor]:
        """The readouts that are told of a moment, not of the step that led there: ``state`` and ``features``."""

    def step(
        self,
        memory: Any,
        action: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[Any, Prediction]:
        """One step of every dream.

        Args:
            memory: what is remembered so far; not to be used afterwards, for it may have become the new one.
            action: (b, a), in the task's own units; (b, k, a) of dynamics whose steps are k > 1 frames.
            draws: b generators, from which each dream takes its random numbers and no other's; None draws nothing and
                takes the most probable path that the model knows.
            sampling: how to draw.

        Returns:
            what is remembered now, and what the actions led to.
        """


class DifferentiableDynamics(Dynamics, Protocol):
    """Dynamics whose mean step has a gradient, which policies can follow."""

    def step_with_gradient(self, memory: Any, action: Tensor) -> tuple[Any, Prediction]:
        """As ``step`` by the mean, and what comes of it has gradients by the actions and by what was remembered.

        The memory is left as it was. What ``begin`` gave has none: ``take`` it first.
        """
