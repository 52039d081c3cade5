"""How fast is the dream? Batched world-model steps, the SB3 adapter, and MuJoCo, rendered or not, all in one run.

    python -m procosm.benchmarks.machine.dream_speed --checkpoint OUT/world_model [OUT2/world_model …]

Every setup is timed once in each round, one after the other, and every ratio is taken within a round: what else the
machine does then falls on both of its sides. About 50 s for each checkpoint. Leave OMP_WAIT_POLICY alone: with PASSIVE
the threads of a step sleep and wake between its operations, some hundreds of times, which halves the speed of dreams;
each row says what it was.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from tqdm import tqdm

import procosm.envs  # noqa: F401  (importing it registers the ids)
from procosm.agents.judge.speed import truth_speed
from procosm.agents.policy.vecenv import WorldModelVecEnv
from procosm.benchmarks.device import OnDevice
from procosm.sparse.processes import worker_processes
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.files import write_json
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count, Positive

SEED = 0
TRUTHS = {"pixels": "mujoco_rendered", "state": "mujoco_without_rendering"}
"""What MuJoCo is timed with; a policy that acts on states needs no picture of it."""


@dataclass(frozen=True)
class DreamSpeedConfig(OnDevice):
    """What to time, and for how long."""

    checkpoint: tuple[Path, ...]
    """Folders of trained world models, one for each task to time."""
    out: Path = Path(__file__).resolve().parents[1] / "results" / "dream_speed.json"
    """Where the result goes."""
    batches: tuple[Count, ...] = (1, 64, 512)
    """Numbers of dreams side by side."""
    observations: tuple[str, ...] = ("latent", "pixels")
    """What the dreams show."""
    adapter_batch: Count = 256
    """Dreams under the SB3 adapter."""
    adapter_episode_steps: Count = 16
    """Steps of a dream under the SB3 adapter: short, as in training, so that the resets are counted."""
    mixed: bool = True
    """Products in bfloat16, as policies practise (``mixed=True`` of the batched environments); else float32."""
    rounds: Count = 5
    """How often everything is timed."""
    seconds: Positive = 0.4
    """How long each setup is timed in a round."""
    processes: Count = os.cpu_count() or 1
    """MuJoCo environments, each in its own process."""


def make(model: WorldModel, count: int, observation: str, mixed: bool, **options: Any) -> gym.vector.VectorEnv:
    """A batch of dreams, seeded and begun."""
    env = gym.make_vec(
        "Procosm/World-v0", num_envs=count, checkpoint=model, observation=observation, mixed=mixed, **options
    )
    env.reset(seed=SEED)
    env.action_space.seed(SEED)
    return env


def rate(step: Callable[[np.ndarray], object], actions: list[np.ndarray], seconds: float) -> float:
    """Environment steps a second of ``step``, which takes a batch of actions."""
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        step(actions[calls % len(actions)])
        calls += 1
    return calls * len(actions[0]) / (time.perf_counter() - began)


def dynamics_only(model: WorldModel, count: int) -> Callable[[np.ndarray], object]:
    """The model's own step: what an environment that costs nothing would take."""
    latents = model.starts[torch.arange(count) % len(model.starts)]
    memory = model.dynamics.begin(latents)

    def step(actions: np.ndarray) -> None:
        nonlocal memory
        memory, _ = model.dynamics.step(memory, torch.from_numpy(actions).to(latents.device))
        if latents.is_cuda:
            torch.cuda.synchronize(latents.device)

    return step


def setups(config: DreamSpeedConfig, model: WorldModel) -> Iterator[tuple[dict, Callable, list[np.ndarray]]]:
    """Everything timed in this process: its row's first columns, a step function, and actions for it."""
    for count in config.batches:
        envs = {observation: make(model, count, observation, config.mixed) for observation in config.observations}
        space = next(iter(envs.values())).action_space
        actions = [space.sample() for _ in range(16)]
        for observation, env in envs.items():
            yield {"metric": "dream_steps_per_s", "observation": observation, "batch": count}, env.step, actions
        yield {"metric": "dynamics_steps_per_s", "batch": count}, dynamics_only(model, count), actions
    short = {"max_episode_steps": config.adapter_episode_steps, "autoreset_mode": "SAME_STEP"}
    raw, under = (make(model, config.adapter_batch, "state", config.mixed, **short) for _ in range(2))
    adapted = WorldModelVecEnv(under)
    actions = [raw.action_space.sample() for _ in range(16)]
    place = {"observation": "state", "batch": config.adapter_batch, "episode_steps": config.adapter_episode_steps}
    yield {"metric": "raw_short_episodes_steps_per_s", **place}, raw.step, actions
    yield {"metric": "sb3_short_episodes_steps_per_s", **place}, adapted.step, actions


