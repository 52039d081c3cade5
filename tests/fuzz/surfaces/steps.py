"""Actions, seeds and reset options of the dream, of many dreams, and of MuJoCo."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.envs.truth.mujoco import MujocoEnv
from tests.conftest import restless_model
from tests.fuzz.mutations import Case
from tests.fuzz.surfaces.checkpoint import CAMERA, TASK

DREAMS = 3
RAGGED = [[1.0], [1.0, 2.0]]
NEST: list = []
for _ in range(60):
    NEST = [NEST]
NO_ACTIONS = (
    None, "x", "1", b"1", object(), {}, {"a": 1}, {1.0}, [], [[]], [[[[1.0]]]], RAGGED, 1j, [1j], [None], ["1"], [b"1"],
    np.array(["1.5"]), np.array([b"1"]), np.array([None]), np.array([{}]), np.array(["2026-01-01"], "datetime64[s]"),
    np.zeros((1, 1, 1), np.float32), np.zeros(0), np.zeros((2, 7)), np.array([(1, 2.0)], "i4,f4"), np.array([1 + 2j]),
    10**400, [10**400], [float("nan")], [float("inf")], [-float("inf")], np.array([np.nan]), np.array([np.inf], "f2"),
    [True], np.array([True]), range(0), (x for x in [1.0]), lambda: 1.0, int, NEST, [object()],
    torch.tensor([float("nan")]), torch.ones(3, 3, 3), torch.ones(2).to_sparse(),
)  # fmt: skip
ACTIONS = (
    [0.0], [1e300], [-1e300], [1e39], [2**62], np.array([1e300]), np.array([-1e308]), np.array([3], np.uint8),
    np.array([1e4], np.float16), torch.ones(1), torch.ones(1, requires_grad=True), [-0.0],
    np.ma.array([1.0], mask=[False]), np.array([1e-320]), np.array([np.longdouble(10) ** 3000]),
)  # fmt: skip
NO_OPTIONS = (
    [1],
    "start",
    5,
    1.5,
    {"unknown": 1},
    {1: 2, "a": 3},
    {None: 1},
    object(),
    {"start": 0, "physic": 1},
    (1,),
)
NO_STARTS = (
    -1, 10**9, 10**400, 1.5, float("nan"), "0", b"0", True, [], {}, {"a": 1}, object(), np.float64(1), np.array([0.5]),
    [[0]], [None, "1", 0], [0.0] * 3, [-1] * 3, [10**9] * 3, [True] * 3, np.zeros((3, 3), int), range(9), 1j, {0},
)  # fmt: skip
NO_SEEDS = (
    -1,
    1.5,
    "1",
    b"1",
    [],
    {},
    object(),
    float("nan"),
    np.float64(1),
    -(10**30),
    [1.5] * 3,
    [-1] * 3,
    ["1"] * 3,
    1j,
)
NO_MASKS = (
    None, [], [True] * 3, np.zeros(3, bool), np.ones(2, bool), np.ones((3, 1), bool), np.ones(3), "mask", 1, True,
    np.array([1, 0, 1]), np.array(True), object(),
)  # fmt: skip
NO_PHYSICS = (
    [], "x", 1.0, {}, object(), [float("nan")] * 5, np.zeros(4), np.zeros((5, 1)), np.array(["x"] * 5), [[1], [2, 3]],
    np.full(5, np.inf), np.full(5, 1e300), np.full(5, -1e15), np.zeros(5, complex), [10**400] * 5, [None] * 5, 1j,
    np.zeros(5, bool), np.array([None] * 5), [True] * 5, b"xxxxx", range(4), {1.0, 2.0},
)  # fmt: skip


def named(value) -> str:
    return f"{type(value).__name__} {str(value)[:50]!r}"


def stepped(env, action) -> None:
    env.reset(seed=0)
    observed, reward, *_ = env.step(action)
    assert np.isfinite(observed).all() and np.isfinite(reward).all()


def began(env, **arguments) -> None:
    observed, _ = env.reset(**arguments)
    assert np.isfinite(observed).all()


def cases(folder: Path) -> list[Case]:
    model = restless_model(TASK)
    one, many = WorldModelEnv(model, "state"), WorldModelVectorEnv(model, DREAMS, "state")
    truth = MujocoEnv("InvertedPendulum-v5", observation="state", camera=CAMERA, renderer="raycast")
    made = []
    for name, env in (("dream", one), ("dreams", many), ("truth", truth)):
        stepped(env, env.action_space.sample())
        for number, action in enumerate((*NO_ACTIONS, *ACTIONS)):
            flat = isinstance(action, list) or (hasattr(action, "shape") and len(action.shape) == 1)
            given = [action] * DREAMS if env is many and flat else action
            wrong = number < len(NO_ACTIONS)
            made.append(Case(f"{name}: action {named(given)}", partial(stepped, env, given), wrong))
        made += [Case(f"{name}: options {named(v)}", partial(began, env, options=v), True) for v in NO_OPTIONS]
        made += [Case(f"{name}: seed {named(v)}", partial(began, env, seed=v), True) for v in NO_SEEDS]
        made += [Case(f"{name}: seed {v}", partial(began, env, seed=v), False)
                 for v in (None, 0, 2**32, 2**64, 2**200, np.int64(3), np.uint8(3))]  # fmt: skip
    for env in (one, many):
        made += [Case(f"start {named(v)}", partial(began, env, options={"start": v}), True) for v in NO_STARTS]
        made += [Case(f"start {named(v)}", partial(began, env, options={"start": v}), False)
                 for v in (None, 0, 8, np.int64(2), np.uint8(2))]  # fmt: skip
    made += [Case(f"mask {named(v)}", partial(began, many, options={"reset_mask": v}), True) for v in NO_MASKS]
    made += [Case(f"physics {named(v)}", partial(began, truth, options={"physics": v}), True) for v in NO_PHYSICS]
    return made
