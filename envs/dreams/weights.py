"""Which world model an environment opens: a path, a loaded model, or the weights that ship with an id."""

import copy
import dataclasses
from pathlib import Path
from typing import TypeVar

import torch

from procosm.envs.dreams.arguments import check_dream
from procosm.envs.dreams.spec import absolute
from procosm.world_model.checkpoint import WorldModel, is_model, load
from procosm.world_model.errors import CheckpointError
from procosm.world_model.hub import fetched, is_hub_id

T = TypeVar("T")
SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
WEAKNESSES = {
    "Reacher": "This dream's target is pale and fades: at half torque a third of it is left after 24 steps. MuJoCo's "
    "picture shows where it is."
}
"""What is known to be wrong with weights that ship, in words for whoever looks at their dreams."""


def find_checkpoint(checkpoint: str | Path | None, name: str | None) -> Path:
    """The checkpoint folder meant by an environment's arguments.

    Args:
        checkpoint: a checkpoint folder, a run's folder with ``world_model/`` in it, the folder of a published model,
            or the name of one on the Hub (OWNER/NAME); None for what ships.
        name: the registered name, as in ``Procosm/<name>-v0``; None for ``Procosm/World-v0``.

    Raises:
        CheckpointError: there is none.
    """
    if checkpoint is not None:
        if not isinstance(checkpoint, str | Path):
            raise CheckpointError(f"checkpoint={checkpoint!r:.60}: give the path of a folder, or a loaded model")
        path = fetched(checkpoint) if is_hub_id(checkpoint) else Path(absolute(checkpoint))  # type: ignore[arg-type]
        for folder in (path, path / "world_model"):
            if _is_checkpoint(folder):
                return folder
        raise CheckpointError(
            f"no checkpoint at {path}: neither it nor {path / 'world_model'} holds a config.json, or transformer/ and "
            "vae/ of a published model. Make one with `procosm run --env ID --out DIR` and give DIR"
        )
    if name is None:
        raise CheckpointError(
            "Procosm/World-v0 opens a checkpoint of yours: give checkpoint=PATH, the folder written by "
            "`procosm run --env ID --out DIR` (DIR) or `procosm train` (DIR/world_model)"
        )
    folder = SHIPPED / name
    if not _is_checkpoint(folder):
        raise CheckpointError(
            f"no weights ship for Procosm/{name}-v0. Train them with `procosm run --env {name} --out DIR`, "
            f'then gym.make("Procosm/{name}-v0", checkpoint="DIR"); or give checkpoint=PATH of weights you have'
        )
    return folder


def _is_checkpoint(folder: Path) -> bool:
    try:
        return is_model(folder)
    except OSError as error:  # a name too long, a folder that may not be read
        raise CheckpointError(
            f"{str(folder)[:200]} cannot be read ({error.strerror}): give another checkpoint"
        ) from error


def open_model(
    checkpoint: str | Path | WorldModel | None, name: str | None, device: str | torch.device, mixed: bool = False
) -> WorldModel:
    """The world model meant by an environment's arguments, on ``device`` (a loaded model stays where it is).

    With ``mixed`` it takes products in bfloat16; the model given, which others may dream in, does not change.

    Raises:
        CheckpointError: no checkpoint, an unreadable one, or one of another task than the registered name's.
        ProcosmError: no such device.
    """
    device = str(device) if isinstance(device, torch.device) else device
    check_dream(device=device, name=name, mixed=mixed)
    model = checkpoint if isinstance(checkpoint, WorldModel) else load(find_checkpoint(checkpoint, name), device=device)
    if name is not None and model.task.id.rsplit("-v", 1)[0] != name:
        raise CheckpointError(
            f"Procosm/{name}-v0 cannot open {checkpoint}: it dreams of {model.task.id}. "
            "Open it with Procosm/World-v0, checkpoint=PATH"
        )
    return (
        dataclasses.replace(model, tokenizer=_mixed(model.tokenizer), dynamics=_mixed(model.dynamics))
        if mixed
        else model
    )


def _mixed(module: T) -> T:
    """The same weights in a module with a setting of its own."""
    own = copy.copy(module)
    own.mixed = True  # type: ignore[attr-defined]
    return own
