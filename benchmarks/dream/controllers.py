"""Do controllers that barely hold a pendulum fall in the dream as they do in MuJoCo?

    python -m procosm.benchmarks.dream.controllers --checkpoint envs/checkpoints/InvertedPendulum

A panel of trained policies either falls at once or stands; what creeps for hundreds of steps before it falls is rare in
it, and that is where dreams were found to err (LOG.md, "What creeps comes to rest"). Here the panel is made of it:
linear feedback from the optimal gains of the linearised task, each gain disturbed, and in three of four controllers the
feedback of the cart's place or speed taken out or reversed. Nothing is trained, so it takes minutes.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import solve_discrete_are

from procosm.agents.policy.worlds import truth
from procosm.benchmarks.dream.agreement import Scores, agreement_rows
from procosm.benchmarks.dream.paired import Dream, Rows, Truth, World, play
from procosm.benchmarks.dream.zoo import Member
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.dreams.weights import find_checkpoint
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model import command
from procosm.world_model.checkpoint import load
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError
from procosm.world_model.precision import has_bfloat16
from procosm.world_model.settings import Count, Seed, Settings

FIRST_SEED = 9_500_000
HORIZON = 100
SPREAD = 0.35
"""Standard deviation of the logarithm of a gain."""
STATE_COST, ACTION_COST = (1.0, 10.0, 0.1, 0.1), 0.1
"""Of the quadratic regulator: cart, angle, and their speeds; force."""
STEP = 1e-3
"""Of the central differences, in the state's and the action's own units."""


@dataclass(frozen=True)
class ControllersConfig(Settings):
    """Which dream, and how many controllers."""

    checkpoint: Path
    """Checkpoint or run folder of a world model of InvertedPendulum."""
    controllers: Count = 48
    """Size of the panel."""
    episodes: Count = 4
    """Paired episodes of each controller."""
    slots: Count = 96
    """Dreams side by side."""
    seed: Seed = 5
    """Of the gains."""
    out: Path = RESULTS
    """Folder of the result."""
    quick: bool = False
    """Half a minute: 16 controllers, one episode of 200 steps; the result goes to runs/controllers."""


def linearised(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(s, s) and (s, 1): the next state of a task at rest, by the state and by the action.

    Raises:
        TaskError: another task than InvertedPendulum-v5.
    """
    if task.id != "InvertedPendulum-v5":
        raise TaskError(f"controllers are made for InvertedPendulum-v5, not for {task.id}: give one of its checkpoints")
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


def panel(gains: np.ndarray, number: int, seed: int) -> list[Member]:
    """Controllers: whole ones, ones that creep outwards, ones blind for the cart's place, ones its speed excites."""
    rng = np.random.default_rng(seed)
    kinds = ("whole", "outwards", "blind", "excited")
    members = []
    for i in range(number):
        place, angle, speed, turning = gains * np.exp(rng.normal(0.0, SPREAD, len(gains)))
        kind = kinds[i % len(kinds)]
        if kind == "outwards":
            place *= -rng.uniform(0.0, 0.6)
        elif kind == "blind":
            place = 0.0
        elif kind == "excited":
            place, speed = place * rng.uniform(-0.3, 0.3), -speed * rng.uniform()
        members.append(Member(f"{kind} {i}", "linear", gains=(place, angle, speed, turning)))
    return members


def controllers(config: ControllersConfig) -> Path:
    """Play the panel in both worlds and write ``controllers_invertedpendulum.json``."""
    model = load(find_checkpoint(config.checkpoint, None))
    if config.quick:
        config = dataclasses.replace(config, out=Path("runs/controllers"), controllers=16, episodes=1)
        model = dataclasses.replace(model, task=dataclasses.replace(model.task, max_episode_steps=200))
    members = panel(regulator(*linearised(model.task)), config.controllers, config.seed)
    seeds = list(range(FIRST_SEED, FIRST_SEED + config.episodes))

    def played(world: World, label: str) -> list[Rows]:
        found: dict[str, Rows] = {}
        play(world, model.task, members, seeds, [HORIZON], lambda m, rows: found.update({m.name: rows}), label)
        return [found[member.name] for member in members]

    real = played(Truth(model.task, config.slots), "MuJoCo")
    dreamed = played(Dream(model, seeds, config.slots, has_bfloat16()), "dream")
    every = [Scores.of(key, real, dreamed) for key in ("return", f"return_{HORIZON}")]
    rows = [row for scores in every for row in agreement_rows(members, scores) if row.get("panel") == "all"]
    means = [scores.mean(axis=1).tolist() for scores in (every[0].real, every[0].dreamed)]
    pairs = zip(members, *means, strict=True)
    details = {
        "intervals": "95 % bootstrap over controllers",
        "first_seed": FIRST_SEED,
        "returns": [{"controller": m.name, "gains": m.gains, "mujoco": r, "dream": d} for m, r, d in pairs],
        "world_model": {key: model.provenance.get(key) for key in ("commit", "command", "date")},
    }
    rows = [{"task": model.task.id, **row} for row in rows]
    return record("controllers_invertedpendulum", rows, config.out, details)


if __name__ == "__main__":
    command.main(controllers, ControllersConfig)
