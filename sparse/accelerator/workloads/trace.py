"""Any torch module as a workload: run it once on example inputs and note every convolution and linear layer."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from procosm.sparse.accelerator.problem import Layer
from procosm.sparse.accelerator.workloads import Workload
from procosm.sparse.errors import SparseError


def from_factory(spec: str) -> Workload:
    """`package.module:factory`, where factory() returns (module, tuple of example inputs)."""
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise SparseError(f"model {spec!r}: write package.module:factory")
    if str(Path.cwd()) not in sys.path:  # as `python -m` does: a model file beside you is importable
        sys.path.append(str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise SparseError(f"model {spec!r}: {error}; is the package importable from here?") from error
    except AttributeError as error:
        raise SparseError(f"model {spec!r}: {module_name} has no {attribute!r}") from error
    try:
        made = factory() if callable(factory) else None
    except Exception as error:  # a user's code may raise anything
        raise SparseError(f"model {spec!r}: the factory failed with {type(error).__name__}: {error}") from error
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], tuple)):
        raise SparseError(f"model {spec!r}: the factory must take no arguments and return (torch module, tuple of"
                          " example inputs whose first dimension is the batch)")  # fmt: skip
    return trace(made[0], made[1], spec)


def trace(module: Any, inputs: tuple, name: str) -> Workload:
    """Layers in execution order, with the measured fraction of non-zero inputs of each.

    Floating example inputs that are all zero are taken as mere shapes and filled with seeded normal noise, so that the
    densities mean something. Products of two activations (attention scores) have no weights and are left out; so are
    parameters of other modules (embeddings), which the workload names. Raises SparseError naming a module whose weights
    the hardware model cannot run.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise SparseError(f"model {name!r}: {type(module).__name__} is not a torch.nn.Module")
    batches = [value.shape[0] for value in inputs if isinstance(value, torch.Tensor) and value.dim()]
    if not batches:
        raise SparseError(f"model {name!r}: no example input is a tensor with a batch dimension")
    found: list[Layer] = []
    handles = [child.register_forward_hook(_recorder(path or name, batches[0], found))
               for path, child in module.named_modules() if _has_product(path or name, child)]  # fmt: skip
    training = module.training
    try:
        module.eval()
        with torch.no_grad():
            noise = torch.Generator().manual_seed(0)
            module(*(_filled(value, noise) for value in inputs))
    except Exception as error:  # a user's code may raise anything
        raise SparseError(
            f"model {name!r}: running it on its example inputs failed with {type(error).__name__}: {error}"
        ) from error
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    if not found:
        raise SparseError(f"model {name!r}: no convolution or linear layer ran on the example inputs")
    ran = {layer.name for layer in found}
    left_out = [key for key, value in module.named_parameters()
                if value.dim() > 1 and (key.rpartition(".")[0] or name) not in ran]  # fmt: skip
    return Workload(name, tuple(found), left_out=tuple(left_out))


def _filled(value: Any, noise: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.any():
        return torch.randn(value.shape, generator=noise).to(value)
    return value


def _has_product(path: str, child: Any) -> bool:
    """True for layers to record; raises for modules with weights of another kind."""
    import torch.nn as nn

    kernel = getattr(child, "kernel_size", None)
    if hasattr(child, "in_channels") and isinstance(kernel, tuple) and not getattr(child, "transposed", False):
        if len(kernel) > 2:
            raise SparseError(f"layer {path!r}: {type(child).__name__} has three axes; the hardware model has two")
        if any(step != 1 for step in child.dilation):
            raise SparseError(f"layer {path!r}: dilated convolutions are not modelled")
        return True
    if isinstance(getattr(child, "in_features", None), int) and isinstance(getattr(child, "out_features", None), int):
        return True
    unsupported = (nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Bilinear)
    if isinstance(child, unsupported):
        raise SparseError(f"layer {path!r}: {type(child).__name__} is not modelled; use Conv1d, Conv2d or Linear")
    return False


def _recorder(path: str, batch: int, found: list[Layer]):
    def record(child: Any, arguments: tuple, output: Any) -> None:
        value = arguments[0]
        density = float((value != 0).float().mean()) or None  # all zeros tell nothing about trained activations
        if hasattr(child, "kernel_size"):
            found.append(_convolution(path, child, value, output, density))
            return
        tokens = max(1, value.numel() // child.in_features // batch)
        found.append(
            Layer(path, 1, 1, child.in_features, child.out_features, tokens=tokens, activation_density=density)
        )

    return record


def _convolution(path: str, child: Any, value: Any, output: Any, density: float | None) -> Layer:
    two = len(child.kernel_size) == 2
    rows, columns = child.kernel_size if two else (1, child.kernel_size[0])
    height, width = value.shape[-2:] if two else (1, value.shape[-1])
    stride = child.stride if two else (1, child.stride[0])
    if child.padding in ("same", "valid"):
        padding = ((rows - 1) // 2, (columns - 1) // 2) if child.padding == "same" else (0, 0)
    else:
        padding = child.padding if two else (0, child.padding[0])
    groups, inner, outer = getattr(child, "groups", 1), child.in_channels, child.out_channels
    channels, filters, repeats = inner // groups, outer // groups, groups
    if groups == inner == outer and groups > 1:
        channels, filters, repeats = inner, None, 1
    return Layer(path, int(height), int(width), channels, filters, rows, columns, tuple(padding), tuple(stride),
                 activation_density=density, repeats=repeats)  # fmt: skip
