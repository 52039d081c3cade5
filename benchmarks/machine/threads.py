"""What threads and wait policies cost where something else holds the cores: dreams, training, sparse products.

    python -m procosm.benchmarks.machine.threads

Each wait policy is measured in a process of its own, beside no, one and two spinning processes. In a round every setup
works once, one after the other; ``slower`` is its median time over that of the best setup of the same work beside the
same neighbours. "ours" is what dreams and stages of training do by themselves; the others give torch one thread or as
many as there are cores. About five minutes.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch

from procosm import sparse
from procosm.benchmarks.record import record
from procosm.envs.dreams.weights import open_model
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.batch import random_batch
from procosm.world_model.tokenizer.recipe import Tokenize
from procosm.world_model.training.pace import Pace

CORES = os.cpu_count() or 1
NEIGHBOURS = (0, 1, 2)


@dataclass(frozen=True)
class ThreadsConfig:
    """How long everything is timed."""

    rounds: int = 2
    """How often."""
    seconds: float = 2.5
    """Of each setup in a round; a step that has begun is finished."""
    policies: tuple[str, ...] = ("default", "PASSIVE")
    """Values of OMP_WAIT_POLICY; default leaves it unset."""


def dream(model: WorldModel, count: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step of ``count`` dreams in pixels: as the environment does it, and the same operations left to torch."""
    env = gym.make_vec("procosm.envs:Procosm/World-v0", num_envs=count, checkpoint=model)
    env.reset(seed=0)
    actions = np.zeros((count, len(model.task.action_low)), np.float32)
    latents = model.starts[torch.arange(count) % len(model.starts)]
    memory = model.dynamics.begin(latents)

    @torch.inference_mode()
    def plain() -> None:
        nonlocal memory
        memory, prediction = model.dynamics.step(memory, torch.from_numpy(actions))
        model.tokenizer.decode(prediction.latents[:, None])

    return lambda: env.step(actions), plain


def training(model: WorldModel) -> Callable[[], object]:
    """A step of the tokenizer's training, as the preset ``small`` has it."""
    tokenizer, dynamics = cast(Any, model.tokenizer), model.dynamics
    tokenizer.requires_grad_(True)
    batch = random_batch(32, dynamics.context, 0, len(model.task.action_low), {"state": model.task.state_size})
    frames = model.start_frames[torch.arange(32) % len(model.start_frames)]
    return Tokenize(1, 32, 1e-6).rehearse(tokenizer, replace(batch, frames=frames))


def sparse_layer() -> Callable[[], object]:
    """Forward and backward of a block-sparse layer between two dense operations."""
    layer = sparse.nn.Linear(1024, 1024, block=32, density=0.1, mode="sparse", generator=torch.Generator())
    x = torch.randn(4096, 1024, requires_grad=True)
    return lambda: torch.relu(layer(torch.relu(x))).sum().backward()


def setups() -> Iterator[tuple[str, str, int, Callable[[], object], Pace | None]]:
    """Work, setup, torch's threads, a step, and what chooses the threads of each step."""
    model = open_model(None, "InvertedPendulum", "cpu")
    for count in (1, 64):
        ours, plain = dream(model, count)
        yield f"dreams x {count}", "ours", CORES, ours, None
        for threads in (1, CORES):
            yield f"dreams x {count}", f"torch, {threads} threads", threads, plain, None
    step = training(open_model(None, "InvertedPendulum", "cpu"))
    yield "tokenizer training", "ours", CORES, step, Pace()
    for threads in (1, CORES):
        yield "tokenizer training", f"torch, {threads} threads", threads, step, None
    step = sparse_layer()
    for threads in (1, CORES):
        yield "sparse layer", f"{threads} threads", threads, step, None


def seconds_per_step(threads: int, step: Callable[[], object], pace: Pace | None, seconds: float) -> float:
    """Of as many steps as fit."""
    torch.set_num_threads(threads)
    began, steps = time.perf_counter(), 0
    for _ in pace.over(iter(int, 1)) if pace else iter(int, 1):
        step()
        steps += 1
        if time.perf_counter() - began > seconds:
            break
    return (time.perf_counter() - began) / steps


@contextlib.contextmanager
def spinning(count: int) -> Iterator[None]:
    """Processes that hold cores and do nothing."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Rows of this process, under the wait policy that it was started with."""
    rows: list[dict[str, Any]] = []
    for neighbours in NEIGHBOURS:
        timed = list(setups())
        found: list[list[float]] = [[] for _ in timed]
        with spinning(neighbours):
            for _ in range(rounds):
                for times, (_, _, threads, step, pace) in zip(found, timed, strict=True):
                    times.append(seconds_per_step(threads, step, pace, seconds))
        middle = [statistics.median(times) for times in found]
        for value, times, (work, setup, *_) in zip(middle, found, timed, strict=True):
            place = {"task": work, "setup": setup, "neighbours": neighbours, "n": rounds}
            best = min(other for other, row in zip(middle, timed, strict=True) if row[0] == work)
            rows.append({"metric": "seconds_per_step", "value": value, "unit": "s", **place}
                        | {"low": min(times), "high": max(times)})  # fmt: skip
            rows.append({"metric": "slower", "value": value / best, "unit": "1", **place})
    return rows


def main(config: ThreadsConfig) -> None:
    """Measure under each policy, print and record."""
    rows: list[dict[str, Any]] = []
    for policy in config.policies:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        if policy != "default":
            environment["OMP_WAIT_POLICY"] = policy
        call = f"print(json.dumps(measure({config.rounds}, {config.seconds})))"
        code = f"import json; from procosm.benchmarks.machine.threads import measure; {call}"
        run = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
        rows += [row | {"wait": policy} for row in json.loads(run.stdout)]
    for row in rows:
        if row["metric"] == "slower":
            print(f"{row['wait']:8} {row['neighbours']} beside  {row['task']:19} {row['setup']:18} {row['value']:6.2f}")
    record("threads", rows, details={"load_at_the_end": os.getloadavg(), "cores": CORES})


if __name__ == "__main__":
    command.main(main, ThreadsConfig, description=__doc__)
