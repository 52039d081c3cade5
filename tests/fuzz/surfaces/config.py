"""config.json of a checkpoint."""

import json
from functools import partial
from pathlib import Path

from procosm.world_model.registry import KINDS
from tests.fuzz.mutations import Case, drawn, json_texts
from tests.fuzz.surfaces.checkpoint import opened_with, whole

SIZES = {
    "format", "frame_height", "frame_width", "height", "width", "shape", "latent_channels", "blocks", "haar_levels",
    "latent_size", "temporal_compression", "layers", "heads", "mlp_ratio", "adaln_rank", "patch", "context",
}  # fmt: skip
COUNTS = {"action_repeat", "max_episode_steps", "dt_s", "state_size", "version", "one_step_share"}

LATER = {(part, name) for part, kinds in KINDS.items() for kind in kinds.values() for name in kind.later}
"""What older checkpoints lack."""


def wrong(path, kind):
    """Sizes must be those of the weights; those of a camera have wide bounds, those of a task's arguments are free."""
    if "cameras" in path and len(path) > 4:
        return kind in ("type", "unknown")  # any part may be missing
    if "env_kwargs" in path and path[-1] != "env_kwargs":
        return False
    if kind == "missing" and path[0] in ("sparse", "sha256", "texts"):  # older checkpoints have none
        later = [f"{name}.safetensors" for name in ("trust", "resets", "adapter")]
        return path[-1] not in ("sparse", "sha256", "texts", *later)
    if path[:2] == ("task", "signals") and path[2:] == ("termination",) and kind == "missing":
        return False
    if kind == "missing" and path in LATER:
        return False
    if path == ("task", "twin") and kind == "type":  # a task need not have one
        return False
    if kind in ("size", "vast"):
        return path[-1] in SIZES or "shape" in path or "sha256" in path or (kind == "vast" and path[-1] in COUNTS)
    return True


def cases(folder: Path) -> list[Case]:
    path = whole(folder) / "config.json"
    document = json.loads(path.read_text())
    made = [
        Case(name, partial(opened_with, path, text), bad and not unchanged(document, text))
        for name, text, bad in json_texts(document, wrong)
    ]
    return drawn(made, 420, seed=1)


def unchanged(document, text: bytes) -> bool:
    try:
        return json.loads(text) == document
    except (ValueError, RecursionError):
        return False
