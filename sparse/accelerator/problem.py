"""A layer in one training phase as a loop problem: seven bounds and three tensors (Procrustes, arXiv 2009.10976).

Dimension letters, in the order of every array here: R S filter rows and columns, P Q output rows and columns,
C input channels, K output channels, N samples of the minibatch.
Tensor order: [0] the sparse operand, [1] the other read-only operand, [2] the result that is read and written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from procosm.sparse.errors import SparseError

DIMENSIONS = "RSPQCKN"
R, S, P, Q, C, K, N = range(7)
PHASES = ("fw", "bw", "wu")
DATAFLOWS = ("CK", "CN", "KN", "CP", "KP", "PQ", "PN")


class Shape(StrEnum):
    """Which tensors a problem has: convolution or depthwise, forward, backward or (depthwise) weight update."""

    FORWARD = "fw"
    BACKWARD = "bw"
    DEPTHWISE_FORWARD = "dwfw"
    DEPTHWISE_BACKWARD = "dwbw"
    DEPTHWISE_UPDATE = "dwwu"


# A tensor is a tuple of axes, an axis a tuple of (dimension, step): the coordinate on it is the sum of step * index.
Axis = tuple[tuple[int, int], ...]
Tensor = tuple[Axis, ...]


def _plain(*dims: int) -> Tensor:
    return tuple(((dim, 1),) for dim in dims)


def _window(stride: int) -> Tensor:
    return ((P, stride), (R, 1)), ((Q, stride), (S, 1))


def tensors(shape: Shape, stride: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """The three tensors of a problem shape; stride > 1 spreads the sliding window of the forward input."""
    window = _window(stride)
    return {
        Shape.FORWARD: (_plain(R, S, C, K), window + _plain(C, N), _plain(P, Q, K, N)),
        Shape.BACKWARD: (_plain(R, S, C, K), window + _plain(K, N), _plain(P, Q, C, N)),
        Shape.DEPTHWISE_FORWARD: (_plain(R, S, C), window + _plain(C, N), _plain(P, Q, C, N)),
        Shape.DEPTHWISE_BACKWARD: (_plain(R, S, C), window + _plain(C, N), _plain(P, Q, C, N)),
        Shape.DEPTHWISE_UPDATE: (_plain(P, Q, C, N), window + _plain(C, N), _plain(R, S, C)),
    }[shape]


def extent(axis: Axis, tile: tuple[int, ...]) -> int:
    """Length of a tile on one axis: a sliding window of p positions and r taps covers step*(p-1) + r elements."""
    return 1 + sum(step * (tile[dim] - 1) for dim, step in axis)


@dataclass(frozen=True)
class Layer:
    """A convolution, depthwise convolution or linear layer as the hardware sees it (sizes in elements)."""

    name: str
    height: int
    """Input rows after the authors' convention: stride-2 layers are listed at output resolution."""
    width: int
    channels: int
    """Input channels C."""
    filters: int | None
    """Output channels K; None for a depthwise layer."""
    rows: int = 1
    """Filter rows R."""
    columns: int = 1
    """Filter columns S."""
    padding: tuple[int, int] = (0, 0)
    """Rows and columns of zeros on each side."""
    stride: tuple[int, int] = (1, 1)
    tokens: int = 1
    """Positions per sample a linear layer is applied to; they join N in the problem."""
    activation_density: float | None = None
    """Fraction of non-zero inputs of this layer, where it is known; None means the density asked for."""
    repeats: int = 1
    """Groups of a grouped convolution that run one after the other; 1 for an ordinary layer."""

    @classmethod
    def from_dims(cls, name: str, dims: list) -> Layer:
        """From the reference tables' `W,H,C,1,K,S,R,Wpad,Hpad,Wstride,Hstride` (K is "D" in a depthwise layer)."""
        if not isinstance(dims, (list, tuple)) or len(dims) != 11:
            raise SparseError(f"layer {name!r}: dims must list 11 values W,H,C,1,K,S,R,Wpad,Hpad,Wstride,Hstride")
        numbers = [value for index, value in enumerate(dims) if index != 4]
        sizes = numbers[:6] + numbers[8:] + ([dims[4]] if dims[4] != "D" else [])
        if not all(isinstance(v, int) and v >= 0 for v in numbers) or not all(
            isinstance(v, int) and v > 0 for v in sizes
        ):
            raise SparseError(
                f"layer {name!r}: dims {dims!r} must be positive integers (padding may be 0, K may be 'D')"
            )
        w, h, c, _, k, s, r, wpad, hpad, wstride, hstride = dims
        filters = None if k == "D" else k
        return cls(name, h, w, c, filters, r, s, (hpad, wpad), (hstride, wstride))

    @property
    def outputs(self) -> tuple[int, int]:
        """Output rows P and columns Q."""
        p = (self.height - self.rows + 2 * self.padding[0]) // self.stride[0] + 1
        q = (self.width - self.columns + 2 * self.padding[1]) // self.stride[1] + 1
        if p < 1 or q < 1:
            raise SparseError(f"layer {self.name!r}: a {self.rows}x{self.columns} filter does not fit its input")
        return p, q

    @property
    def weights(self) -> int:
        """Number of weights, biases left out."""
        return self.repeats * self.rows * self.columns * self.channels * (self.filters or 1)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample in one phase."""
        return self.weights * math.prod(self.outputs) * self.tokens

    @property
    def shape_key(self) -> tuple:
        """Layers with equal keys are the same problem: searched once."""
        return (self.height, self.width, self.channels, self.filters, self.rows, self.columns,
                self.padding, self.stride, self.tokens, self.activation_density, self.repeats)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One phase of one layer: bounds in the order RSPQCKN and which tensors they span."""

    shape: Shape
    bounds: tuple[int, ...]
    update: bool = False
    """True in the weight-update phase, whose sparse operand is the activation."""
    stride: int = 1
    """Step of the sliding window; 1 in the authors' model, which runs strided layers at output resolution."""
    padding: tuple[int, int] = (0, 0)
    """Zeros on each side of the window's two axes; only the corrected model subtracts them from the halo."""
    work: tuple[int, ...] = field(default=())
    """Bounds before spatial padding; the corrected model pads a bound to fill the array, idle PEs do no MACs."""

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return tensors(self.shape, self.stride)

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of the phase over the minibatch."""
        return math.prod(self.work or self.bounds)

    @property
    def padding_share(self) -> float:
        """Sparse operand with spatial padding over without; turns a mask's density into that of the true work."""
        work = self.work or self.bounds
        return math.prod(self.bounds[d] for d in self.sparse_dims) / math.prod(work[d] for d in self.sparse_dims)

    @property
    def iterations(self) -> int:
        """Points of the loop nest, padded ones included."""
        return math.prod(self.bounds)

    def sizes(self, tile: tuple[int, ...] | None = None) -> tuple[int, int, int]:
        """Elements of the three tensors' tiles (of the whole tensors without an argument)."""
        tile = tile or self.bounds
        sparse, other, result = (math.prod(extent(axis, tile) for axis in tensor) for tensor in self.tensors)
        return sparse, other, result

    @property
    def sparse_dims(self) -> tuple[int, ...]:
        """Dimensions of the sparse operand, in the row-major order its mask is stored in."""
        return tuple(axis[0][0] for axis in self.tensors[0])

    @property
    def mask_shape(self) -> tuple[int, ...]:
        return tuple(self.bounds[dim] for dim in self.sparse_dims)


