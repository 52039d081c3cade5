"""The three products of a training step as torch operators that compile, trace and differentiate.

They are operators of ``torch.library``, so dynamo sees one node each instead of the loops inside; defined by their
schemas, since ``custom_op`` adds a hundred microseconds of checks to a layer's step. The norms of untracked
block gradients arrive by an ordinary route: as the gradient of ``sink``, a tensor of zeros the forward never reads.
Under forward-mode differentiation (torch.func.jvp) the product is the dense one.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from procosm.sparse import cpu
from procosm.sparse.errors import SparseError
from procosm.sparse.matrix import BlockSparse, Layout, to_dense

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_SCHEMAS = {
    "forward": "(Tensor x, Tensor values, Tensor rows, Tensor cols, Tensor row_ptr, Tensor perm, Tensor col_ptr, "
    "Tensor? bias, Tensor? sink, Tensor? probe_rows, Tensor? probe_cols) -> Tensor",
    "data_gradient": "(Tensor grad, Tensor values, Tensor rows, Tensor perm, Tensor col_ptr) -> Tensor",
    "weight_gradient": "(Tensor grad, Tensor x, Tensor rows, Tensor cols, Tensor row_ptr) -> Tensor",
    "block_norms": "(Tensor grad, Tensor x, Tensor rows, Tensor cols, int block) -> Tensor",
}
for _name, _schema in _SCHEMAS.items():
    torch.library.define(f"procosm_sparse::{_name}", _schema, tags=torch.Tag.pt2_compliant_tag)
_OPS = torch.ops.procosm_sparse


def linear(
    x: Tensor, values: Tensor, index: Layout, bias: Tensor | None = None, sink: Tensor | None = None,
    probed: tuple[Tensor, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """y (..., out) = x (..., in) Wᵀ + bias, differentiable in x, values, bias.

    Args:
        values: (c, b, b) blocks placed by ``index``.
        sink: float32 (Gm, Gn) zeros that require a gradient; backward adds to it the Frobenius norms of the gradient
            of the ``probed`` blocks, without ever storing those blocks.
        probed: int32 rows and cols (m,) of the blocks to probe.

    Raises:
        SparseError: wrong width, dtype or device.
    """
    check(x, values, index, bias)
    if forward_ad._current_level >= 0:  # the operators have no rule for forward mode and would pass on zeros
        if sink is not None:
            raise SparseError("an armed layer measures in the backward pass: call take_norms() before torch.func.jvp")
        shape = (index.row_ptr.numel() - 1) * values.shape[-1], x.shape[-1]
        return functional.linear(x, to_dense(BlockSparse(**vars(index), values=values, shape=shape)), bias)
    flat = x.reshape(-1, x.shape[-1])
    if flat.stride(-1) != 1 or flat.device.type != "cpu":  # the CPU path reads strided rows, the kernels do not
        flat = flat.contiguous()
    rows, cols = (None, None) if probed is None else probed
    y = _OPS.forward(
        flat, values, index.rows, index.cols, index.row_ptr, index.perm, index.col_ptr, bias, sink, rows, cols
    )
    return y.view(*x.shape[:-1], y.shape[-1])


def check(x: Tensor, values: Tensor, index: Layout, bias: Tensor | None) -> None:
    """Raise SparseError with the remedy when the operands do not fit each other."""
    b = values.shape[-1]
    width, out = (index.col_ptr.numel() - 1) * b, (index.row_ptr.numel() - 1) * b
    if x.ndim == 0:
        raise SparseError(f"x is a single number, the weight takes {width} features: pass (..., {width})")
    if x.shape[-1] != width:
        raise SparseError(f"x has {x.shape[-1]} features, the weight takes {width}: check the layer before this one")
    if x.dtype not in DTYPES:
        raise SparseError(f"x is {x.dtype}: convert it with x.to(...) to one of {DTYPES}")
    for name, tensor in (("values", values), ("bias", bias)):
        if tensor is None:
            continue
        if tensor.dtype != x.dtype:
            raise SparseError(f"x is {x.dtype} but {name} {tensor.dtype}: convert one, or run under torch.autocast")
        if tensor.device != x.device:
            raise SparseError(f"x is on {x.device} but {name} on {tensor.device}: move one with .to(device)")
    if index.rows.device != x.device:
        raise SparseError(f"x is on {x.device} but the block index on {index.rows.device}: move one with .to(device)")
    if bias is not None and tuple(bias.shape) != (out,):
        raise SparseError(f"bias has shape {tuple(bias.shape)}, the weight gives {out} features: pass ({out},)")


def backend(tensor: Tensor) -> ModuleType:
    """The module that implements reference.py for the tensor's device."""
    if tensor.device.type == "cpu":
        return cpu
    if tensor.device.type == "cuda":
        from procosm.sparse import kernels

        return kernels
    raise SparseError(f"no kernels for device {tensor.device}: move the model to cpu or cuda")


