"""WorldModelVecEnv: the batched dream as Stable-Baselines3 wants it.

SB3's VecEnv is not Gymnasium's VectorEnv: it resets a finished slot in the same step, returns one ``done``, and wants
a list of info dicts with ``terminal_observation`` and ``TimeLimit.truncated``. This is the only place that translates.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from procosm.world_model.errors import TaskError

EPISODE = ("episode", "_episode")


class WorldModelVecEnv(VecEnv):
    """A Gymnasium vector environment in ``SAME_STEP`` mode as an SB3 VecEnv.

    For ``rollout/ep_rew_mean`` wrap the vector environment in ``gymnasium.wrappers.vector.RecordEpisodeStatistics``
    first: it counts for all slots at once, where SB3's ``VecMonitor`` loops over them.

    Slots whose episode goes on share one empty info dict, because building a dict for each slot of each step costs more
    than many a policy; read ``env.env`` for the batched infos. The slots live in one object, so attributes and methods
    are the batch's own.
    """

    def __init__(self, vector_env: gym.vector.VectorEnv) -> None:
        """Wrap ``vector_env``, such as ``gym.make_vec("Procosm/Reacher-v0", 64, autoreset_mode="SAME_STEP")``.

        Raises:
            TaskError: the vector environment resets in another mode than SAME_STEP.
        """
        mode = vector_env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise TaskError(
                f"SB3 needs slots that reset in the step they end, but this environment's autoreset_mode is {mode}: "
                'make it with autoreset_mode="SAME_STEP"'
            )
        self.env = vector_env
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space)
        self._actions: np.ndarray | None = None
        self._going_on: dict[str, Any] = {}

    def reset(self) -> VecEnvObs:
        """Begin new episodes in all slots, with the seeds of ``seed()`` and the options of ``set_options()``."""
        # VectorEnv declares one seed; every batch of Gymnasium's also takes a list, a seed for each slot.
        observed, infos = self.env.reset(seed=list(self._seeds), options=self._batched_options())  # type: ignore[arg-type]
        self.reset_infos = [_slot_info(infos, slot) for slot in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observed

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions (n, a) for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step: observations, rewards (n,) float32, dones (n,) and n infos."""
        observed, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = terminated | truncated
        slots = [self._going_on] * self.num_envs
        for slot in np.flatnonzero(dones).tolist():
            slots[slot] = {
                **_slot_info(infos["final_info"], slot),
                **_slot_info({key: infos[key] for key in EPISODE if key in infos}, slot),
                "terminal_observation": infos["final_obs"][slot],
                "TimeLimit.truncated": bool(truncated[slot] and not terminated[slot]),
            }
            self.reset_infos[slot] = _slot_info(infos, slot)
        return observed, rewards.astype(np.float32), dones, slots

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The newest frame of every slot."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The batch's attribute, once for each slot asked for."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the batch's attribute.

        Raises:
            TaskError: for some slots only, which share the attribute with all others.
        """
        if len(set(self._get_indices(indices))) != self.num_envs:
            raise TaskError(f"{attr_name} belongs to all {self.num_envs} slots at once: set it without indices")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args, indices: VecEnvIndices = None, **method_kwargs) -> list[Any]:
        """Call the batch's method once; its result, once for each slot asked for."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """False for each slot asked for: wrappers of single environments cannot wrap a batch."""
        return [False for _ in self._get_indices(indices)]

    def _batched_options(self) -> dict[str, Any] | None:
        """One options dict for the batch: each key lists what the slots were given, None where a slot was not."""
        keys = {key for options in self._options for key in options}
        return {key: [options.get(key) for options in self._options] for key in keys} or None


def _slot_info(infos: dict[str, Any], slot: int) -> dict[str, Any]:
    """What Gymnasium's batched infos say about one slot."""
    return {
        key: {name: each[slot] for name, each in values.items()} if isinstance(values, dict) else values[slot]
        for key, values in infos.items()
        if not key.startswith("_") and key not in ("final_obs", "final_info") and infos[f"_{key}"][slot]
    }
