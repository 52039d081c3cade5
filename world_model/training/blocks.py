"""Which blocks a part of a world model trains with: chosen by the cost model, checked by a short timing.

The larger a block, the faster its products and the fewer of them a layer can keep. Whether any is faster than dense
depends on the machine and on how wide the layers are, so a training step of the very network is timed before training
begins, dense and with the blocks that the cost model puts first.
"""

import copy
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from procosm.sparse import cost, machines, matrix, timing
from procosm.sparse.nn import BlockWeight
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_json, write_json
from procosm.world_model.sparsity import sparse_layers, sparsify

DENSE = 0
"""Stands among sides of blocks for a layer without any."""
TRIED, ROUNDS, SECONDS = 2, 5, 2.0
"""Blocks that are timed, one where a step is long; rounds at most; seconds after which none begins but the second."""
WIDER = (2, 4, 8, 16)

MakeStep = Callable[[nn.Module, int], Callable[[], object]]
"""From a module and a number of windows to a training step."""


class Call(NamedTuple):
    """What a layer does in a training step."""

    tokens: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Part:
    """A part of a world model that is to be block-sparse.

    Attributes:
        name: how it is called when something is told of it.
        module: as it was initialised; ``stay_dense`` of it names what stays dense.
        density: share of its blocks that will exist.
        make_step: steps of copies of it. batch: windows of a batch in training.
        size: its settings, in words; blocks chosen for others are not kept.
        wider: where the user finds wider layers of it, said behind the advice to take such.
    """

    name: str
    module: Any
    density: float
    make_step: MakeStep
    batch: int
    size: str
    wider: str = ""


def choose_blocks(parts: Iterable[Part], asked: int | None, device: torch.device, work: Path) -> dict[str, int]:
    """The side of the blocks of each part by its name: ``asked``, or the one with which it trains fastest.

    What it gains is told, and that it is slower than dense where it is. The choice stands in ``work``: a training that
    is resumed keeps it, on a slower machine too.
    """
    path, chosen = work / "blocks.json", {}
    held = _held(path) if path.exists() else {}
    before = not held and any(work.glob("*.safetensors"))
    for part in parts:
        settings = {"density": part.density, "size": part.size}
        kept = held.get(part.name, {})
        if settings.items() <= kept.items() and kept["block"] in (matrix.BLOCKS if asked is None else (asked,)):
            tqdm.write(f"{part.name}: blocks of {kept['block']}, as training began", file=sys.stderr)
        else:
            # Versions that chose nothing took blocks of 16, and training goes on from what they saved.
            kept = settings | _choose(part, device, asked or (16 if before else None))
        chosen[part.name] = kept
    if chosen and chosen != held:
        write_json(path, chosen)
    return {name: kept["block"] for name, kept in chosen.items()}


def _held(path: Path) -> dict[str, dict[str, Any]]:
    """What was chosen before, by part.

    Raises:
        CheckpointError: the file is damaged.
    """
    held = read_json(path)
    parts = list(held.values()) if isinstance(held, dict) else [None]
    if not all(isinstance(kept, dict) and kept.get("block") in matrix.BLOCKS for kept in parts):
        raise CheckpointError(f"{path} does not hold what it should: delete it, and give the old blocks with --block")
    return held


def _choose(part: Part, device: torch.device, asked: int | None) -> dict[str, Any]:
    """``block`` and ``gain``, dense over sparse seconds of a training step; both are told.

    Sides that leave dense what smaller blocks would make sparse are not chosen. Draws nothing from torch's generators
    that is not put back.
    """
    with torch.random.fork_rng(devices=[]):
        sides = matrix.BLOCKS if asked is None else (asked,)
        plans = {side: plan for side in sides if (plan := _plan(part, side))}
        if not plans:
            sparsify(copy.deepcopy(part.module), part.density, min(sides), part.module.stay_dense)  # says why
        most = max(len(plan) for plan in plans.values())
        rehearsed = _Rehearsed(part, device)
        fitting = [side for side, plan in plans.items() if len(plan) == most]
        # Where none is sure to pay, all are predicted alike, and the largest has the fastest products.
        tried = sorted(fitting, key=lambda side: (rehearsed.predicted(plans[side]), -side))[: rehearsed.tried]
        seconds = rehearsed.seconds(tried)
    gains = {side: seconds[DENSE] / seconds[side] for side in tried}
    block = max(tried, key=gains.__getitem__)
    others = "".join(f"; blocks of {side}: {gain:.2f}" for side, gain in gains.items() if side != block)
    told = (
        f"{part.name}: density {part.density:g} in blocks of {block} trains {gains[block]:.2f} times as fast as dense"
    )
    told += f" (steps timed on this machine{others})"
    if gains[block] < machines.MARGIN:
        verdict = "This is SLOWER than dense" if round(gains[block], 2) < 1 else "So short a timing may be a tenth off"
        told += f". {verdict}: {rehearsed.remedy(plans, block, seconds)}"
    tqdm.write(told, file=sys.stderr)
    return {"block": block, "gain": round(gains[block], 3)}


