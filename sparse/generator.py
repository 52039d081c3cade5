"""Initial weights that are computed when needed and never stored, after DropBack (arXiv 1806.06949).

Weight i of a parameter is a pure function of (seed, stream, i): word i % 4 of Philox-4x32-10 (Salmon et al., SC'11)
at counter (i // 4, stream), key = seed. Everything here is integer arithmetic or single IEEE additions, products,
quotients and square roots, so a weight has the same bits on every device.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from procosm.sparse.normal import quantile

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF

Distribution = Literal["uniform", "normal", "constant"]


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int], rounds: int = 10) -> Tensor:
    """Philox-4x32: four 32-bit words per counter.

    Args:
        counter: four int64 tensors (n,) that hold 32-bit words.
        key: two 32-bit words.

    Returns:
        int64 (n, 4), words in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # The product of two words wraps into the sign bit of an int64; the mask after the shift undoes that.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & _WORD) ^ c1 ^ k0, p1 & _WORD, ((p0 >> 32) & _WORD) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return torch.stack([c0, c1, c2, c3], dim=1)


def words(seed: int, stream: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """int64 (count,): random 32-bit words 0 to count - 1 of one stream (64 bits) of one seed (64 bits)."""
    low = torch.arange((count + 3) // 4, device=device)
    names = [torch.full_like(low, (stream >> shift) & _WORD) for shift in (0, 32)]
    drawn = philox((low & _WORD, low >> 32, names[0], names[1]), (seed & _WORD, (seed >> 32) & _WORD))
    return drawn.view(-1)[:count]


def stream_of(name: str) -> int:
    """A 64-bit stream number for a parameter name, the same in every process (Python's own hash is salted)."""
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Initial:
    """A recipe for W0 of one parameter: 5 scalars instead of a copy."""

    shape: tuple[int, ...]
    """Shape of the parameter."""
    kind: Distribution
    """Uniform or normal with mean 0, or one constant (norm weights, biases that start at 0)."""
    scale: float
    """Standard deviation; the value itself where kind is constant."""
    seed: int = 0
    """64 bits shared by the model."""
    stream: int = 0
    """64 bits of this parameter; see stream_of."""

    def tensor(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
        """W0, computed now: (shape); float32 before the last rounding to dtype."""
        if self.kind == "constant":
            return torch.full(self.shape, self.scale, device=device, dtype=dtype)
        drawn = words(self.seed, self.stream, math.prod(self.shape), device)
        if self.kind == "uniform":
            # 24 bits, so that 2u - 1 is exact in float32 and the product by the bound is the only rounding.
            unit = (drawn >> 8).to(torch.float32) * 2.0**-23 - 1.0
            flat = unit * (math.sqrt(3.0) * self.scale)
        else:
            flat = (quantile((drawn.to(torch.float64) + 0.5) * 2.0**-32) * self.scale).to(torch.float32)
        return flat.view(self.shape).to(dtype)


def as_found(name: str, values: Tensor, seed: int) -> Initial:
    """A uniform recipe with the scale ``values`` have now, whatever initialised them.

    Values that are all equal (norms, zero-initialised layers) become that constant, so a layer that must start at
    zero still does; others keep their root mean square and are to be drawn anew.

    Args:
        name: of the parameter; decides its stream.
        values: the parameter.
        seed: 64 bits shared by the model.
    """
    shape = tuple(values.shape)
    flat = values.detach().reshape(-1)
    if flat.numel() == 0 or bool((flat == flat[0]).all()):
        return Initial(shape, "constant", float(flat[0]) if flat.numel() else 0.0, seed, stream_of(name))
    return Initial(shape, "uniform", float(flat.double().square().mean().sqrt()), seed, stream_of(name))