def measure(config: DreamSpeedConfig, model: WorldModel) -> list[tuple[dict, list[float]]]:
    """Each row's first columns and its rate in every round; those of MuJoCo are the last."""
    timed = list(setups(config, model))
    rates: list[list[float]] = [[] for _ in timed]
    truths: dict[str, list[float]] = {observation: [] for observation in TRUTHS}
    with (
        worker_processes(config.processes) as pool,
        tqdm(total=config.rounds * (len(timed) + len(truths)), desc="dream_speed", unit="setup") as bar,
    ):
        for _ in range(config.rounds):
            for found, (_, step, actions) in zip(rates, timed, strict=True):
                rate(step, actions, config.seconds / 4)  # caches of the setup before are cold
                found.append(rate(step, actions, config.seconds))
                bar.update()
            for observation, found in truths.items():
                asked = (model.task, config.seconds * 2, observation)
                found.append(sum(pool.map(truth_speed, *([each] * config.processes for each in asked))))
                bar.update()
    place = {"batch": config.processes, "frame_size": model.task.height}
    mujoco = [({"metric": f"{TRUTHS[name]}_steps_per_s", **place}, found) for name, found in truths.items()]
    return [(row, found) for (row, *_), found in zip(timed, rates, strict=True)] + mujoco


def ratios(measured: list[tuple[dict, list[float]]]) -> Iterator[tuple[dict, list[float]]]:
    """Rates over each other, round by round: dream over MuJoCo, dynamics over dream, adapter over raw."""
    by_metric: dict[tuple, list[float]] = {(row["metric"], row["batch"]): found for row, found in measured}
    truths = {row["metric"]: found for row, found in measured if row["metric"].startswith("mujoco")}
    rendered, unrendered = (truths[f"{name}_steps_per_s"] for name in TRUTHS.values())
    for row, found in measured:
        place = {key: value for key, value in row.items() if key != "metric"}
        if row["metric"] == "dream_steps_per_s":
            yield {"metric": "dream_over_mujoco", **place}, [a / b for a, b in zip(found, rendered, strict=True)]
            against = [a / b for a, b in zip(found, unrendered, strict=True)]
            yield {"metric": "dream_over_mujoco_without_rendering", **place}, against
            alone = by_metric["dynamics_steps_per_s", row["batch"]]
            share = [1 - a / b for a, b in zip(found, alone, strict=True)]
            yield {"metric": "share_of_step_outside_dynamics", **place}, share
        if row["metric"] == "sb3_short_episodes_steps_per_s":
            raw = by_metric["raw_short_episodes_steps_per_s", row["batch"]]
            yield {"metric": "sb3_over_raw", **place}, [a / b for a, b in zip(found, raw, strict=True)]


def result_rows(config: DreamSpeedConfig, model: WorldModel) -> list[dict[str, Any]]:
    """The rows of the result file: the median of the rounds, with the least and the greatest."""
    trained = model.provenance.get("configs", {}).get("train", {})
    measured = measure(config, model)
    return [
        {
            **row,
            "task": model.task.id,
            "value": statistics.median(found),
            "unit": "steps/s" if row["metric"].endswith("per_s") else "ratio",
            "seed": SEED,
            "n": len(found),
            "low": min(found),
            "high": max(found),
            "preset": trained.get("preset", "unknown"),
            "tokens": math.prod(cast(DiffusionDynamics, model.dynamics).net.grid),
            "threads": torch.get_num_threads(),
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
            "products": "bfloat16" if config.mixed else "float32",
        }
        for row, found in [*measured, *ratios(measured)]
    ]


def dream_speed(config: DreamSpeedConfig) -> Path:
    """Time everything and write the result file."""
    rows = [row for checkpoint in config.checkpoint for row in result_rows(config, load(checkpoint, config.device))]
    where = provenance({})
    result = {
        "benchmark": "dream_speed",
        **{key: where[key] for key in ("command", "commit", "date", "hardware", "versions")},
        "interval": "value is the median of n rounds, low and high are the least and the greatest",
        "rows": rows,
    }
    write_json(config.out, result)
    for row in rows:
        place = f"{row['task']} {row['preset']} {row['metric']} {row.get('observation', '')} x{row['batch']}"
        print(f"{place:72} {row['value']:12.3f} {row['unit']}")
    print(f"wrote {config.out}: compare it with the README's table")
    return config.out


if __name__ == "__main__":
    command.main(dream_speed, DreamSpeedConfig)
