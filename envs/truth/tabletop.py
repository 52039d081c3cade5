"""Tabletop-v0: coloured balls on a table, and a goal in words, such as "push the red ball left".

Each ball is pushed by a force of its own, along x and y; what the words ask for is paid. The table is seen from above:
left is -x, away is +y.
"""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

COLOURS = {"red": (0.9, 0.15, 0.1), "green": (0.15, 0.75, 0.2), "blue": (0.15, 0.3, 0.95)}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "away": (0, 1), "closer": (0, -1)}
INSTRUCTIONS = tuple(f"push the {colour} ball {direction}" for colour in COLOURS for direction in DIRECTIONS)
RADIUS_M, REACH_M, HALF_M, APART_M = 0.09, 0.22, 0.5, 0.24
"""Of a ball; how far from the middle balls begin along each axis; half a side of the table; least distance of balls."""
PUSHED_M = 0.1
"""A ball that has moved so far along an axis was pushed there."""
FRAME_SKIP = 5
STEPS = 12


def _xml() -> str:
    balls = "".join(
        f'<body name="{name}" pos="0 0 {RADIUS_M}"><joint name="{name}_x" type="slide" axis="1 0 0" damping="1"/>'
        f'<joint name="{name}_y" type="slide" axis="0 1 0" damping="1"/>'
        f'<geom type="sphere" size="{RADIUS_M}" mass=".3" rgba="{r} {g} {b} 1"/></body>'
        for name, (r, g, b) in COLOURS.items()
    )
    motors = "".join(f'<motor joint="{name}_{axis}" ctrlrange="-1 1" gear=".4"/>' for name in COLOURS for axis in "xy")
    walls = "".join(
        f'<geom type="plane" pos="{-x * HALF_M} {-y * HALF_M} 0" size="1 1 1" zaxis="{x} {y} 0" rgba="0 0 0 0"/>'
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))
    )
    return (
        '<mujoco><option timestep="0.02" gravity="0 0 0"/><worldbody><light pos="0 0 3" dir="0 0 -1"/>'
        '<camera name="above" pos="0 0 1.2" fovy="46"/>'
        f'<geom type="box" size="{HALF_M} {HALF_M} .01" pos="0 0 -.01" rgba=".75 .72 .68 1" contype="0"'
        ' conaffinity="0"/>'
        f"{walls}{balls}</worldbody><actuator>{motors}</actuator></mujoco>"
    )


def forces(instruction: str) -> np.ndarray:
    """(6,) float32, the action that does what is asked: full force on the ball, none on the others."""
    action = np.zeros(2 * len(COLOURS), np.float32)
    if instruction:
        ball, direction = _meant(instruction)
        action[2 * ball : 2 * ball + 2] = DIRECTIONS[direction]
    return action


def goal_reached(before: np.ndarray, after: np.ndarray) -> str:
    """What was done, in words, between two (3, 2) positions of the balls, metres; "" where nothing was, or two things.

    One ball has moved by ``PUSHED_M`` along one axis, and twice as far as along the other and as any other ball.
    """
    moved = np.asarray(after, float) - np.asarray(before, float)
    far = np.abs(moved)
    ball, axis = np.unravel_index(far.argmax(), far.shape)
    rest = np.delete(far.ravel(), far.argmax())
    if far[ball, axis] < PUSHED_M or rest.max() > far[ball, axis] / 2:
        return ""
    way = tuple(int(np.sign(moved[ball, axis])) if i == axis else 0 for i in range(2))
    direction = next(name for name, each in DIRECTIONS.items() if each == way)
    return f"push the {list(COLOURS)[ball]} ball {direction}"


def _meant(instruction: str) -> tuple[int, str]:
    """Which ball, and where to.

    Raises:
        ValueError: the words ask for nothing that can be done here.
    """
    if instruction not in INSTRUCTIONS:
        raise ValueError(f"{instruction!r} is no goal here: ask for one such as {INSTRUCTIONS[0]!r}")
    ball, direction = divmod(INSTRUCTIONS.index(instruction), len(DIRECTIONS))
    return ball, list(DIRECTIONS)[direction]


class Tabletop(gym.Env):
    """The balls' positions and velocities, (12,), under forces (6,); ``reset(options={"instruction": ...})`` sets the
    goal, else it is drawn, and ``info["instruction"]`` says which it is.

    The reward of a step is how far the ball that was asked for has moved where it was asked to, less how far others
    have moved, in metres.
    """

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(_xml())
        self.data = mujoco.MjData(self.model)
        self.instruction = ""
        self.action_space = gym.spaces.Box(-1, 1, (2 * len(COLOURS),), np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (4 * len(COLOURS),))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Balls at rest, apart from each other."""
        super().reset(seed=seed)
        drawn = str(self.np_random.choice(INSTRUCTIONS))
        self.instruction = (options or {}).get("instruction", drawn)
        _meant(self.instruction)
        mujoco.mj_resetData(self.model, self.data)
        while True:
            places = self.np_random.uniform(-REACH_M, REACH_M, (len(COLOURS), 2))
            gaps = np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(len(COLOURS), 1)]
            if gaps.min() > APART_M:
                break
        self.data.qpos[:] = places.ravel()
        mujoco.mj_forward(self.model, self.data)
        return self._get_obs(), {"instruction": self.instruction}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Push for a tenth of a second."""
        before = self.data.qpos.reshape(-1, 2).copy()
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        moved = self.data.qpos.reshape(-1, 2) - before
        ball, direction = _meant(self.instruction)
        others = np.delete(np.linalg.norm(moved, axis=1), ball).sum()
        reward = float(moved[ball] @ DIRECTIONS[direction] - others)
        return self._get_obs(), reward, False, False, {"instruction": self.instruction}

    def _get_obs(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel]).astype(np.float32)
