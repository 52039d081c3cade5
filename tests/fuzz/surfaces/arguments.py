"""Arguments of ``gym.make`` and ``gym.make_vec`` for dreams, and of the MuJoCo task."""

from functools import cache, partial
from pathlib import Path

import gymnasium as gym
import numpy as np

import procosm.envs  # noqa: F401  (registers the ids)
from procosm.envs.dreams import weights
from tests.fuzz.mutations import Case
from tests.fuzz.surfaces.checkpoint import CAMERA, whole

NAN = float("nan")
ODD = (
    NAN, float("inf"), 1.5, -1, 10**9, 10**30, True, "x", "", "\0", b"x", [], {}, [1], {"a": 1}, object(), 1j, (None,),
    ("x", 1), np.zeros(2), np.array("x"), "x" * 10_000, int, {1}, [[1]], -(10**9), 0,
)  # fmt: skip
GOOD = {
    "denoising_steps": (1, 4, np.int64(2)),
    "trust_below": (None, 0, 0.5, 1, np.float32(0.5)),
    "render_mode": (None, "rgb_array"),
    "observation": ("pixels", "latent", ("pixels", "state"), ["state"]),
    "device": ("cpu",),
    "starts": ("task", "wide", [0, 1], np.array([2]), (3,), range(3)),
    "mixed": (False,),
    "sampling": (None, {}, {"solver": "unipc"}, {"temperature": np.float32(0.5), "top_k": None}),
    "num_envs": (1, 3, np.int64(2)),
    "autoreset_mode": ("NEXT_STEP", "SAME_STEP", "NextStep"),
    "checkpoint": (),
    "name": (None, "InvertedPendulum"),
}
TAKEN = {
    "trust_below": (0, True),
    "mixed": (True,),
    "starts": ([1],),
    "name": (),
    "sampling": ({},),
    "denoising_steps": (),
    "num_envs": (),
}
"""Odd values that are none for an argument."""
TRUTH = {
    "task": ("InvertedPendulum-v5",),
    "frame_size": (64, np.int64(64)),
    "action_repeat": (1, 2),
    "observation": ("state",),
    "camera": (CAMERA,),
    "renderer": ("raycast",),
    "version": (1, 2),
    "checkpoint": (None,),
}
CAMERAS = [
    {**CAMERA, key: value}
    for key in CAMERA
    for value in (NAN, None, "x", [], 1e300, -1, {}, True, [1, 2], [NAN] * 3, float("inf"))
] + [{**CAMERA, "eye": 1}, {"fovy": 20.0}]


def dreamed(kind: str, **arguments) -> None:
    """Make one or many, and take a step."""
    make = gym.make if kind == "one" else gym.make_vec
    env = make("Procosm/World-v0", **arguments)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()


def real(**arguments) -> None:
    made = {"task": "InvertedPendulum-v5", "observation": "state", "camera": CAMERA, "renderer": "raycast", **arguments}
    env = gym.make("Procosm/Truth-v0", **made)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.close()


def same(value, others) -> bool:
    return any(type(value) is type(other) and str(value) == str(other) for other in others)


def cases(folder: Path) -> list[Case]:
    path, made = str(whole(folder)), []
    weights.load = cache(weights.load)  # the checkpoint is never changed, and to open it is most of a case
    for kind in ("one", "many"):
        dreamed(kind, checkpoint=path)
        for argument, good in GOOD.items():
            if kind == "one" and argument in ("num_envs", "autoreset_mode", "mixed", "render_mode"):
                continue
            for value in (*ODD, *good):
                named = f"{kind}: {argument}={str(value)[:40]!r} {type(value).__name__}"
                bad = not same(value, (*good, *TAKEN.get(argument, ())))
                call = partial(dreamed, kind, **{"checkpoint": path, argument: value})
                made.append(Case(named, call, bad))
    real()
    for argument, good in TRUTH.items():
        for value in (*ODD, *good):
            call = partial(real, **{argument: value})
            bad = not same(value, good) and not (argument == "camera" and (value == {} if type(value) is dict else 0))
            made.append(Case(f"truth: {argument}={str(value)[:40]!r} {type(value).__name__}", call, bad))
    made += [Case(f"truth: camera {str(camera)[:300]}", partial(real, camera=camera), False) for camera in CAMERAS]
    return made
