"""Gallery-v0: a room that stands still, and an eye that is moved through it.

The action is the eye's own motion, velocity and turn rate in its own coordinates (x to its right, y up, looking along
-z), so that the pose of every picture is known exactly. The state is that pose: position and unit quaternion (w, x, y,
z), as MuJoCo's free joint has them. There is nothing to be paid for; the reward is 0.
"""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

FOV_Y_DEG = 70.0
STEPS = 40
FRAME_SKIP = 5
MOST = np.array([0.8, 0.1, 0.8, 0.15, 2.0, 0.1], np.float32)
"""Greatest velocity, m/s, and turn rate, rad/s, along and about each axis of the eye."""
COLOURS = (".85 .2 .15", ".2 .55 .85", ".95 .75 .2", ".3 .7 .35", ".6 .35 .7", ".9 .9 .85")


def _xml() -> str:
    walls = "".join(
        f'<geom type="box" size="{a} {b} 1.2" pos="{x} {y} .2" rgba="{COLOURS[i]} 1"/>'
        for i, (x, y, a, b) in enumerate([(4, 0, 0.05, 4), (-4, 0, 0.05, 4), (0, 4, 4, 0.05), (0, -4, 4, 0.05)])
    )
    angles = np.arange(8) * 2 * np.pi / 8
    pillars = "".join(
        f'<geom type="cylinder" size=".28 .9" pos="{2.6 * np.cos(a):.3f} {2.6 * np.sin(a):.3f} -.1" '
        f'rgba="{COLOURS[(5 * i + 2) % 6]} 1"/>'
        for i, a in enumerate(angles)
    )
    return (
        '<mujoco><option timestep="0.02" gravity="0 0 0"/>'
        '<visual><headlight ambient=".5 .5 .5" diffuse=".4 .4 .4"/></visual><worldbody>'
        f'<geom type="plane" size="4 4 .1" pos="0 0 -1" rgba=".45 .42 .4 1"/>{walls}{pillars}'
        '<body name="eye"><freejoint/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>'
        f'<camera name="eye" fovy="{FOV_Y_DEG}"/></body></worldbody></mujoco>'
    )


class Gallery(gym.Env):
    """The eye's pose, (7,), under its motion, (6,); it begins near the middle of the room, upright."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(_xml())
        self.data = mujoco.MjData(self.model)
        self.action_space = gym.spaces.Box(-MOST, MOST, dtype=np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (7,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Anywhere within a metre of the middle, looking anywhere along the floor."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        heading = self.np_random.uniform(-np.pi, np.pi)
        upright, turned = np.array([np.sqrt(0.5), np.sqrt(0.5), 0, 0]), np.zeros(4)
        about_z = np.array([np.cos(heading / 2), 0, 0, np.sin(heading / 2)])
        mujoco.mju_mulQuat(turned, about_z, upright)
        self.data.qpos[:] = [*self.np_random.uniform(-1, 1, 2), 0.0, *turned]
        mujoco.mj_forward(self.model, self.data)
        return self._get_obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Go straight, as the eye stands now, and turn, for a tenth of a second."""
        motion = np.asarray(action, np.float64)
        along = np.zeros(3)
        mujoco.mju_rotVecQuat(along, motion[:3], self.data.qpos[3:])
        self.data.qvel[:3], self.data.qvel[3:] = along, motion[3:]  # a free joint turns in its own coordinates
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        mujoco.mj_forward(self.model, self.data)
        return self._get_obs(), 0.0, False, False, {}

    def _get_obs(self) -> np.ndarray:
        return self.data.qpos.astype(np.float32)