@torch.library.impl("procosm_sparse::forward", "CompositeExplicitAutograd")
def _forward(
    x: Tensor, values: Tensor, rows: Tensor, cols: Tensor, row_ptr: Tensor, perm: Tensor, col_ptr: Tensor,
    bias: Tensor | None, sink: Tensor | None, probe_rows: Tensor | None, probe_cols: Tensor | None,
) -> Tensor:  # fmt: skip
    return backend(x).forward(x, values, cols, row_ptr, bias)


@torch.library.register_fake("procosm_sparse::forward")
def _(x, values, rows, cols, row_ptr, perm, col_ptr, bias, sink, probe_rows, probe_cols):
    return x.new_empty(x.shape[0], (row_ptr.shape[0] - 1) * values.shape[-1])


@torch.library.impl("procosm_sparse::data_gradient", "CompositeExplicitAutograd")
def _data_gradient(grad: Tensor, values: Tensor, rows: Tensor, perm: Tensor, col_ptr: Tensor) -> Tensor:
    return backend(grad).data_gradient(grad, values, rows, perm, col_ptr)


@torch.library.register_fake("procosm_sparse::data_gradient")
def _(grad, values, rows, perm, col_ptr):
    return grad.new_empty(grad.shape[0], (col_ptr.shape[0] - 1) * values.shape[-1])


@torch.library.impl("procosm_sparse::weight_gradient", "CompositeExplicitAutograd")
def _weight_gradient(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, row_ptr: Tensor) -> Tensor:
    return backend(grad).weight_gradient(grad, x, rows, cols, row_ptr)


@torch.library.register_fake("procosm_sparse::weight_gradient")
def _(grad, x, rows, cols, row_ptr):
    b = grad.shape[1] // (row_ptr.shape[0] - 1)
    return x.new_empty(rows.shape[0], b, b)


@torch.library.impl("procosm_sparse::block_norms", "CompositeExplicitAutograd")
def _block_norms(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, block: int) -> Tensor:
    return backend(grad).block_norms(grad, x, rows, cols, block)


@torch.library.register_fake("procosm_sparse::block_norms")
def _(grad, x, rows, cols, block):
    return grad.new_empty(rows.shape[0], dtype=torch.promote_types(grad.dtype, torch.float32))


def block_norms(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, block: int) -> Tensor:
    """float32 (m,) Frobenius norms of gradᵀ x at the blocks (rows[k], cols[k]); grad (T, out), x (T, in)."""
    return _OPS.block_norms(grad.contiguous(), x.contiguous(), rows, cols, block)


def _remember(ctx, inputs, output) -> None:
    x, values, rows, cols, row_ptr, perm, col_ptr, _bias, sink, probe_rows, probe_cols = inputs
    ctx.save_for_backward(x, values, rows, cols, row_ptr, perm, col_ptr, probe_rows, probe_cols)
    ctx.grid = None if sink is None else tuple(sink.shape)


def _backward(ctx, grad):
    x, values, rows, cols, row_ptr, perm, col_ptr, probe_rows, probe_cols = ctx.saved_tensors
    needs = ctx.needs_input_grad
    grad = grad.contiguous()  # an expanded gradient, as of .sum(), has stride 0
    dx = _OPS.data_gradient(grad, values, rows, perm, col_ptr) if needs[0] else None
    dv = _OPS.weight_gradient(grad, x, rows, cols, row_ptr) if needs[1] else None
    bias = grad.sum(0) if needs[7] else None
    norms = None
    if ctx.grid is not None and needs[8]:
        found = _OPS.block_norms(grad, x, probe_rows, probe_cols, values.shape[-1])
        norms = found.new_zeros(ctx.grid).index_put((probe_rows.long(), probe_cols.long()), found).float()
    return dx, dv, None, None, None, None, None, bias, norms, None, None


torch.library.register_autograd("procosm_sparse::forward", _backward, setup_context=_remember)


def _once(ctx, grad):
    raise SparseError(
        "a sparse product is differentiated once: for a second derivative take layer.to_dense(), or torch.func.jvp"
    )


for _name in ("data_gradient", "weight_gradient", "block_norms"):
    torch.library.register_autograd(f"procosm_sparse::{_name}", _once)  # else torch would pass on zeros
