"""Controllers of InvertedPendulum that solve it without training, and what is left of them with wrong gains."""

import numpy as np
from scipy.linalg import solve_discrete_are

from procosm.agents.judge.ranking.members import Member
from procosm.agents.policy.worlds import truth
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError

TASK = "InvertedPendulum-v5"
STATE_COST, ACTION_COST = (1.0, 10.0, 0.1, 0.1), 0.1
"""Of the quadratic regulator: cart, angle, and their speeds; force."""
STEP = 1e-3
"""Of the central differences, in the state's and the action's own units."""


def linearised(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(s, s) and (s, 1): the next state of a task at rest, by the state and by the action.

    Raises:
        TaskError: another task than InvertedPendulum-v5.
    """
    if task.id != TASK:
        raise TaskError(f"controllers are made for {TASK}, not for {task.id}: give one of its checkpoints")
    env = truth(task, "state")
    assert isinstance(env.unwrapped, MujocoEnv)
    simulator = env.unwrapped.simulator

    def after(state: np.ndarray, action: float) -> np.ndarray:
        env.reset(options={"physics": np.concatenate([[0.0], state])})
        return simulator.step(np.array([action], np.float32))[0].astype(np.float64)

    rest, units = np.zeros(task.state_size), np.eye(task.state_size)
    by_state = [(after(STEP * unit, 0.0) - after(-STEP * unit, 0.0)) / (2 * STEP) for unit in units]
    by_action = (after(rest, STEP) - after(rest, -STEP)) / (2 * STEP)
    env.close()
    return np.stack(by_state, axis=1), by_action[:, None]


def regulator(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(s,) gains K of the action -K s that is optimal for the quadratic costs, by the Riccati equation."""
    cost = solve_discrete_are(a, b, np.diag(STATE_COST), np.eye(1) * ACTION_COST)
    return np.linalg.solve(b.T @ cost @ b + ACTION_COST, b.T @ cost @ a)[0]


def regulated(gains: np.ndarray) -> list[Member]:
    """The optimal gains (s,) of InvertedPendulum, well and ill used: about other places, much too high or too low."""
    places = [
        Member(f"holds {x:+}", "regulator", gains=tuple(gains.tolist()), about=(x, 0.0, 0.0, 0.0))
        for x in (-0.8, -0.6, -0.3, 0.0, 0.3, 0.6, 0.8)
    ]
    scaled = [
        Member(f"gain {scale}", "regulator", gains=tuple((scale * gains).tolist()))
        for scale in (0.1, 0.2, 0.3, 0.4, 5.0, 100.0)
    ]
    return places + scaled


def disturbed(gains: np.ndarray, number: int, spread: float, seed: int) -> list[Member]:
    """Optimal gains, each disturbed: whole, creeping outwards, blind for the cart's place, and excited by its speed."""
    rng = np.random.default_rng(seed)
    kinds = ("whole", "outwards", "blind", "excited")
    members = []
    for i in range(number):
        place, angle, speed, turning = gains * np.exp(rng.normal(0.0, spread, len(gains)))
        kind = kinds[i % len(kinds)]
        if kind == "outwards":
            place *= -rng.uniform(0.0, 0.6)
        elif kind == "blind":
            place = 0.0
        elif kind == "excited":
            place, speed = place * rng.uniform(-0.3, 0.3), -speed * rng.uniform()
        members.append(Member(f"{kind} {i}", "linear", gains=(place, angle, speed, turning)))
    return members
