"""Does a pendulum near rest answer in the dream as it does in MuJoCo?

    python -m procosm.benchmarks.dream.near_rest --checkpoint envs/checkpoints/InvertedPendulum

What a good policy lives through is slow, and small errors there decide whether it stands for a thousand steps or falls.
At places all along the rail an upright pole glides with its cart, leans a little or is pushed a little, to the left and
to the right, and half the difference of the two is followed for a few steps in both worlds. The dream's over MuJoCo's
is 1 in a perfect dream, less where there is friction. A pole that stands still must stand: what the dream makes of it,
less what MuJoCo does, is told as the lean that would do the same in MuJoCo. No policy acts; it takes half a minute.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from procosm.agents.judge.intervals import interval
from procosm.agents.judge.open_loop import predictions
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.dreams.weights import find_checkpoint
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError
from procosm.world_model.settings import Count

STEPS = (1, 2, 4, 8)
CART, ANGLE = 0, 1
RAIL_M = 0.6
"""Places lie evenly from this far to the left of the middle to this far to the right."""


@dataclass(frozen=True)
class Question:
    """What is done to a pole at rest.

    Attributes:
        name: as rows have it. answer: index of the state that answers.
        sizes: radians, m/s, or the action's own units.
    """

    name: str
    answer: int
    sizes: tuple[float, ...]


QUESTIONS = (
    Question("glide", CART, (0.05, 0.1, 0.2, 0.5)),
    Question("lean", ANGLE, (0.003, 0.01, 0.03)),
    Question("push", CART, (0.03, 0.1, 0.3)),
)


@dataclass(frozen=True)
class NearRestConfig(OnDevice):
    """Which dream, and at how many places."""

    checkpoint: Path
    """Checkpoint or run folder of a world model of InvertedPendulum."""
    places: Count = 41
    """Places along the rail."""
    out: Path = RESULTS
    """Folder of the result."""
    quick: bool = False
    """Ten seconds: seven places; the result goes to runs/near_rest."""


@dataclass(frozen=True)
class Episodes:
    """The same moments and actions in both worlds; the last axis of states is MuJoCo's observation.

    Attributes:
        frames: (n, context, H, W, 3) uint8, what was seen up to the moment. actions: (n, 1), held from then on.
        states: (n, 1 + steps, s), from the moment on, in MuJoCo.
    """

    frames: np.ndarray
    actions: np.ndarray
    states: np.ndarray


def in_mujoco(task: Task, question: str, sizes: np.ndarray, places: np.ndarray, context: int) -> Episodes:
    """Every size (with its sign) at every place, sizes first."""
    env = MujocoEnv.from_task(task, observation=("pixels", "state"))
    frames, actions, states = [], [], []
    for size in sizes:
        for place in places:
            speed, lean = (size if question == kind else 0.0 for kind in ("glide", "lean"))
            action = np.full(1, size if question == "push" else 0.0, np.float32)
            seen, after = [], []
            for ago in range(context - 1, -1, -1):
                moment = np.array([0.0, place - speed * ago * task.dt_s, lean, speed, 0.0])
                observed = env.reset(options={"physics": moment})[0]
                seen.append(observed["pixels"])
            after.append(observed["state"])
            after += [env.step(action)[0]["state"] for _ in range(max(STEPS))]
            frames.append(np.stack(seen))
            actions.append(action)
            states.append(np.stack(after))
    env.close()
    return Episodes(np.stack(frames), np.stack(actions), np.stack(states))


@torch.no_grad()
def in_dream(model: WorldModel, episodes: Episodes) -> np.ndarray:
    """(n, 1 + steps, s): the same as ``episodes.states``, as the model estimates them in its dream."""
    seen = model.encode(episodes.frames)
    dreamed = predictions(model, seen, np.repeat(episodes.actions[:, None], max(STEPS), axis=1))
    return torch.stack([model.read("state", seen), *(p.readouts["state"] for p in dreamed)], dim=1).cpu().numpy()


def answers(states: np.ndarray, step: int) -> np.ndarray:
    """(sizes, places), half of what sets apart after ``step`` steps what was done to the right and to the left.

    Args:
        states: (2, sizes, places, 1 + steps), the answering state; first to the right, then to the left.
    """
    right, left = states[..., step] - states[..., 0]
    return (right - left) / 2


def answer_rows(question: Question, real: np.ndarray, dreamed: np.ndarray) -> list[dict[str, Any]]:
    """Slope of dreamed on real answers by steps; ``real`` and ``dreamed`` as :func:`answers` takes them."""
    rows = []
    for step in STEPS:
        truth, dream = answers(real, step), answers(dreamed, step)
        over, under = (truth * dream).sum(axis=0), (truth**2).sum(axis=0)  # (places,)
        found = interval(lambda a, b: a.sum(axis=-1) / b.sum(axis=-1), over, under)
        rows.append({"metric": f"{question.name}: dreamed answer over real", "horizon": step, **found.as_dict()})
    return rows


def rest_rows(real_lean: np.ndarray, sizes: np.ndarray, real: np.ndarray, dreamed: np.ndarray) -> list[dict[str, Any]]:
    """Lean that would do to MuJoCo's pole what the dream adds to one that stands still, root mean square over places.

    Args:
        real_lean: (2, sizes, places, 1 + steps), angles after leans of ±``sizes``. real, dreamed: (places, 1 + steps),
            angles of a pole that stands still.
    """
    rows = []
    for step in STEPS:
        by_lean = (answers(real_lean, step) / sizes[:, None]).mean()
        added = (dreamed[:, step] - dreamed[:, 0]) - (real[:, step] - real[:, 0])
        found = interval(lambda x: np.sqrt((x**2).mean(axis=-1)), added / by_lean)
        rows.append({"metric": "rest: lean felt where none is", "horizon": step, **found.as_dict(), "unit": "rad"})
    return rows


def near_rest(config: NearRestConfig) -> Path:
    """Ask all questions and write ``near_rest_invertedpendulum.json``.

    Raises:
        TaskError: another task than InvertedPendulum-v5.
    """
    model = load(find_checkpoint(config.checkpoint, None), config.device)
    model.task.require("this benchmark", "state", "twin")
    if model.task.id != "InvertedPendulum-v5":
        raise TaskError(f"near_rest asks about InvertedPendulum-v5, not {model.task.id}: give one of its checkpoints")
    places = np.linspace(-RAIL_M, RAIL_M, 7 if config.quick else config.places)
    context, rows, leans = model.dynamics.context, [], {}
    for question in QUESTIONS:
        sizes = np.array(question.sizes)
        both = in_mujoco(model.task, question.name, np.concatenate([sizes, -sizes]), places, context)
        shape = (2, len(sizes), len(places), 1 + max(STEPS))
        real, dreamed = (states[..., question.answer].reshape(shape) for states in (both.states, in_dream(model, both)))
        rows += answer_rows(question, real, dreamed)
        if question.name == "lean":
            leans = {"real_lean": real, "sizes": sizes}
    still = in_mujoco(model.task, "rest", np.zeros(1), places, context)
    rows += rest_rows(**leans, real=still.states[..., ANGLE], dreamed=in_dream(model, still)[..., ANGLE])
    details = {
        "intervals": "95 % bootstrap over places",
        "places": [float(place) for place in places],
        "sizes": {question.name: list(question.sizes) for question in QUESTIONS},
        "world_model": {key: model.provenance.get(key) for key in ("commit", "command", "date")},
    }
    rows = [{"task": model.task.id, "unit": "1", **row} for row in rows]
    out = Path("runs/near_rest") if config.quick else config.out
    return record("near_rest_invertedpendulum", rows, out, details)


if __name__ == "__main__":
    command.main(near_rest, NearRestConfig)
