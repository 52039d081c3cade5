"""How any module's layers become block-sparse, and how much of a module exists."""

import math
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from procosm import sparse
from procosm.world_model.errors import CheckpointError, ProcosmError


def sparsify(module: nn.Module, density: float, block: int, stay_dense: Iterable[str] = ()) -> None:
    """Make the linear and convolutional layers of a freshly initialised module block-sparse, in place.

    Activations keep their scale, see ``sparse.convert(keep="balanced")``. Dense stay the layers ``stay_dense`` names,
    those that the block does not divide, and those whose share is less than one block.

    Args:
        density: share of each layer's blocks to keep. block: side of a block, 16, 32, 64 or 128.
        stay_dense: name patterns (fnmatch).

    Raises:
        ProcosmError: settings that fit no layer.
    """
    weighty = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    tiny = [name for name, layer in weighty if density * layer.weight.numel() < block**2]
    odd = [
        name for name, x in weighty if len(x.weight) % block or x.weight[0].numel() % block
    ]  # padding would be stored
    try:
        done = sparse.convert(module, density, block, [*stay_dense, *tiny, *odd], keep="balanced")
    except sparse.SparseError as error:
        raise ProcosmError(str(error)) from error
    if not done.converted:
        raise ProcosmError(
            f"no layer of {type(module).__name__} can be kept at density {density} in blocks of {block}: take blocks "
            f"of 16, a higher density or a wider preset. {done}"
        )


def weights(module: nn.Module) -> dict[str, int]:
    """How many weights a module has: ``live`` of ``whole`` in its block-sparse layers, and ``dense`` in all others."""
    thin = sparse_layers(module).values()
    values = {id(layer.values) for layer in thin}
    return {
        "live": sum(layer.live_blocks * layer.block**2 for layer in thin),
        "whole": sum(math.prod(layer.shape) for layer in thin),
        "dense": sum(p.numel() for p in module.parameters() if id(p) not in values),
    }


def census(counts: Mapping[str, Mapping[str, int]]) -> str:
    """A table of what ``weights`` counted, by part, and the share of all weights that exists: not the density."""
    together = {key: sum(n[key] for n in counts.values()) for key in ("live", "whole", "dense")}
    lines = [f"{'weights':10}{'block-sparse':>22}{'dense':>12}{'exist of all':>14}"]
    for name, n in [*counts.items(), ("together", together)]:
        share = (n["live"] + n["dense"]) / (n["whole"] + n["dense"])
        lines.append(f"{name:10}{n['live']:>9,} of {n['whole']:>9,}{n['dense']:>12,}{share:>14.1%}")
    return "\n".join(lines)


def sparse_layers(module: nn.Module) -> dict[str, sparse.nn.BlockWeight]:
    """Every block-sparse layer, by its name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, sparse.nn.BlockWeight)}


def sparse_blocks(module: nn.Module) -> dict[str, int]:
    """Side of the blocks of every block-sparse layer, by its name."""
    return {name: layer.block for name, layer in sparse_layers(module).items()}


def sparsify_like(module: nn.Module, blocks: Mapping[str, int], tensors: Mapping[str, Tensor]) -> None:
    """Make the layers of a dense module, in place, ready to load ``tensors``: slots for the live blocks and no more.

    Args:
        blocks: what ``sparse_blocks`` said of the module that was saved. tensors: its state_dict.

    Raises:
        CheckpointError: ``blocks`` and ``tensors`` do not fit each other or the module.
    """
    for name, block in blocks.items():
        values = tensors.get(f"{name}.values")
        if values is None or name not in dict(module.named_modules()):
            raise CheckpointError(f"there is no block-sparse layer {name}: restore config.json, or train again")
        if values.shape[-1] != block:
            raise CheckpointError(
                f"{name} is stored in blocks of {values.shape[-1]}, not {block}: restore config.json, or train again"
            )
        parent, _, attribute = name.rpartition(".")
        alone = nn.ModuleDict({"layer": module.get_submodule(name)})
        share = max(1, len(values)) * block**2 / sum(p.numel() for n, p in alone.named_parameters() if "weight" in n)
        try:
            done = sparse.convert(alone, share, block, keep="balanced")  # any pattern: that of ``tensors`` will come
        except sparse.SparseError as error:
            raise CheckpointError(f"{name}: {error}") from error
        if not done.converted:
            raise CheckpointError(f"{name} cannot be block-sparse: restore config.json, or train again. {done}")
        setattr(module.get_submodule(parent), attribute, alone["layer"])
