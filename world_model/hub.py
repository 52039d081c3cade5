"""Models on the Hugging Face Hub: only those files of one that a world model is made of."""

import re
from pathlib import Path

from procosm.world_model.errors import CheckpointError

FILES = ("model_index.json", "procosm.json", "text.safetensors")
PARTS = ("transformer", "vae", "scheduler", "starts")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")


def is_hub_id(name: object) -> bool:
    """Whether a name is one of a model on the Hub, OWNER/NAME, and of nothing that lies here."""
    if not isinstance(name, str) or _ID.fullmatch(name) is None or ".." in name or "--" in name:
        return False
    return not Path(name).exists() and not Path(name).parent.exists()


def fetched(name: str) -> Path:
    """The folder of a model of the Hub, downloaded unless it is here already.

    Raises:
        CheckpointError: huggingface_hub is not installed, or the model cannot be had; why, and what to do.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            f"there is no folder {name} here, and to look for it on the Hub huggingface_hub is needed: "
            "pip install 'procosm[pretrained]'"
        ) from error
    wanted = [*FILES, *(f"{part}/*" for part in PARTS)]
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*.bin", "*.pt"]))
    except (OSError, ValueError, RuntimeError) as error:  # the Hub's own errors are of these kinds
        raise CheckpointError(
            f"there is no folder {name} here, and the Hub does not give a model of this name ({_short(error)}): check "
            "the name and the network, accept the model's licence and run `hf auth login` if it is gated, or give the "
            "folder of a copy"
        ) from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
