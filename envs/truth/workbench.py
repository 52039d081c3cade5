"""Workbench-v0: a hand that carries a camera over a table on which coloured balls roll, seen from up to six sides.

Cameras of the model are ``above``, ``front``, ``left``, ``right``, ``back``, which stand still, and ``wrist``, which
the hand carries and turns. The action is the hand's velocity along x and y, m/s, and its turn rate about the vertical,
rad/s. Balls roll straight on and touch nothing. The state is positions (x and y of each ball, then the hand's x, y and
angle) and velocities in the same order. The reward of a step is minus the distance, in metres, of the hand from above
the red ball.
"""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from procosm.envs.truth.tabletop import COLOURS

CAMERAS = ("above", "front", "left", "right", "back", "wrist")
HAND_COLOUR = (0.9, 0.1, 0.85)
FRAME_SKIP = 5
STEP_S = 0.1
MOST = np.array([0.6, 0.6, 1.2], np.float32)
"""Greatest velocity, m/s, and turn rate, rad/s, of the hand."""
REACH = np.array([0.3, 0.3, 1.2])
"""How far the hand goes from the middle, m, and turns from looking along x, rad."""
RADIUS_M, HEIGHT_M = 0.07, 0.42
"""Of a ball; of the hand above the table."""
PLACED_M, APART_M, ROLL_M_S = 0.3, 0.2, 0.06
"""Of balls at first: how far from the middle along each axis, how far from each other, and how fast at most."""
AT_BALL_M = 0.06
"""A hand so near to above the red ball is at its goal."""
_TILT = np.radians(65.0)  # of the wrist's camera, below the horizon


def _camera(name: str, x: float, y: float, z: float) -> str:
    """A camera at (x, y, z) that looks at the middle of the table and stands upright."""
    right, forward = np.array([-y, x, 0]), -np.array([x, y, z])
    up = np.cross(right, forward)
    axes = " ".join(f"{value:.6f}" for value in (*right / np.linalg.norm(right), *up / np.linalg.norm(up)))
    return f'<camera name="{name}" pos="{x} {y} {z}" xyaxes="{axes}" fovy="50"/>'


def _xml() -> str:
    balls = "".join(
        f'<body name="{name}" pos="0 0 {RADIUS_M}"><joint name="{name}_x" type="slide" axis="1 0 0"/>'
        f'<joint name="{name}_y" type="slide" axis="0 1 0"/>'
        f'<geom type="sphere" size="{RADIUS_M}" rgba="{r} {g} {b} 1"/></body>'
        for name, (r, g, b) in COLOURS.items()
    )
    still = (("front", 0.0, -1.1, 0.75), ("left", -1.1, 0.0, 0.75), ("right", 1.1, 0.0, 0.75), ("back", 0.0, 1.1, 0.75))
    r, g, b = HAND_COLOUR
    return (
        '<mujoco><option timestep="0.02" gravity="0 0 0"/><default><geom contype="0" conaffinity="0"/></default>'
        '<visual><headlight ambient=".5 .5 .5" diffuse=".4 .4 .4"/></visual><worldbody>'
        f'<camera name="above" pos="0 0 1.35" fovy="46"/>{"".join(_camera(*each) for each in still)}'
        f'<geom type="box" size=".5 .5 .01" pos="0 0 -.01" rgba=".75 .72 .68 1"/>{balls}'
        f'<body name="hand" pos="0 0 {HEIGHT_M}"><joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 1 0"/>'
        f'<joint type="hinge" axis="0 0 1"/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
        f'<geom type="sphere" size=".05" rgba="{r} {g} {b} 1"/>'
        '<geom type="capsule" size=".01" fromto=".04 0 -.03 .1 0 -.09" rgba=".2 .2 .22 1"/>'
        f'<camera name="wrist" pos="0 0 -.06" xyaxes="0 -1 0 {np.sin(_TILT):.6f} 0 {np.cos(_TILT):.6f}" fovy="80"/>'
        "</body></worldbody></mujoco>"
    )


class Workbench(gym.Env):
    """Positions and velocities, (18,), under the hand's motion, (3,)."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(_xml())
        self.data = mujoco.MjData(self.model)
        self.action_space = gym.spaces.Box(-MOST, MOST, dtype=np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2 * self.model.nq,))
        self._hand = self.model.body("hand").dofadr[0] + np.arange(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Balls anywhere on the table, apart from each other, rolling; the hand anywhere above it."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        count = len(COLOURS)
        while True:
            places = self.np_random.uniform(-PLACED_M, PLACED_M, (count, 2))
            gaps = np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(count, 1)]
            if gaps.min() > APART_M:
                break
        self.data.qpos[:] = np.append(places, self.np_random.uniform(-REACH, REACH))
        self.data.qvel[: 2 * count] = self.np_random.uniform(-ROLL_M_S, ROLL_M_S, 2 * count)
        mujoco.mj_forward(self.model, self.data)
        return self._get_obs(), {"success": self._distance() < AT_BALL_M}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move for a tenth of a second; at the end of its reach the hand stands still."""
        here = self.data.qpos[self._hand]
        there = np.clip(here + np.asarray(action, np.float64) * STEP_S, -REACH, REACH)
        self.data.qvel[self._hand] = (there - here) / STEP_S
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        mujoco.mj_forward(self.model, self.data)
        distance = self._distance()
        return self._get_obs(), -distance, False, False, {"success": distance < AT_BALL_M}

    def _distance(self) -> float:
        return float(np.linalg.norm(self.data.qpos[self._hand[:2]] - self.data.qpos[:2]))

    def _get_obs(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel]).astype(np.float32)
