"""Keys and values of the tokens that a batch of dreams has seen, each dream as far as it is.

A dream's tokens are counted from its first one on, and never begin anew: token p is place p mod n of frame p // n. Its
keys and values lie at p modulo the capacity, so that a window that slides for ever needs no more room than it sees.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cache:
    """Of b dreams, each of which is overwritten where it stands.

    Attributes:
        keys, values: (layers, b, kv heads, capacity, head_dim).
        positions: (b, capacity), which token lies where; -1 where none does.
        frame_keys, frame_values: (layers, b, kv heads, frames + text tokens, head_dim), those of what is done before
            each frame, and of what is said.
        frame_positions: (b, frames), which frame.
        lengths: (b,), tokens of each dream whose keys and values hold; what lies beyond is a draft that was refused.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    frame_keys: Tensor
    frame_values: Tensor
    frame_positions: Tensor
    lengths: Tensor

    @classmethod
    def empty(
        cls, layers: int, batch: int, heads: int, capacity: int, frames: int, text: int, like: Tensor, dim: int
    ) -> "Cache":
        """Room for that many tokens, frames and tokens of text of each dream; dtype and device as those of ``like``."""
        whole = like.new_zeros(2, layers, batch, heads, capacity, dim)
        acted = like.new_zeros(2, layers, batch, heads, frames + text, dim)
        nowhere = [torch.full((batch, size), -1, device=like.device) for size in (capacity, frames)]
        lengths = torch.zeros(batch, dtype=torch.int64, device=like.device)
        return cls(whole[0], whole[1], nowhere[0], acted[0], acted[1], nowhere[1], lengths)

    def place(self, positions: Tensor) -> Tensor:
        """Say that tokens (b, q) are about to be written; returns (b, q), where."""
        at = positions % self.positions.shape[1]
        self.positions.scatter_(1, at, positions)
        return at

    def place_frames(self, frames: Tensor) -> Tensor:
        """The same of frames (b, t)."""
        at = frames % self.frame_positions.shape[1]
        self.frame_positions.scatter_(1, at, frames)
        return at

    def write(self, layer: int, at: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put (b, kv heads, q, head_dim) keys and values of a layer at ``place``; returns all that lie there."""
        return _written(self.keys[layer], at, keys), _written(self.values[layer], at, values)

    def write_frames(self, layer: int, at: Tensor, keys: Tensor, values: Tensor) -> None:
        """The same of what is done before frames, at ``place_frames``, or of text behind all frames."""
        _written(self.frame_keys[layer], at, keys)
        _written(self.frame_values[layer], at, values)

    def frames_of(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, of what is done before frames and of what is said."""
        return self.frame_keys[layer], self.frame_values[layer]

    def take(self, slots: Tensor) -> "Cache":
        """The cache of some dreams, in the order of (k,) slots; a copy."""
        return Cache(**{name: x[:, slots] if x.ndim == 5 else x[slots] for name, x in vars(self).items()})

    def put(self, slots: Tensor, other: "Cache") -> None:
        """Replace the dreams in (k,) slots by those of another cache of the same capacity."""
        for name, x in vars(self).items():
            if x.ndim == 5:
                x[:, slots] = getattr(other, name)
            else:
                x[slots] = getattr(other, name)


def _written(there: Tensor, at: Tensor, new: Tensor) -> Tensor:
    """(b, kv heads, capacity, head_dim) with (b, kv heads, q, head_dim) at (b, q), in place."""
    return there.scatter_(2, at[:, None, :, None].expand_as(new), new.to(there.dtype))
