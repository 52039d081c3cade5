"""What the ``...Truth-v0`` ids make: the MuJoCo task alone, or seen through a world model's eyes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from procosm.envs.dreams.spec import NO_LIMIT, checked_limit, with_time_limit
from procosm.envs.truth.chunks import ChunkedSteps
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.names import allow_import
from procosm.world_model.errors import TaskError

if TYPE_CHECKING:
    import torch

    from procosm.world_model.checkpoint import WorldModel


def make_truth(
    task: str | None = None,
    checkpoint: "str | Path | WorldModel | None" = None,
    observation: str | Sequence[str] = "pixels",
    max_episode_steps: int | None = None,
    device: "str | torch.device" = "cpu",
    frames_per_step: int | None = None,
    **kwargs: Any,
) -> gym.Env:
    """A truth env by task id, or the one that belongs to a checkpoint.

    Args:
        task: a Gymnasium id (``module:Id`` imports the module), or ``dm_control/<domain>-<task>``. A checkpoint knows
            its own; named beside it, its module may be imported.
        checkpoint: a world model's folder, its run's folder, or a loaded model: the same task, camera and frames, seen
            through its tokenizer, so that ``latent`` and the estimated ``state`` can be observed too
            (``procosm.envs.dreams.perceive``).
        observation: ``pixels``, ``state``, with a checkpoint also ``latent``, or a tuple of them.
        max_episode_steps: from a spec; ``gym.make`` keeps its own to itself. None for the task's own, -1 for no limit.
        device: where the checkpoint's model looks, as in ``WorldModelVectorEnv``.
        frames_per_step: steps of the task in each step here, as ``procosm.envs.truth.chunks`` takes them: the twin of a
            published model, whose steps are several frames. None for one.
        kwargs: what else :class:`~procosm.envs.truth.mujoco.MujocoEnv` takes.

    Raises:
        TaskError: neither or contradicting task and checkpoint, or what MujocoEnv refuses.
        CheckpointError: the checkpoint is missing or truncated.
    """
    limit = checked_limit(max_episode_steps)
    kwargs["max_episode_steps"] = NO_LIMIT
    if checkpoint is None:
        if task is None:
            raise TaskError("a truth env needs task='Reacher-v5' (any MuJoCo task) or checkpoint=PATH")
        env = MujocoEnv(task, observation=observation, **kwargs)
        if frames_per_step is None:
            return with_time_limit(env, limit or env.task.max_episode_steps)
        several = ChunkedSteps(env, frames_per_step)
        return with_time_limit(several, limit or -(-env.task.max_episode_steps // several.frames_per_step))
    if frames_per_step is not None:
        raise TaskError("frames_per_step is of task=...: a checkpoint that has a twin takes steps of one frame")
    from procosm.envs.dreams.perceive import PerceiveWrapper
    from procosm.envs.dreams.weights import open_model

    known = open_model(checkpoint, None, device).task
    if task not in (None, known.id, known.twin and known.twin.id):
        raise TaskError(f"the checkpoint {checkpoint} was trained on {known.id}, not on {task}: leave one of them out")
    if task is not None:
        allow_import(task)
    seen = PerceiveWrapper(MujocoEnv.from_task(known, **kwargs), checkpoint, observation, device)
    return with_time_limit(seen, limit or known.max_episode_steps)


# Where gym.make looks for the modes that it need not wrap; a function has none of its own.
vars(make_truth)["metadata"] = MujocoEnv.metadata
