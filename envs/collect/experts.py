"""Scripted experts of manipulation tasks: they see the true state, and smooth noise is added to what they do.

Meta-World ships its own. Those of the Fetch robot are proportional controllers of the gripper's place.
"""

import warnings
from collections.abc import Callable

import numpy as np

from procosm.envs.collect.policies import Smooth
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError

Script = Callable[[np.ndarray], np.ndarray]
METAWORLD = {
    "reach": "SawyerReachV3Policy",
    "push": "SawyerPushV3Policy",
    "door-open": "SawyerDoorOpenV3Policy",
    "drawer-close": "SawyerDrawerCloseV3Policy",
}
GAIN = 10.0
"""Of an action by metres."""
NEAR, BESIDE, ABOVE = 0.015, 0.07, 0.08
"""Metres: what counts as there; how far behind an object a push begins; how high the gripper passes over it."""
HELD = 0.055
"""Metres between fingers that hold an object; open they are .1 apart."""


class Expert:
    """A script, and smooth noise of other strength in each episode."""

    def __init__(self, task: Task) -> None:
        """The expert of a task.

        Raises:
            TaskError: nobody scripted one.
        """
        self._script, self._noise = script_of(task), Smooth(task)
        self._low, self._high = task.bounds

    def begin(self, rng: np.random.Generator) -> None:
        """Draw the episode's noise."""
        self._noise.begin(rng)

    def act(self, state: np.ndarray, render: Callable[[], np.ndarray]) -> np.ndarray:
        """What the script does about the true state, and noise."""
        return np.clip(self._script(state) + self._noise.away(), self._low, self._high).astype(np.float32)


def script_of(task: Task) -> Script:
    """What maps the true state (s,) of a task to an action (4,).

    Raises:
        TaskError: nobody scripted it.
    """
    name = "" if task.twin is None else task.twin.id
    package, _, kind = name.partition("/")
    if package == "metaworld" and kind in METAWORLD:
        return _shipped(METAWORLD[kind])
    if package == "fetch" and kind in FETCH:
        return FETCH[kind]
    known = ", ".join([*(f"fetch/{each}" for each in FETCH), *(f"metaworld/{each}" for each in METAWORLD)])
    raise TaskError(f"nobody scripted an expert of {task.id}: --policy expert is for {known}")


def _shipped(name: str) -> Script:
    """A policy of Meta-World's, which warns that its actions are clipped."""
    import metaworld.policies

    policy = getattr(metaworld.policies, name)()

    def act(state: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return policy.get_action(state)

    return act


def reach(state: np.ndarray) -> np.ndarray:
    """Straight to the goal. The state is where the gripper is (3,), the goal (3,), and what else is observed."""
    return _towards(state[3:6] - state[6:9], 0.0)


def push(state: np.ndarray) -> np.ndarray:
    """Round the object to its far side from the goal, down, and forward; the gripper stays closed."""
    goal, grip, thing = state[3:6], state[6:9], state[9:12]
    way = (goal - thing)[:2]
    left = np.linalg.norm(way)
    if left < NEAR:
        return np.zeros(4, np.float32)
    ahead = way / left
    offset = (grip - thing)[:2]
    aside = offset - (offset @ ahead) * ahead
    if offset @ ahead < 0 and np.linalg.norm(aside) < 0.02 and grip[2] - thing[2] < 0.03:
        speed = np.clip(GAIN * left, 0.1, 0.5)
        return np.array([*(speed * ahead - GAIN * aside), GAIN * (thing[2] - grip[2]), 0.0], np.float32).clip(-1, 1)
    begin = np.array([*(thing[:2] - BESIDE * ahead), thing[2]])
    if np.linalg.norm((begin - grip)[:2]) > NEAR:
        begin[2] += ABOVE
    return _towards(begin - grip, 0.0)


def pick_and_place(state: np.ndarray) -> np.ndarray:
    """Above the object with open fingers, down, close, and to the goal."""
    goal, grip, thing, fingers = state[3:6], state[6:9], state[9:12], state[15:17].sum()
    way = thing - grip
    if np.linalg.norm(way) < 2 * NEAR:
        return _towards(goal - thing if fingers < HELD else way, -1.0)
    if np.linalg.norm(way[:2]) > NEAR:
        way = way + np.array([0.0, 0.0, ABOVE])
    return _towards(way, 1.0)


def _towards(way: np.ndarray, fingers: float) -> np.ndarray:
    """(3,) metres to go, and what the fingers do: 1 opens, -1 closes."""
    return np.array([*np.clip(GAIN * way, -1, 1), fingers], np.float32)


FETCH: dict[str, Script] = {"reach": reach, "push": push, "pick-and-place": pick_and_place}
