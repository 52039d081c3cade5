"""Layers whose weight is block-sparse: values, gradient and optimizer state exist only for the live blocks.

    layer = sparse.nn.Linear(1024, 1024, block=64, density=0.1)
    layer(x).sum().backward()            # layer.values.grad has the shape of layer.values

Under torch.autocast the products run in the autocast dtype.
"""

from itertools import product
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from procosm.sparse.errors import SparseError
from procosm.sparse.weight import BlockWeight

__all__ = ["BlockWeight", "Conv2d", "Conv3d", "Linear"]


class Linear(BlockWeight):
    """y = x Wᵀ + bias with a block-sparse W (out_features, in_features); otherwise torch.nn.Linear.

    Args:
        block: side b of a block, 16 to 128, at most the smaller size; sizes it does not divide are padded inside.
        density: share of the blocks kept, in (0, 1]; the places are drawn at random.
        capacity: slots to allocate, default what ``density`` needs; more leaves room for ``set_kept``.
        mode: "auto", "sparse" or "dense".
        generator: where places and initial values are drawn from.

    Raises:
        SparseError: density outside (0, 1], or a size smaller than a block (the message names a block that fits).
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, block: int = 64, density: float = 0.1,
        capacity: int | None = None, mode: str = "auto", generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__((out_features, in_features), bias, block, density, capacity, mode, generator)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return self.product(x)


class _Conv(BlockWeight):
    """Convolution as one product over unfolded windows; zero padding, no groups.

    The fan-in is ordered by kernel position, then channel: where the block divides the channels, each block belongs to
    one kernel position and one group of channels. Otherwise blocks straddle positions, which changes nothing else.
    """

    dims: int

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1, padding: int | tuple[int, ...] = 0, dilation: int | tuple[int, ...] = 1,
        bias: bool = True, block: int = 64, density: float = 0.1, capacity: int | None = None, mode: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:  # fmt: skip
        kernel = self._tuple(kernel_size)
        shape = (out_channels, in_channels * prod(kernel))
        super().__init__(shape, bias, block, density, capacity, mode, generator)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.padding, self.dilation = self._tuple(stride), self._tuple(padding), self._tuple(dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, *size) to (batch, out_channels, *size of the output)."""
        self._check(x)
        pads = [side for p in reversed(self.padding) for side in (p, p)]
        x = functional.pad(x.movedim(1, -1), [0, 0, *pads])  # (b, *size, c)
        windows = [x[self._window(offset, x.shape[1:-1])] for offset in product(*map(range, self.kernel_size))]
        return self.product(torch.cat(windows, -1)).movedim(-1, 1)

    @property
    def weight(self) -> Tensor:
        """(out_channels, in_channels, *kernel_size), as torch stores it; see BlockWeight."""
        return self.to_dense().reshape(self.out_channels, *self.kernel_size, self.in_channels).movedim(-1, 1)

    def _check(self, x: Tensor) -> None:
        if x.ndim != self.dims + 2 or x.shape[1] != self.in_channels:
            wanted = ", ".join(["batch", str(self.in_channels), *["size"] * self.dims])
            raise SparseError(f"x is {tuple(x.shape)}, this convolution takes ({wanted}): check the layer before it")
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        if any(s + 2 * p < r for s, p, r in zip(x.shape[2:], self.padding, reach, strict=True)):
            raise SparseError(f"x is {tuple(x.shape)}, smaller than the kernel's reach {tuple(reach)}: pad it")

    def _window(self, offset: tuple[int, ...], size: torch.Size) -> tuple[slice, ...]:
        cuts = [slice(None)]
        geometry = zip(offset, size, self.kernel_size, self.stride, self.dilation, strict=True)
        for o, extent, kernel, stride, dilation in geometry:
            last = (extent - dilation * (kernel - 1) - 1) // stride * stride
            cuts.append(slice(o * dilation, o * dilation + last + 1, stride))
        return tuple(cuts)

    def _tuple(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        return (value,) * self.dims if isinstance(value, int) else tuple(value)


class Conv2d(_Conv):
    """torch.nn.Conv2d with a block-sparse weight; out_channels and the whole fan-in are padded to blocks."""

    dims = 2


class Conv3d(_Conv):
    """torch.nn.Conv3d with a block-sparse weight; out_channels and the whole fan-in are padded to blocks."""

    dims = 3
