"""Many real frames at once, seen as a policy expects: what ``envs.perceive`` does for one env, for a batch."""

import numpy as np
import torch

from procosm.agents.policy.worlds import PIXEL_STACK
from procosm.world_model.checkpoint import WorldModel


class Eyes:
    """Turns frames into a policy's observations, remembering for each slot what it saw before.

    Args:
        model: whose tokenizer and state estimate are used. observation: ``state``, ``latent`` or ``pixels``.
        slots: how many episodes are watched side by side.
    """

    def __init__(self, model: WorldModel, observation: str, slots: int) -> None:
        self.model = model
        self.observation = observation
        self._latents = model.starts.new_zeros((slots, *model.starts.shape[1:]))
        height, width, colours = model.task.frame_shape
        self._pixels = np.zeros((slots, height, width, colours * PIXEL_STACK), np.uint8)

    @torch.inference_mode()
    def see(self, slots: np.ndarray, frames: np.ndarray, first: bool) -> np.ndarray:
        """What the policy sees.

        Args:
            slots: (k,) int64, whose frames these are. frames: (k, H, W, 3) uint8.
            first: whether they begin new episodes: then a first latent fills the context, and blank frames the stack.

        Returns:
            (k, s), (k, context, c, h, w) or (k, H, W, 9).
        """
        if self.observation == "pixels":
            before = np.zeros_like(self._pixels[slots]) if first else self._pixels[slots]
            self._pixels[slots] = np.concatenate((before[..., 3:], frames), axis=-1)
            return self._pixels[slots]
        index = torch.from_numpy(slots).to(self._latents.device)
        seen = self.model.tokenizer.encode(
            torch.from_numpy(frames)[:, None].to(self._latents.device)
        )  # (k, 1, c, h, w)
        before = seen.expand(-1, self._latents.shape[1] - 1, -1, -1, -1) if first else self._latents[index][:, 1:]
        self._latents[index] = torch.cat((before, seen), dim=1)
        if self.observation == "latent":
            return self._latents[index].cpu().numpy()
        return self.model.states(self._latents[index]).cpu().numpy()


def before_first(model: WorldModel, frames: np.ndarray) -> torch.Tensor:
    """(k, context, c, h, w): the latents with which ``Eyes`` begins episodes whose first frames are (k, H, W, 3)."""
    with torch.inference_mode():
        seen = model.tokenizer.encode(torch.from_numpy(frames)[:, None].to(model.starts.device))
    return seen.expand(-1, model.starts.shape[1], -1, -1, -1).clone()
