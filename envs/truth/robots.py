"""Manipulation tasks of Gymnasium-Robotics and Meta-World under names of ours: fetch/reach, metaworld/door-open, ...

Both packages are optional (``pip install 'procosm[robots]'``). The goal is a part of the state, and what a step says of
success is logged as ``success``. Both were written for an older MuJoCo; what they stumble over is mended here.
"""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np

from procosm.envs.truth.backend import mujoco
from procosm.world_model.errors import TaskError

FETCH = {"reach": "FetchReach-v4", "push": "FetchPush-v4", "pick-and-place": "FetchPickAndPlace-v4"}
"""Sparse rewards: -1 in every step away from the goal, 0 at it."""
WELD = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 5.0)
"""Anchor, relative pose (a quaternion that is kept) and torque scale of a weld, as Meta-World sets them."""
INSTALL = "pip install 'procosm[robots]'"


def fetch(name: str, **options: Any) -> gym.Env:
    """A task of the Fetch robot; ``options`` are its own, such as ``reward_type="dense"``.

    Raises:
        TaskError: Gymnasium-Robotics is not installed.
    """
    try:
        import gymnasium_robotics
        from gymnasium_robotics.utils import mujoco_utils
    except ImportError as error:
        raise TaskError(f"fetch/{name} needs Gymnasium-Robotics: {INSTALL}") from error
    # Version 1.4.2 compares numbers with MuJoCo's enumerations, which equal none in MuJoCo of today.
    mujoco_utils.mujoco = _with_plain_numbers()
    gym.register_envs(gymnasium_robotics)
    return gym.make(FETCH[name], disable_env_checker=True, **options).unwrapped


def metaworld(name: str, **options: Any) -> gym.Env:
    """A task of Meta-World's Sawyer robot; each reset places object and goal anew. Its name is what it asks for in
    words: "door open".

    Raises:
        TaskError: Meta-World is not installed.
    """
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
        from metaworld.sawyer_xyz_env import SawyerMocapBase
    except ImportError as error:
        raise TaskError(f"metaworld/{name} needs Meta-World: {INSTALL}") from error
    SawyerMocapBase.reset_mocap_welds = _weld  # type: ignore[method-assign, assignment]
    return Placed(ALL_V3_ENVIRONMENTS[f"{name}-v3"](**options), name.replace("-", " "))


def _weld(env: Any) -> None:
    """What Meta-World 3.0 does to the welds that lead the hand, in a MuJoCo that keeps more numbers of each."""
    welds = np.flatnonzero(env.model.eq_type == int(mujoco.mjtEq.mjEQ_WELD))
    env.model.eq_data[welds, : len(WELD)] = WELD


class Placed(gym.Wrapper):
    """Object and goal drawn at each reset, and shown: without this Meta-World has them from a list of tasks.

    Args:
        env: the task. instruction: what it asks for in words, in every episode.
    """

    def __init__(self, env: gym.Env, instruction: str) -> None:
        super().__init__(env)
        self.instruction = instruction
        base: Any = env.unwrapped
        base._set_task_called, base._partially_observable, base._freeze_rand_vec = True, False, False
        base.seeded_rand_vec = True
        vars(base).pop("sawyer_observation_space", None)  # made while the goal was hidden
        self.observation_space = base.sawyer_observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; of a seed both places are a function.

        Raises:
            ValueError: another instruction than the task's.
        """
        asked = (options or {}).get("instruction", self.instruction)
        if asked != self.instruction:
            raise ValueError(f"{asked!r} is no goal here: ask for {self.instruction!r}")
        if seed is not None:
            self.env.unwrapped.seed(seed)  # type: ignore[attr-defined]
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | {"instruction": self.instruction}


def _with_plain_numbers() -> Any:
    """MuJoCo, its enumerations as whole numbers."""
    kinds = {name: getattr(mujoco, name).__members__ for name in ("mjtJoint", "mjtEq")}
    plain = {
        name: SimpleNamespace(**{member: int(value) for member, value in members.items()})
        for name, members in kinds.items()
    }

    class Plain:
        def __getattr__(self, name: str) -> Any:
            return plain[name] if name in plain else getattr(mujoco, name)

    return Plain()