class _Rehearsed:
    """Training steps of copies of a module, and what its layers do in one."""

    def __init__(self, part: Part, device: torch.device) -> None:
        self.part, self.device = part, device
        self.calls: dict[str, Call] = {}
        self.shapes: dict[str, tuple[int, int]] = {}
        dense = copy.deepcopy(part.module).to(device)
        handles = []
        for name, layer in dense.named_modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                self.shapes[name] = (len(layer.weight), layer.weight[0].numel())
                handles.append(layer.register_forward_hook(partial(self._note, name)))
        step = part.make_step(dense, part.batch)
        step()
        for handle in handles:
            handle.remove()
        # A smaller batch would be quicker to time, and flatter sparsity: the optimizer's share of a step grows.
        if device.type == "cuda":  # whose tables are those of another one, more often than not
            timing.measure(device, {call.dtype for call in self.calls.values()})
        self.dense, self.tried = step, TRIED if _seconds(step, self.device) < SECONDS / 4 else 1

    def _note(self, name: str, layer: Any, inputs: Any, output: Tensor) -> None:
        tokens = output.numel() // len(layer.weight)
        self.calls[name] = Call(self.calls[name].tokens + tokens if name in self.calls else tokens, output.dtype)

    def seconds(self, sides: Iterable[int]) -> dict[int, float]:
        """Of a step, the least of alternating rounds, by side; dense is ``DENSE``. Of the CPU, all that it worked."""
        steps = {DENSE: self.dense}
        for side in sides:
            thin = copy.deepcopy(self.part.module)
            sparsify(thin, self.part.density, side, thin.stay_dense)
            steps[side] = self.part.make_step(thin.to(self.device), self.part.batch)
            steps[side]()
        found: dict[int, list[float]] = {side: [] for side in steps}
        began = time.perf_counter()
        for round_ in range(ROUNDS):
            if round_ > 1 and time.perf_counter() - began > SECONDS:
                break
            for side, step in steps.items():
                found[side].append(_seconds(step, self.device))
        return {side: min(times) for side, times in found.items()}

    def predicted(self, plan: Mapping[str, BlockWeight], dense: bool = False) -> float:
        """Seconds of the products of the layers in ``plan``, or of the dense ones in their place."""
        sizes = {name: (layer.padded, layer.block, layer.live_blocks) for name, layer in plan.items()}
        return sum(self._products(name, *size, dense) for name, size in sizes.items())

    def predicted_wider(self, names: Iterable[str], wider: int, side: int, dense: bool = False) -> float:
        """The same of layers so many times as wide, in blocks of ``side``."""
        total = 0.0
        for name in names:
            m, n = (size * wider // side for size in self.shapes[name])
            total += self._products(name, (m * side, n * side), side, max(1, round(self.part.density * m * n)), dense)
        return total

    def _products(self, name: str, shape: tuple[int, int], side: int, n: int, dense: bool) -> float:
        """Seconds of the three products of a layer, as the cost model would take them."""
        tokens, dtype = self.calls[name]
        device, itemsize = cost.key(self.device.type, dtype)
        takes_sparse = not dense and cost.choose(shape, side, n, device, itemsize).sparse(tokens)
        return cost.step_seconds(tokens, shape, side if takes_sparse else None, n, device, itemsize)

    def remedy(self, plans: Mapping[int, Mapping[str, BlockWeight]], block: int, seconds: Mapping[int, float]) -> str:
        """What would pay where ``block`` does not, predicted by what the steps took beyond their products."""
        plan, every = plans[block], self.predicted(plans[block], dense=True)
        beyond, beyond_dense = max(seconds[block] - self.predicted(plan), 0.0), max(seconds[DENSE] - every, 0.0)
        found = []
        for side, other in plans.items():
            left = every - self.predicted(other, dense=True)
            gain = seconds[DENSE] / (beyond + self.predicted(other) + left)
            if len(other) < len(plan) and gain > machines.MARGIN:
                found.append(
                    f"--block {side} would pay ({gain:.1f} times as fast, predicted), "
                    f"though {len(plan) - len(other)} of {len(plan)} layers have too few such blocks and stay dense"
                )
        for wider in WIDER:
            gains = {}
            for side in (side for side in matrix.BLOCKS if side <= block * wider):
                dense = beyond_dense * wider + self.predicted_wider(plan, wider, side, dense=True)
                gains[side] = dense / (beyond * wider + self.predicted_wider(plan, wider, side))
            side = max(gains, key=gains.__getitem__)
            if gains[side] > machines.MARGIN:
                told = f"layers {wider} times as wide would pay in blocks of {side}{self.part.wider}"
                found.append(f"{told} ({gains[side]:.1f} times as fast, predicted)")
                break
        return "; ".join(found) or "no block pays here, nor do wider layers: a lower density may"


def _plan(part: Part, block: int) -> dict[str, BlockWeight]:
    """The layers that ``sparsify`` would make, by name; none where the block fits none."""
    thin = copy.deepcopy(part.module)
    try:
        sparsify(thin, part.density, block, thin.stay_dense)
    except ProcosmError:
        return {}
    return sparse_layers(thin)


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of a step: those of the processor that this process had, so that others on the machine matter less."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began
