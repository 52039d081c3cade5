"""Driving-v0: a car among coloured posts, seen by six cameras on its roof, told where to be next (Cosmos §6.3).

The action is a trajectory: where the car shall be after each of the next ``POINTS`` tenths of a second, metres forward
and to the left in the car's frame as it stands now. It drives from point to point on arcs, forward only, no faster and
no tighter than a car; a point that can be reached so is reached exactly. A step is the whole trajectory. The state is
the car's pose: x, y, and cosine and sine of its heading. The reward is the metres driven; touching a post, or leaving
the yard, ends the episode.
"""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

CAMERAS = ("front", "front_left", "rear_left", "rear", "rear_right", "front_right")
"""Each 60 degrees to the left of the one before it."""
POINTS, POINT_S, SUBSTEPS = 4, 0.1, 5
FASTEST_M_S, TIGHTEST_PER_M = 2.0, 0.6
"""Greatest speed, and curvature of what is driven."""
YARD_M, BEGIN_M = 9.0, 2.0
"""Radius of the yard, and of where the car begins."""
POST_M, TOUCH_M = 0.25, 0.9
"""Radius of a post; distance of the car's middle from a post's at which they touch."""
FORWARD = (0.5 + 0.5 * np.arange(POINTS)) * FASTEST_M_S * POINT_S
ASIDE = 0.5 * TIGHTEST_PER_M * ((1 + np.arange(POINTS)) * FASTEST_M_S * POINT_S) ** 2
LOW = np.stack([FORWARD - FORWARD[0], -ASIDE], axis=1).ravel().astype(np.float32)
HIGH = np.stack([2 * FORWARD[:1] * (1 + np.arange(POINTS)), ASIDE], axis=1).ravel().astype(np.float32)
"""Bounds of a trajectory (x and y of each point): some of it cannot be driven, and is driven as far as it can be."""
_COLOURS = (".85 .2 .15", ".2 .55 .85", ".95 .75 .2", ".3 .7 .35", ".6 .35 .7", ".95 .95 .92")


def _posts() -> np.ndarray:
    """(n, 2): rings of posts about the middle, no two alike as seen from there."""
    rings = ((4.5, 7, 0.2), (7.5, 11, 0.0))
    return np.concatenate(
        [
            r * np.stack([np.cos(a), np.sin(a)], 1)
            for r, n, first in rings
            for a in [first + 2 * np.pi * np.arange(n) / n]
        ]
    )


def _xml() -> str:
    posts = "".join(
        f'<geom type="cylinder" size="{POST_M} {0.6 + 0.25 * (i % 3)}" pos="{x:.3f} {y:.3f} {0.6 + 0.25 * (i % 3)}" '
        f'rgba="{_COLOURS[5 * i % 6]} 1"/>'
        for i, (x, y) in enumerate(_posts())
    )
    eyes = "".join(
        f'<camera name="{name}" pos="0 0 .9" xyaxes="{np.sin(a):.8f} {-np.cos(a):.8f} 0 0 0 1" fovy="60"/>'
        for name, a in zip(CAMERAS, np.pi / 3 * np.arange(6), strict=True)
    )
    return (
        '<mujoco><option timestep="0.02" gravity="0 0 0"/><default><geom contype="0" conaffinity="0"/></default>'
        '<visual><headlight ambient=".5 .5 .5" diffuse=".4 .4 .4"/></visual><worldbody>'
        f'<geom type="plane" size="{YARD_M} {YARD_M} .1" rgba=".42 .43 .45 1"/>{posts}'
        '<body name="car" pos="0 0 .4"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>'
        '<joint type="hinge" axis="0 0 1"/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
        f'<geom type="box" size=".6 .3 .2" rgba=".8 .1 .1 1"/>{eyes}</body></worldbody></mujoco>'
    )


def arc_to(forward: float, left: float) -> tuple[float, float]:
    """Metres and radians of the arc from the car's middle, along its heading, to a point; as far as a car can.

    A point behind is not driven to.
    """
    chord = float(np.hypot(forward, left))
    if forward <= 0 or chord == 0:
        return 0.0, 0.0
    bend = float(np.clip(2 * left / chord**2, -TIGHTEST_PER_M, TIGHTEST_PER_M))
    length = chord if bend == 0 else 2 / bend * np.arcsin(np.clip(bend * chord / 2, -1, 1))
    length = min(float(length), FASTEST_M_S * POINT_S)
    return length, bend * length


class Driving(gym.Env):
    """The car's pose, (4,), under trajectories, (2 ``POINTS``,)."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(_xml())
        self.data = mujoco.MjData(self.model)
        self.action_space = gym.spaces.Box(LOW, HIGH, dtype=np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4,))
        self._posts = _posts()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Near the middle of the yard, heading anywhere."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = [*self.np_random.uniform(-BEGIN_M, BEGIN_M, 2), self.np_random.uniform(-np.pi, np.pi)]
        mujoco.mj_forward(self.model, self.data)
        return self._get_obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Drive along a trajectory; ``info["trajectory"]`` says where the car was at each of its points, (k, 2), in its
        own frame at the beginning.
        """
        begun, turn = self.data.qpos[:2].copy(), _turn(self.data.qpos[2])
        driven, reached = 0.0, []
        for point in np.asarray(action, np.float64).reshape(POINTS, 2):
            x, y = _turn(self.data.qpos[2]).T @ (begun + turn @ point - self.data.qpos[:2])
            length, angle = arc_to(x, y)
            self._drive(length, angle)
            driven += length
            reached.append(turn.T @ (self.data.qpos[:2] - begun))
        mujoco.mj_forward(self.model, self.data)
        here = self.data.qpos[:2]
        touched = np.linalg.norm(self._posts - here, axis=1).min() < TOUCH_M
        ended = bool(touched or np.linalg.norm(here) > YARD_M)
        return self._get_obs(), driven, ended, False, {"trajectory": np.array(reached)}

    def _drive(self, length: float, angle: float) -> None:
        """Along an arc for ``POINT_S``: chords of its parts, each in the middle of the headings that it joins."""
        part, step_s = angle / SUBSTEPS, POINT_S / SUBSTEPS
        chord = length / SUBSTEPS * np.sinc(part / (2 * np.pi))
        for _ in range(SUBSTEPS):
            heading = self.data.qpos[2] + part / 2
            self.data.qvel[:] = [chord / step_s * np.cos(heading), chord / step_s * np.sin(heading), part / step_s]
            mujoco.mj_step(self.model, self.data)

    def _get_obs(self) -> np.ndarray:
        x, y, heading = self.data.qpos
        return np.array([x, y, np.cos(heading), np.sin(heading)], np.float32)


def _turn(heading: float) -> np.ndarray:
    """(2, 2), the car's axes to the world's."""
    return np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
