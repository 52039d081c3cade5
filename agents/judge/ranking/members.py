"""One policy of a panel: a saved one, or a controller that a line of numbers says whole."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from procosm.agents.judge.ranking.reaching import springs, torque
from procosm.world_model.data.task import Task


@dataclass(frozen=True)
class Member:
    """One policy of the panel.

    Attributes:
        name: unique in the panel. family: ``ppo``, ``sac``, ``td3``, ``degraded``, ``control``, ``dream``, ``linear``,
            ``open-loop``, ``regulator``, ``reaching`` or ``exploit``.
        algorithm, path: the saved policy; empty and None for a controller.
        gains: (a·s,) of a linear controller, one action after the other; its action is -gains (state - about) + push.
        about: (s,) the state that it holds; empty for the origin.
        push: (a,) what is added to every action, its sign turned each half of ``period`` steps; 0 never turns it.
        reach: stiffness, damping and misdirection of a spring to Reacher's target; see ``reaching``.
        epsilon: chance of a uniform action in place of the policy's.
        steps: environment steps it learned from, real or (``dream``) imagined; 0 where nobody said.
        trust_pickle: whether a policy that SB3 saved is opened, which runs the code in it.
        seen: whether the world model's data were collected with this behaviour, or with what it is derived from.
        run: the training that it comes from, which others may share; by default its own name.
    """

    name: str
    family: str
    algorithm: str = ""
    path: Path | None = None
    gains: tuple[float, ...] = ()
    about: tuple[float, ...] = ()
    push: tuple[float, ...] = ()
    period: int = 0
    reach: tuple[float, ...] = ()
    epsilon: float = 0.0
    steps: int = 0
    seen: bool = False
    trust_pickle: bool = False
    run: str = ""

    @property
    def training(self) -> str:
        """Name of the training that it comes from."""
        return self.run or self.name

    def control(self, observed: np.ndarray, steps: np.ndarray, task: Task) -> np.ndarray:
        """(m, a) actions of a controller that observes (m, s) states, ``steps`` (m,) after the reset."""
        low, high = task.bounds
        actions = np.zeros((len(observed), len(low)))
        if self.gains:
            away = observed - np.array(self.about or (0.0,))
            actions -= away @ np.reshape(self.gains, (len(low), -1)).T
        if self.reach:
            actions += torque(observed, *self.reach)
        if self.push:
            turned = steps % self.period >= self.period / 2 if self.period else np.zeros(len(steps), bool)
            actions += np.where(turned, -1.0, 1.0)[:, None] * np.array(self.push)
        return np.clip(actions, low, high).astype(np.float32)


CONTROLS = (
    Member("random", "control", epsilon=1.0, seen=True),
    Member("zero", "control", seen=True),
    Member("smooth noise", "control", seen=True),
)


def open_loop(task: Task) -> list[Member]:
    """Controllers that see nothing: full and partial torque along each action, held or turned now and then."""
    low, high = task.bounds
    largest = np.minimum(np.abs(low), np.abs(high))
    members = []
    for axis in range(len(low)):
        for share in (-1.0, -0.3, 0.3, 1.0):
            push = np.zeros(len(low))
            push[axis] = share * largest[axis]
            members.append(Member(f"constant {axis} {share:+}", "open-loop", push=tuple(push.tolist())))
        for period in (4, 16):
            members.append(
                Member(f"alternating {axis} {period}", "open-loop", push=tuple(np.abs(push).tolist()), period=period)
            )
    return members


def reaching() -> list[Member]:
    """Controllers of Reacher that solve it, and the same led astray."""
    return [Member("reach " + " ".join(f"{x:g}" for x in each), "reaching", reach=each) for each in springs()]


def linear(task: Task, number: int, size: float, seed: int) -> list[Member]:
    """Linear policies drawn at random: of most, some joint runs to its end."""
    rng = np.random.default_rng(seed)
    shape = len(task.action_low) * task.state_size
    drawn = [rng.normal(0.0, size * 4.0 ** (i % 3 - 1), shape) for i in range(number)]
    return [Member(f"linear {i}", "linear", gains=tuple(gains.tolist())) for i, gains in enumerate(drawn)]
