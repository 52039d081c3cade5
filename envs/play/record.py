"""A played dream on disk: ``film.mp4`` to look at and ``episode.npz`` to work with."""

import io
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from procosm.envs.films import difference, panel, write_mp4
from procosm.envs.play.pair import Scene, Side
from procosm.envs.play.protocol import PlayError
from procosm.world_model.episodes import Task
from procosm.world_model.files import write_bytes

FILM, EPISODE = "film.mp4", "episode.npz"
FASTEST_FPS = 30


def save(out: Path, task: Task, scenes: Sequence[Scene], seed: int) -> Path:
    """Write a dream's film and episode into a new folder of ``out``; returns the folder.

    ``episode.npz`` holds for T steps: ``actions`` (T, a); for each world ``{dream,truth}_frames`` (T+1, H, W, 3) uint8,
    ``_rewards`` (T,), ``_termination`` (T,) and ``_ended``; ``dream_states`` (T+1, s), estimated; ``truth_physics``
    (T+1, n), which ``reset(options={"physics": ...})`` of the truth env takes; ``seed`` and ``first_step``, which is
    above 0 where the beginning was no longer in memory. Without MuJoCo the ``truth_`` arrays are missing.

    Raises:
        ProcosmError: the disk does not take it.
    """
    folder = _new_folder(out, task)
    write_mp4(folder / FILM, [_picture(scene) for scene in scenes], min(FASTEST_FPS, max(1, round(1 / task.dt_s))))
    arrays: dict[str, Any] = {
        "seed": np.int64(seed),
        "first_step": np.int64(scenes[0].step),
        "actions": np.stack([scene.action for scene in scenes[1:]]),
        "dream_states": np.stack([scene.moment.state for scene in scenes]),
        **_arrays("dream", [scene.dream for scene in scenes]),
    }
    if scenes[0].truth is not None:
        arrays |= _arrays("truth", [scene.truth for scene in scenes if scene.truth])
        arrays["truth_physics"] = np.stack([scene.physics for scene in scenes if scene.physics is not None])
    memory = io.BytesIO()
    np.savez_compressed(memory, **arrays)
    write_bytes(folder / EPISODE, memory.getvalue())
    return folder


def _new_folder(out: Path, task: Task) -> Path:
    """Make a folder in ``out``; two games may record within a second, so its name ends in a draw."""
    folder = out / f"{task.id.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise PlayError(f"cannot record in {out}: {error.strerror}. Give another folder with --out") from error
    return folder


def _arrays(world: str, sides: Sequence[Side]) -> dict[str, np.ndarray]:
    return {
        f"{world}_frames": np.stack([side.frame for side in sides]),
        f"{world}_rewards": np.array([side.reward for side in sides[1:]]),
        f"{world}_termination": np.array([side.termination for side in sides[1:]], np.float32),
        f"{world}_ended": np.array(sides[-1].ended),
    }


def _picture(scene: Scene) -> np.ndarray:
    frames, labels = [scene.dream.frame], [f"dream · step {scene.step}"]
    if scene.truth is not None:
        frames += [scene.truth.frame, difference(scene.dream.frame, scene.truth.frame)]
        labels += ["MuJoCo", "difference"]
    return panel(frames, labels)
