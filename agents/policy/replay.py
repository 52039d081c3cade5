"""SAC's memory on disk: one safetensors file for each round of dreams, so that a killed training goes on unchanged."""

from pathlib import Path

import numpy as np
import safetensors.numpy
from stable_baselines3.common.buffers import ReplayBuffer

from procosm.world_model.errors import CheckpointError
from procosm.world_model.files import write_bytes

ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def save_round(buffer: ReplayBuffer, folder: Path, index: int, length: int) -> None:
    """Write what round ``index`` added: ``length`` steps of every dream."""
    steps = slice(index * length, (index + 1) * length)
    content = {name: np.ascontiguousarray(getattr(buffer, name)[steps]) for name in ARRAYS}
    write_bytes(_path(folder, index), safetensors.numpy.save(content))


def load_rounds(buffer: ReplayBuffer, folder: Path, rounds: int, length: int) -> None:
    """Fill an empty buffer with the first ``rounds`` rounds.

    Raises:
        CheckpointError: a round is missing or damaged.
    """
    for index in range(rounds):
        path = _path(folder, index)
        steps = slice(index * length, (index + 1) * length)
        try:
            content = safetensors.numpy.load_file(path)
            for name in ARRAYS:
                array, place = content[name], getattr(buffer, name)[steps]
                if (array.shape, array.dtype) != (place.shape, place.dtype) or not np.isfinite(array).all():
                    raise ValueError(f"{name} is {array.dtype} {array.shape}, or holds no finite numbers")
                place[...] = array
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"round {index} of the replay buffer cannot be read from {path} ({error}): "
                f"delete {folder.parent} and train the policy again"
            ) from error
    buffer.pos = rounds * length % buffer.buffer_size
    buffer.full = rounds * length >= buffer.buffer_size


def _path(folder: Path, index: int) -> Path:
    return folder / f"round_{index:04d}.safetensors"
