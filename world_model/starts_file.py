"""What a checkpoint holds beside its two modules: frames to begin with, and what tells its trust."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from procosm.world_model.errors import CheckpointError
from procosm.world_model.model import Practice
from procosm.world_model.weights import RESTORE, check_numbers, read_weights

if TYPE_CHECKING:
    from procosm.world_model.checkpoint import Config


def loaded_trust(path: Path, config: "Config", device: torch.device) -> dict[str, Tensor] | None:
    """The tensors of ``procosm.envs.trust.trust``, which knows their shapes; None where there are none."""
    if not path.exists() and path.name not in config.sha256:
        return None
    trust = read_weights(path, config.sha256)
    for name, tensor in trust.items():
        check_numbers(f"{path}: {name}", tensor, torch.float32)
    return {name: tensor.to(device) for name, tensor in trust.items()} or None


def loaded_resets(path: Path, config: "Config", starts: Tensor) -> dict[str, Tensor]:
    """First latents of the task's own reset, where ``starts`` are, as they are, and which texts they had, if any."""
    tensors = read_weights(path, config.sha256) if path.exists() or path.name in config.sha256 else {}
    if not tensors:
        return {}
    _check(path, tensors, {"latents": starts.shape[2:]}, config, {"latents": starts.dtype})
    there = {"latents": tensors["latents"].to(starts)}
    return there | ({"texts": tensors["texts"].to(starts.device)} if config.texts else {})


def loaded_practice(path: Path, config: "Config", starts: Tensor) -> Practice | None:
    """Windows to practise from, where ``starts`` are; None in checkpoints that hold none."""
    tensors = read_weights(path, config.sha256) if path.exists() or path.name in config.sha256 else {}
    if not tensors:
        return None
    past = starts.shape[1] - 1
    each = {"latents": starts.shape[1:], "actions": (past, len(config.task.action_low)), "known": (past,)}
    _check(path, tensors, each, config, {"latents": torch.float16})
    texts = tensors["texts"].to(starts.device) if config.texts else None
    actions = start_actions(tensors).to(starts.device)
    return Practice(tensors["latents"].to(starts.device, torch.float16), actions, texts)


def check_starts(path: Path, starts: Mapping[str, Tensor], config: "Config", shape: tuple[int, ...]) -> None:
    """Refuse start windows that are not what the model begins with, latents of (context, c, h, w)."""
    each: dict[str, tuple[int, ...]] = {"frames": (shape[0], *config.task.frame_shape), "latents": shape}
    if "state" in config.task.signals:
        each["states"] = (config.task.state_size,)
    if "actions" in starts:
        each |= {"actions": (shape[0] - 1, len(config.task.action_low)), "known": (shape[0] - 1,)}
    _check(path, starts, each, config, {"frames": torch.uint8})


def _check(
    path: Path,
    tensors: Mapping[str, Tensor],
    each: Mapping[str, tuple[int, ...]],
    config: "Config",
    kinds: Mapping[str, torch.dtype],
) -> None:
    """Refuse windows, or frames, that are not ``each`` of such a shape and kind, and texts that nobody knows."""
    count = len(tensors["latents"]) if "latents" in tensors and tensors["latents"].ndim else 0
    every: dict[str, tuple[int, ...]] = {**each, **({"texts": ()} if config.texts else {})}
    shapes = {name: (count, *shape) for name, shape in every.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if not count or found != shapes:
        raise CheckpointError(f"{path} holds {found}, where this model begins with {shapes}, at least one: {RESTORE}")
    kinds = {"known": torch.uint8, "texts": torch.int64, **kinds}
    for name in shapes:
        check_numbers(f"{path}: {name}", tensors[name], kinds.get(name, torch.float32))
    said = tensors.get("texts", torch.zeros(0, dtype=torch.int64))
    if said.dtype != torch.int64 or bool(((said < 0) | (said >= len(config.texts))).any()):
        raise CheckpointError(f"{path} names texts beyond the {len(config.texts)} in config.json: {RESTORE}")


def stored_actions(actions: Tensor) -> dict[str, Tensor]:
    """What a file holds of (n, context - 1, a) actions: none holds NaN, which is an action nobody knows."""
    known = ~actions.isnan().any(-1)
    return {"actions": actions.where(known[..., None], 0.0), "known": known.to(torch.uint8)}


def start_actions(stored: Mapping[str, Tensor]) -> Tensor:
    """The actions of ``stored_actions``."""
    return stored["actions"].float().where(stored["known"].bool()[..., None], torch.nan)
