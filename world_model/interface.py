"""The names every other part of procosm needs to know about a world model, and nothing more.

Axis letters, used at every reshape of this package:
b batch · t frame · h, w height and width · c channel · k attention head · d model width · a action · s true state.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """What a dream remembers of itself.

    Attributes:
        latents: (b, context, c, h, w), the most recent latents, newest last; standardised (mean 0, std 1 per channel).
        estimate: (b, s), what ``Dynamics.estimate`` says of them, where it is known: it is not worked out again.
        actions: (b, context - 1, a), what was done between them, in the task's own units, NaN where nobody knows; None
            where nothing is known, as when a dream begins from frames alone.
    """

    latents: Tensor
    estimate: Tensor | None = None
    actions: Tensor | None = None

    def taken(self, action: Tensor) -> Tensor:
        """(b, context, a): what is done at each latent, given (b, a), what is done at the newest."""
        b, k = self.latents.shape[:2]
        past = action.new_full((b, k - 1, action.shape[1]), torch.nan) if self.actions is None else self.actions
        return torch.cat([past, action[:, None]], dim=1)

    def after(self, action: Tensor, prediction: "Prediction") -> "State":
        """What the dream remembers once (b, a) has led to this."""
        latents = torch.cat([self.latents[:, 1:], prediction.latent[:, None]], dim=1)
        return State(latents, prediction.state, self.taken(action)[:, 1:])


@dataclass(frozen=True)
class Prediction:
    """What one action leads to.

    Attributes:
        latent: (b, c, h, w), the next latent, standardised.
        reward: (b,), in the task's own units.
        termination: (b,), probability that the episode ends here.
        state: (b, s), estimate of the task's true state, in its own units.
    """

    latent: Tensor
    reward: Tensor
    termination: Tensor
    state: Tensor


class Tokenizer(Protocol):
    """Frames to latents and back; causal in time."""

    latent_shape: tuple[int, int, int]
    mixed: bool
    """Whether frames are decoded in bfloat16; see :class:`Dynamics`."""

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (b, t, h, w, 3) to standardised latents (b, t', c, h', w')."""

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (b, t', c, h', w') to uint8 (b, t, h, w, 3)."""


class Dynamics(Protocol):
    """The next latent, reward, termination and state, given the last few latents and an action."""

    context: int
    mixed: bool
    """Whether products are taken in bfloat16: faster where ``precision.bfloat16_pays``, and equal to fewer digits."""

    def predict(self, state: State, action: Tensor, noise: Tensor | None = None, steps: int = 1) -> Prediction:
        """One step of imagination.

        Args:
            state: the last ``context`` latents, and what was done between them.
            action: (b, a), in the task's own units.
            noise: (b, c, h, w) standard normal draws the sampler starts from; None starts from zero (the mean).
            steps: denoising steps, from 1 up.
        """

    def estimate(self, state: State) -> Tensor:
        """(b, s), the true state seen in the last ``context`` latents, in the task's own units."""
