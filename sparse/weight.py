"""A block-sparse weight as a module: what Linear and the convolutions share.

``values`` is an ordinary parameter, so gradient clipping, AMP, DDP and any optimizer work on it. The padding slots get
zero gradients and stay zero. Only live blocks enter the state_dict, which loads into any capacity that holds them, and
pickles (``stored``).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from procosm.sparse import autograd, cost, machines, matrix, stored
from procosm.sparse.errors import SparseError
from procosm.sparse.sharded import whole, write

MODES = ("auto", "sparse", "dense")


class BlockWeight(nn.Module):
    """A block-sparse weight (out, in) and its bias: what Linear and the convolutions share.

    Attributes:
        shape, padded: (out, in), and both rounded up to whole blocks; what lies between is zero and learns nothing.
        values: parameter (c, b, b), the slots of matrix.BlockSparse; padding slots stay zero.
        rows, cols, row_ptr, perm, col_ptr: int32 buffers, see matrix.Layout.
        mode: "auto" lets the cost model choose between sparse and dense products, the other two force one.
    """

    rows: Tensor
    cols: Tensor
    row_ptr: Tensor
    perm: Tensor
    col_ptr: Tensor

    def __init__(
        self, shape: tuple[int, int], bias: bool, block: int, density: float, capacity: int | None, mode: str,
        generator: torch.Generator | None,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0.0 < density <= 1.0:
            raise SparseError(f"density {density} is outside (0, 1]: it is the share of blocks to keep")
        if mode not in MODES:
            raise SparseError(f"unknown mode {mode!r}: choose one of {MODES}")
        padded = matrix.padded_shape(shape, block)
        gm, gn = matrix.grid_of(padded, block)
        kept = matrix.random_kept(padded, block, max(density, 1 / (gm * gn)), generator)
        n = int(kept.sum())
        capacity = n if capacity is None else capacity
        if not n <= capacity <= gm * gn:
            raise SparseError(f"capacity {capacity} does not hold {n} of {gm * gn} blocks: choose {n} to {gm * gn}")
        self.shape, self.padded, self.block, self.mode = shape, padded, block, mode
        self.values = nn.Parameter(torch.empty(capacity, block, block))
        self.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
        for name, tensor in vars(matrix.layout(kept, capacity)).items():
            self.register_buffer(name, tensor, persistent=False)
        self._sink: Tensor | None = None
        self._probed: tuple[Tensor, Tensor] | None = None
        self._zeros: Tensor | None = None
        self._settle(n)
        self._apply(lambda tensor: tensor)  # the index was drawn on the CPU
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw values and bias anew; the pattern stays. On the meta device nothing is drawn."""
        if self.values.is_meta:
            return
        device = self.values.device if generator is None else generator.device
        settings: dict[str, Any] = {"generator": generator, "device": device, "dtype": self.values.dtype}
        # Variance follows the blocks a row really has, so that activations keep the scale nn.Linear gives them.
        kept = self.kept()
        bound = 1 / math.sqrt(self.shape[1] * max(self.density, 1 / kept.numel()))
        weight = (torch.rand(self.shape, **settings) * 2 - 1) * bound
        self.adopt(weight, kept)
        if self.bias is not None:
            self.bias.copy_((torch.rand(self.shape[0], **settings) * 2 - 1) * bound)

    @property
    def index(self) -> matrix.Layout:
        """Where the blocks lie."""
        return matrix.Layout(self.rows, self.cols, self.row_ptr, self.perm, self.col_ptr)

    @property
    def capacity(self) -> int:
        """Slots there are."""
        return self.values.shape[0]

    @property
    def live_blocks(self) -> int:
        """Blocks kept now; known on the host, so reading it waits for the device only after a foreign write."""
        if self._counted[0] is not self.row_ptr or self._counted[1] != _version(self.row_ptr):
            self._settle(int(self.row_ptr[-1]))  # synchronize!
        return self._live

    @property
    def density(self) -> float:
        """Share of the grid that is kept."""
        return self.live_blocks / ((self.row_ptr.numel() - 1) * (self.col_ptr.numel() - 1))

    def as_matrix(self) -> matrix.BlockSparse:
        """The padded weight as a BlockSparse that shares this layer's memory."""
        return matrix.BlockSparse(**vars(self.index), values=whole(self.values), shape=self.padded)

    def kept(self) -> Tensor:
        """bool (Gm, Gn): which blocks are live."""
        return matrix.kept_of(self.index)

    def to_dense(self) -> Tensor:
        """The weight (out, in) with zeros where no block is; differentiable in ``values``."""
        dense = matrix.to_dense(self.as_matrix())
        return dense if self.padded == self.shape else dense[: self.shape[0], : self.shape[1]]

    @property
    def weight(self) -> Tensor:
        """``to_dense()``, for modules that read their layers' weights instead of calling them; writing to it has no
        effect.
        """
        return self.to_dense()

    @torch.no_grad()
    def set_kept(self, mask: Tensor, new_values: float | Tensor = 0.0) -> Tensor:
        """Keep exactly the blocks of ``mask`` bool (Gm, Gn), in place and within capacity.

        Args:
            new_values: what fresh blocks start from: a number, or a dense (out, in) weight to read them from.

        Returns:
            int64 (c,): for each slot the slot its block had before, -1 for a fresh or empty one. Whatever an optimizer
            stores per slot moves the same way: ``matrix.carry(stored, returned)``. The gradient has moved already.

        Raises:
            SparseError: the mask has another shape, or more blocks than the capacity.
        """
        grid = (self.row_ptr.numel() - 1, self.col_ptr.numel() - 1)
        if mask.dtype != torch.bool or tuple(mask.shape) != grid:
            raise SparseError(f"mask must be bool {grid}, one entry a block; got {mask.dtype} {tuple(mask.shape)}")
        n = int(mask.sum())  # synchronize!
        if n > self.capacity:
            raise SparseError(f"{n} blocks do not fit {self.capacity} slots: build the layer with capacity={n} or more")
        old, new = self.index, matrix.layout(mask.to(self.rows.device), self.capacity)
        source = matrix.sources(old, new)
        fresh = (matrix.live(new) & (source < 0)).view(-1, 1, 1)
        if isinstance(new_values, Tensor):
            start = matrix.from_dense(
                self._pad(new_values.to(self.values.device, self.values.dtype)),
                mask.to(self.rows.device),
                self.block,
                self.capacity,
            )
            new_values = start.values
        write(self.values, matrix.carry(whole(self.values), source) + fresh * new_values)
        if self.values.grad is not None:
            write(self.values.grad, matrix.carry(whole(self.values.grad), source))
        self._place(new, n)
        return source

    @torch.no_grad()
    def adopt(self, weight: Tensor, kept: Tensor) -> None:
        """Take pattern ``kept`` bool (Gm, Gn) and its values from a dense weight (out, in); n must fit the capacity."""
        dense = self._pad(weight.detach().to(self.values))
        start = matrix.from_dense(dense, kept.to(self.rows.device), self.block, self.capacity)
        self.values.copy_(start.values)
        self._place(matrix.Layout(start.rows, start.cols, start.row_ptr, start.perm, start.col_ptr), start.n)

    def probe(self, x: Tensor, grad_y: Tensor, where: Tensor | None = None) -> Tensor:
        """float32 (Gm, Gn): Frobenius norm of the gradient of each untracked block, 0 at kept ones.

        Args:
            x: (..., in), what came in; grad_y: (..., out), the gradient of what went out.
            where: bool (Gm, Gn), probe only these (a random share of them, say).
        """
        rows, cols = self._untracked(where)
        flat_x, flat_grad = x.reshape(-1, x.shape[-1]), grad_y.reshape(-1, grad_y.shape[-1])
        flat_x = functional.pad(flat_x, (0, self.padded[1] - self.shape[1]))
        flat_grad = functional.pad(flat_grad, (0, self.padded[0] - self.shape[0]))
        norms = autograd.block_norms(flat_grad, flat_x, rows, cols, self.block)
        found = torch.zeros(self.row_ptr.numel() - 1, self.col_ptr.numel() - 1, device=x.device, dtype=torch.float32)
        return found.index_put_((rows.long(), cols.long()), norms.float())

    def arm(self, where: Tensor | None = None) -> None:
        """Measure the gradient norms of untracked blocks (those of ``where``) in the backward passes from now on."""
        grid = (self.row_ptr.numel() - 1, self.col_ptr.numel() - 1)
        self._probed = self._untracked(where)
        self._sink = torch.zeros(grid, dtype=torch.float32, device=self.values.device, requires_grad=True)

    def take_norms(self) -> Tensor:
        """Disarm and return float32 (Gm, Gn): the norms found since ``arm``, summed over backward passes; 0 if none."""
        if self._sink is None:
            raise SparseError("nothing was probed: call arm() before the forward pass")
        norms = torch.zeros_like(self._sink) if self._sink.grad is None else self._sink.grad
        self._sink = self._probed = None
        return norms.detach()

    def arm_whole(self) -> None:
        """Keep the gradient of the whole weight, untracked blocks included, in the backward passes from now on.

        It adds up over them, which norms do not; it takes the memory of a dense weight and its gradient.
        """
        self._zeros = torch.zeros(self.padded, dtype=self.values.dtype, device=self.values.device, requires_grad=True)

    def take_gradient(self) -> Tensor:
        """Disarm and return (out, in), padded: the gradient summed over backward passes since ``arm_whole``."""
        if self._zeros is None:
            raise SparseError("no gradient was kept: call arm_whole() before the forward pass")
        gradient = torch.zeros_like(self._zeros) if self._zeros.grad is None else self._zeros.grad
        self._zeros = None
        return gradient.detach()

    def choice(self, device: str, dtype: torch.dtype) -> cost.Choice:
        """What the cost model says about this pattern; ``choice(...).reason`` is a sentence."""
        return self._choices[cost.key(device, dtype)]

    def product(self, x: Tensor) -> Tensor:
        """x (..., in) Wᵀ + bias, sparse or dense as ``mode`` and the cost model say; both give the same result."""
        device = x.device.type
        values: Tensor = self.values
        bias: Tensor | None = self.bias
        if device != values.device.type:  # before autocast, which does not know every device
            raise SparseError(f"x is on {x.device} but the weight on {values.device}: move one with .to(device)")
        if device == "meta":
            return x.new_empty(*x.shape[:-1], self.shape[0])
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x, values = x.to(dtype), values.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        out, more = self.shape[0], [p - s for p, s in zip(self.padded, self.shape, strict=True)]
        if any(more):
            if x.ndim == 0 or x.shape[-1] != self.shape[1]:
                raise SparseError(
                    f"x is {tuple(x.shape)}, the weight takes (..., {self.shape[1]}): see the layer before"
                )
            x = functional.pad(x, (0, more[1]))
            bias = None if bias is None else functional.pad(bias, (0, more[0]))
        autograd.check(x, values, self.index, bias)
        # Probing measures through the sparse operator, so an armed layer takes that path.
        if self._sink is None and not self._prefers_sparse(x):
            dense = matrix.to_dense(matrix.BlockSparse(**vars(self.index), values=values, shape=self.padded))
            y = functional.linear(x, dense, bias)
        else:
            y = autograd.linear(x, values, self.index, bias, self._sink, self._probed)
        if self._zeros is not None:
            y = y + functional.linear(x, self._zeros.to(x.dtype))
        return y[..., :out] if more[0] else y

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"{self.shape[1]} -> {self.shape[0]}, block={self.block}, density={self.density:.3f}, mode={self.mode}"

    def _pad(self, weight: Tensor) -> Tensor:
        more = [p - s for p, s in zip(self.padded, weight.shape, strict=True)]
        return functional.pad(weight, (0, more[1], 0, more[0])) if any(more) else weight

    def _prefers_sparse(self, x: Tensor) -> bool:
        if self.mode != "auto":
            return self.mode == "sparse"
        return self.choice(x.device.type, x.dtype).sparse(math.prod(x.shape[:-1]))

    def _untracked(self, where: Tensor | None) -> tuple[Tensor, Tensor]:
        wanted = ~self.kept() if where is None else ~self.kept() & where.to(self.rows.device)
        rows, cols = wanted.nonzero().to(torch.int32).unbind(1)  # synchronize!
        return rows.clone(), cols.clone()  # nonzero lies column by column: both are views of one allocation

    def _place(self, index: matrix.Layout, n: int) -> None:
        for name, tensor in vars(index).items():
            getattr(self, name).copy_(tensor)
        self._settle(n)

    def _settle(self, n: int) -> None:
        # What a copy of the buffers from elsewhere does not bring along is renewed when their version tells of it.
        self._live, self._counted = n, (self.row_ptr, _version(self.row_ptr))
        # All at once, when the pattern changes: forward then reads two integers, which torch.compile can guard.
        self._choices = {key: cost.choose(self.padded, self.block, n, *key) for key in machines.KEYS}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BlockWeight":
        # The index is real even where the values are on the meta device, so that to_empty() leaves a pattern.
        index, n = self.index, self.live_blocks
        stored.unmark(self.values)  # a mark is a weak reference, and torch swaps no tensors that have one
        super()._apply(fn, recurse)
        stored.mark(self.values)
        device = index.rows.device if self.values.is_meta else self.values.device
        for name, tensor in vars(index).items():
            setattr(self, name, tensor.to(device))
        self._settle(n)  # the first move to a GPU tells the cost model which one it is
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        stored.mark(self.values)  # a deep copy of a parameter comes without

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        n = self.live_blocks
        for name, slots in (("values", self.values), ("rows", self.rows), ("cols", self.cols)):
            slots = slots if keep_vars else slots.detach()
            # A slice would bring its whole storage into the file.
            destination[prefix + name] = slots if n == self.capacity else slots[:n].clone()
        destination[prefix + "shape"] = torch.tensor(self.shape, device="cpu")
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(
        self, state: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str],
        unexpected: list[str], errors: list[str],
    ) -> None:  # fmt: skip
        names = ["values", "rows", "cols", "shape"] + ["bias"] * (self.bias is not None)
        absent = [prefix + name for name in names if prefix + name not in state]
        if absent:
            missing.extend(absent)
            if prefix + "weight" in state:
                errors.append(
                    f"{prefix}weight is dense: load it into the model before sparse.convert, or train from the start"
                )
            return
        values, rows, cols, shape = (state[prefix + name] for name in names[:4])
        if strict:
            unexpected.extend(key for key in state if key.startswith(prefix) and key[len(prefix) :] not in names)
        fault = self._fault(values, tuple(shape.tolist()), rows, cols)
        if fault:
            errors.append(f"{prefix[:-1] or 'layer'}: {fault}")
            return
        assign = metadata.get("assign_to_params_buffers", False)
        if self.values.is_meta and not assign:
            where = prefix[:-1] or "the layer"
            errors.append(f"{where} is on the meta device: call to_empty first, or load with assign=True")
            return
        kept = torch.zeros(self.row_ptr.numel() - 1, self.col_ptr.numel() - 1, dtype=torch.bool, device="cpu")
        kept[rows.long().cpu(), cols.long().cpu()] = True
        with torch.no_grad():
            if assign:
                full = values.shape[0] == self.capacity
                room = values if full else values.new_empty(self.capacity, self.block, self.block)
                self.values = nn.Parameter(room.detach(), self.values.requires_grad)
                if self.bias is not None:
                    self.bias = nn.Parameter(state[prefix + "bias"], self.bias.requires_grad)
                self._apply(lambda tensor: tensor)  # brings the index to the values' device
            self._place(matrix.layout(kept, self.capacity), values.shape[0])
            if not assign or self.values.data_ptr() != values.data_ptr():
                self.values.zero_()[: values.shape[0]].copy_(values)
            if self.bias is not None and not assign:
                self.bias.copy_(state[prefix + "bias"])

    def _fault(self, values: Tensor, shape: tuple[int, ...], rows: Tensor, cols: Tensor) -> str:
        if shape != self.shape:
            return f"the checkpoint holds a {shape} weight, this layer has {self.shape}: build it with those sizes"
        if values.shape[-1] != self.block:
            return f"the checkpoint has blocks of {values.shape[-1]}, this layer of {self.block}: build it with that"
        if values.shape[0] > self.capacity:
            return f"{values.shape[0]} blocks do not fit {self.capacity} slots: build it with a larger capacity"
        gm, gn = self.row_ptr.numel() - 1, self.col_ptr.numel() - 1
        counted = rows.shape == cols.shape == values.shape[:1]
        inside = counted and bool(((rows >= 0) & (rows < gm) & (cols >= 0) & (cols < gn)).all())
        if not inside or not bool(((rows.long() * gn + cols).diff() > 0).all()):
            return "rows and cols must name each block once, in row-major order: the checkpoint is damaged, restore it"
        return ""


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