def phase_problem(layer: Layer, phase: str, minibatch: int, *, strided: bool = False) -> Problem:
    """The loop problem of one phase (procrustes.md 2.2).

    Forward and backward multiply by the weights. The weight update of a dense layer is the forward problem with
    R<-P, S<-Q, P<-R, Q<-S, C<-N, K<-C, N<-K, in which the activation takes the weights' place.
    """
    p, q = layer.outputs
    n, r, s, c, k = minibatch * layer.tokens, layer.rows, layer.columns, layer.channels, layer.filters
    stride = max(layer.stride) if strided else 1
    if phase not in PHASES:
        raise SparseError(f"phase {phase!r} is unknown; choose one of {', '.join(PHASES)}")
    if k is None:
        shape = {"fw": Shape.DEPTHWISE_FORWARD, "bw": Shape.DEPTHWISE_BACKWARD, "wu": Shape.DEPTHWISE_UPDATE}[phase]
        return Problem(shape, (r, s, p, q, c, 1, n), phase == "wu", stride if phase == "fw" else 1, layer.padding)
    if phase == "wu":
        return Problem(Shape.FORWARD, (p, q, r, s, n, c, k), True, 1, layer.padding)
    shape = Shape.FORWARD if phase == "fw" else Shape.BACKWARD
    return Problem(shape, (r, s, p, q, c, k, n), False, stride if phase == "fw" else 1, layer.padding)


def spatial_dims(problem: Problem, dataflow: str) -> tuple[int, int]:
    """The two dimensions a dataflow's letters map onto the array in this problem (accelerator.md, formula 1)."""
    if dataflow not in DATAFLOWS:
        raise SparseError(f"dataflow {dataflow!r} is unknown; choose one of {', '.join(DATAFLOWS)}")
    if problem.shape in (Shape.DEPTHWISE_FORWARD, Shape.DEPTHWISE_BACKWARD, Shape.DEPTHWISE_UPDATE):
        letters = "CN" if dataflow == "CK" else dataflow.replace("K", "C")
    elif problem.update:
        letters = dataflow.translate(str.maketrans("KNCPQ", "NCKRS"))
    else:
        letters = dataflow
    return DIMENSIONS.index(letters[0]), DIMENSIONS.index(letters[1])
