"""The policy of a run at work in MuJoCo: it sees through its world model what it saw in its dreams."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from procosm.envs.collect.policies import Smooth, policy_of_run
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.dreams.observe import Observation
from procosm.envs.dreams.perceive import Eyes
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError

STACK = 3
"""Frames that a policy from pixels sees at once: one frame shows no motion."""


def observation_of(shape: tuple[int, ...] | None, model: WorldModel) -> str:
    """What a policy sees, told by the shape of its observations: ``state``, ``features``, ``latent`` or ``pixels``.

    Raises:
        TaskError: a world model like this shows nothing of the kind.
    """
    height, width, colours = model.task.frame_shape
    kinds: dict[tuple[int, ...], str] = {
        tuple(model.starts.shape[1:]): "latent",
        (height, width, colours * STACK): "pixels",
        (colours * STACK, height, width): "pixels",
        **{(size,): name for name, size in model.read_sizes.items()},
    }
    if shape not in kinds:
        raise TaskError(
            f"a policy that observes {shape} does not fit the world model of {model.task.id}: take one that was "
            f"trained in it (observations {', '.join(map(str, kinds))})"
        )
    return kinds[shape]


class RunPolicy:
    """A run's policy without its own exploration; smooth noise, of other strength in each episode, is added to it.

    Half of the episodes have hardly any (a strength below a quarter of half the action range), so that what the policy
    does itself is seen as well.
    """

    def __init__(self, run: Path, task: Task) -> None:
        """Open a run.

        Raises:
            ProcosmError: it has no policy or world model, or they are of another task.
        """
        model = load(run / "world_model")
        if (model.task.views, model.task.action_low) != (task.views, task.action_low):
            raise TaskError(f"the policy of {run} acts on {model.task.id} as it was seen there, not on this {task.id}")
        self._policy = load_policy(policy_of_run(run))
        shown = Observation.parse(observation_of(self._policy.observation_space.shape, model))
        self._eyes, self._noise, self._first = Eyes(model, shown, 1, STACK), Smooth(task), True
        self._low, self._high = task.bounds

    def begin(self, rng: np.random.Generator) -> None:
        """Draw the episode's noise."""
        self._noise.begin(rng)
        self._first = True

    def act(self, state: np.ndarray, render: Callable[[], np.ndarray]) -> np.ndarray:
        """What the policy does about the frame, and noise."""
        seen = self._eyes.see(np.zeros(1, np.int64), render()[None], self._first)
        self._first = False
        action = self._policy.predict(seen, deterministic=True)[0][0]  # type: ignore[arg-type]  # one kind is shown
        return np.clip(action + self._noise.away(), self._low, self._high).astype(np.float32)
