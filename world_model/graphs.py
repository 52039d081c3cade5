"""Functions of tensors as CUDA graphs: one launch in place of hundreds, where a small model waits for nothing else."""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

MOST = 8
"""Graphs one recorder keeps; each holds the memory of its intermediate results."""


def fingerprint(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Changes whenever a weight does: where each tensor lies, and how often it was written to."""
    found, modules = [], [module]
    while modules:  # by hand: a dream asks at every step, and torch's iterators make a name of each tensor
        each = modules.pop()
        modules.extend(m for m in each._modules.values() if m is not None)
        for tensors in (each._parameters, each._buffers):
            found += [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors.values() if t is not None]
    return tuple(found)


class Recorder:
    """Runs a function as it is on the CPU, and from its second call with like arguments on as a CUDA graph.

    The function must give the same kernels for the same key and shapes, and read nothing but its arguments and what the
    key stands for. Results are the caller's own. Without gradients.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor]]] = {}
        self._seen: set[Hashable] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recorder":
        return Recorder()  # a copy's weights lie elsewhere

    def __call__(
        self, function: Callable[..., tuple[Tensor, ...]], key: Callable[[], Hashable], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """``function(*inputs)``.

        Args:
            key: gives what changes whenever anything does that the function reads beside its arguments.
        """
        if not inputs[0].is_cuda or torch.cuda.is_current_stream_capturing():
            return function(*inputs)
        whole = (key(), *((tuple(x.shape), x.dtype, x.device) for x in inputs))
        if whole not in self._graphs:
            if whole not in self._seen:  # a function called once is not worth recording
                if len(self._seen) >= 64:
                    self._seen.clear()
                self._seen.add(whole)
                return function(*inputs)
            if len(self._graphs) >= MOST:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[whole] = self._record(function, inputs)
        graph, places, results = self._graphs[whole]
        with torch.inference_mode():
            for place, x in zip(places, inputs, strict=True):
                place.copy_(x)
        graph.replay()
        return tuple(result.clone() for result in results)

    @staticmethod
    @torch.inference_mode()
    def _record(
        function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], list[Tensor]]:
        places = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
        device = places[0].device
        with torch.cuda.device(device):
            beside = torch.cuda.Stream(device)
            beside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(beside):  # libraries choose and allocate before anything is recorded
                for _ in range(2):
                    function(*places)
            torch.cuda.current_stream(device).wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                results = list(function(*places))
        return graph, places, results
