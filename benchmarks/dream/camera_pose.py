"""Is a generated frame seen from the pose that was commanded? Rows of `camera`, by ``geometry.pose``.

Beside the dreams stand MuJoCo's own picture from the commanded pose (the floor of the measure), the same through the
tokenizer, and the last frame that was given. ``the last frame's own pose`` is how far the camera was sent, known and
not measured: what is lost by not moving at all. Values are medians over the windows in which the pose can be solved,
whose share is ``pose_solved``; ``turned`` are windows in which the camera was turned by ``TURNED_DEG`` or more.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from procosm.agents.judge.intervals import interval, proportion
from procosm.agents.judge.open_loop import Windows
from procosm.benchmarks.dream.geometry.epipolar import Eye
from procosm.benchmarks.dream.geometry.pose import Reference, apart, pose_of
from procosm.envs.truth.model_camera import ModelCamera
from procosm.envs.truth.mujoco import MujocoEnv

BESIDE_DEG, BESIDE_M = 0.5, 0.01
"""How far from the commanded pose the picture is taken in which landmarks are chosen: about a quarter of a pixel."""
TURNED_DEG = 5.0
OWN = "the last frame's own pose"
UNITS = {"rotation_error": "degree", "translation_error": "cm", "pose_solved": "share"}


class Errors(NamedTuple):
    """Of one frame: degrees, and centimetres; NaN where the pose could not be solved."""

    rotation_deg: float
    translation_cm: float


def eye_at(env: MujocoEnv, pose: np.ndarray) -> Eye:
    """The eye of ``Gallery-v0``, moved to a pose (7,): metres, and a quaternion (w, x, y, z)."""
    model, data = env.simulator.model, env.simulator.data
    env.set_physics(np.concatenate([[0.0], pose.astype(np.float64), np.zeros(model.nv)]))
    return Eye.of(ModelCamera("eye").pose(model, data), env.task.height, env.task.width)


def beside(pose: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(7,), a pose a little off a pose (7,), any way."""
    shift, axis = (each / np.linalg.norm(each) for each in generator.normal(size=(2, 3)))
    turn = Rotation.from_quat(pose[3:], scalar_first=True) * Rotation.from_rotvec(np.radians(BESIDE_DEG) * axis)
    return np.concatenate([pose[:3] + BESIDE_M * shift, turn.as_quat(scalar_first=True)])


def errors(
    env: MujocoEnv, films: Mapping[str, np.ndarray], windows: Windows, horizons: tuple[int, ...], seed: int
) -> Iterator[tuple[str, int, float, Errors]]:
    """Arm, horizon, degrees that the camera was turned by, and errors, of each frame of films (n, steps, H, W, 3)."""
    generator, poses = np.random.default_rng(seed), windows.signals["state"]
    for i, t in ((i, t) for i in range(len(poses)) for t in horizons if t <= windows.steps[i]):
        begun, commanded = eye_at(env, poses[i, 0]), eye_at(env, poses[i, t])
        sent = Errors(*apart(begun, commanded))
        near = eye_at(env, beside(poses[i, t], generator))
        picture = env.render()
        assert picture is not None  # it renders
        reference = Reference.of(picture, near, env.simulator.model, env.simulator.data)
        yield OWN, t, sent.rotation_deg, sent
        for arm, film in films.items():
            eye = pose_of(film[i, t - 1], reference, commanded)
            missed = Errors(np.nan, np.nan) if eye is None else Errors(*apart(eye, commanded))
            yield arm, t, sent.rotation_deg, missed


def pose_rows(
    env: MujocoEnv, films: Mapping[str, np.ndarray], windows: Windows, horizons: tuple[int, ...], seed: int
) -> list[dict[str, Any]]:
    """Medians of all arms with their 95 % intervals, over all windows and over those in which the camera turned."""
    found: dict[tuple[str, str, int], list[Errors]] = {}
    for arm, t, turned_deg, missed in errors(env, films, windows, horizons, seed):
        for motion in ("all", *(("turned",) if turned_deg >= TURNED_DEG else ())):
            found.setdefault((motion, arm, t), []).append(missed)
    rows = []
    for (motion, arm, t), each in found.items():
        values = np.array(each)
        solved = ~np.isnan(values[:, 0])
        place = {"arm": arm, "motion": motion, "horizon": t}
        rows.append({**place, "metric": "pose_solved", "unit": "share", **proportion(solved).as_dict()})
        for column, metric in enumerate(("rotation_error", "translation_error")):
            if solved.any():
                median = interval(lambda x: np.median(x, axis=-1), values[solved, column], seed=seed)
                rows.append({**place, "metric": metric, "unit": UNITS[metric], **median.as_dict()})
    return rows
