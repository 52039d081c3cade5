"""What was played on disk: ``film.mp4`` to look at and ``episode.npz`` to work with."""

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
from procosm.world_model.data.task import Task
from procosm.world_model.files import write_bytes

FILM, EPISODE = "film.mp4", "episode.npz"
FASTEST_FPS = 30


def save(out: Path, task: Task, scenes: Sequence[Scene]) -> Path:
    """Write a film and its numbers into a new folder of ``out``; returns the folder.

    ``episode.npz`` holds for T steps of the game and each world, ``dream`` and ``truth``: ``_frames`` (T+1, H, W, 3)
    uint8; ``_seeds`` (T+1,), which tell its episodes apart, and ``_steps`` (T+1,) of that episode; ``_actions`` (T, a)
    and ``_rewards`` (T,), NaN where the world took none because its episode was over or just began;
    ``_termination`` (T,); ``_ended`` and ``_cut`` (T+1,). Besides ``dream_states`` (T+1, s), estimated;
    ``truth_physics`` (T+1, n), which ``reset(seed=SEED, options={"physics": ...})`` of the truth env takes; and
    ``first_step`` of the game. Without MuJoCo the ``truth_`` arrays are missing.

    Raises:
        ProcosmError: the disk does not take it.
    """
    folder = _new_folder(out, task)
    write_mp4(folder / FILM, [_picture(scene) for scene in scenes], min(FASTEST_FPS, max(1, round(1 / task.dt_s))))
    arrays: dict[str, Any] = {
        "first_step": np.int64(scenes[0].step),
        **_arrays("dream", [scene.dream for scene in scenes], len(task.action_low)),
    }
    states = [scene.moment.state for scene in scenes if scene.moment.state is not None]
    if states:
        arrays["dream_states"] = np.stack(states)
    if scenes[0].truth is not None:
        arrays |= _arrays("truth", [scene.truth for scene in scenes if scene.truth], len(task.action_low))
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


def _arrays(world: str, sides: Sequence[Side], motors: int) -> dict[str, np.ndarray]:
    nothing = np.full(motors, np.nan, np.float32)
    later = sides[1:]
    return {
        f"{world}_frames": np.stack([side.frame for side in sides]),
        f"{world}_seeds": np.array([side.seed for side in sides]),
        f"{world}_steps": np.array([side.step for side in sides]),
        f"{world}_actions": np.array([nothing if side.action is None else side.action for side in later]),
        f"{world}_rewards": np.array([np.nan if side.reward is None else side.reward for side in later]),
        f"{world}_termination": np.array([side.termination for side in later], np.float32),
        f"{world}_ended": np.array([side.ended for side in sides]),
        f"{world}_cut": np.array([side.cut for side in sides]),
    }


def _picture(scene: Scene) -> np.ndarray:
    frames, labels = [scene.dream.frame], [f"dream · step {scene.dream.step}"]
    if scene.truth is not None:
        apart = difference(scene.dream.frame, scene.truth.frame) if scene.together else np.zeros_like(scene.dream.frame)
        frames += [scene.truth.frame, apart]
        labels += [f"MuJoCo · step {scene.truth.step}", "difference" if scene.together else "other episodes"]
    return panel(frames, labels)
