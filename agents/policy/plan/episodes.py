"""A planner in several episodes side by side: it goes on with the plan of each, and dreams what was asked for there."""

from collections.abc import Sequence

import numpy as np

from procosm.agents.policy.plan.planner import Planner, State


class Planned:
    """Maps observations to actions, as policies do.

    Args:
        planner: chooses the actions.
        said: what is asked for in words in each episode, by slot; () where nothing is.
    """

    def __init__(self, planner: Planner, said: Sequence[str] = ()) -> None:
        self._planner, self._said = planner, said
        self._state: State | None = None

    def __call__(self, observed: np.ndarray, slots: np.ndarray | None = None) -> np.ndarray:
        """(k, a) actions in the episodes of (k,) slots, of which the first call has all; without slots each plan begins
        anew, and what was done before is unknown.
        """
        if slots is None:
            return self._planner.predict(observed)[0]
        said = [self._said[slot] for slot in slots] if self._said else None
        before = None if self._state is None else tuple(part[slots] for part in self._state)
        action, after = self._planner.predict(observed, before, said=said)
        if self._state is None:
            self._state = after
        else:
            for kept, new in zip(self._state, after, strict=True):
                kept[slots] = new
        return action
