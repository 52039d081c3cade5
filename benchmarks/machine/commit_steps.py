"""What ``commits`` has each of two checkouts do: not a command, and not imported; it stands on what both have.

    python commit_steps.py CHECKPOINT DATA WORK DREAMS SECONDS THREADS

Prints the names of the works there are, as JSON; then reads one name a line, and prints its steps a second: of the
processor where there is one thread, else of the clock. Training steps are those of the checkout's own ``train``: its
first call of each stage is kept, and repeated.
"""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

STEPS = {"tokenizer": 3, "state_head": 20, "manifold": 20, "diffusion": 3, "unroll-0": 2}
"""Steps of each stage that are timed at once."""


class Enough(Exception):
    """Every stage was seen."""


def dreams(
    checkpoint: str, number: int, observation: str, seconds: float, now: Callable[[], float]
) -> Callable[[], float]:
    """Steps a second of dreams side by side."""
    env = gym.make_vec("procosm.envs:Procosm/World-v0", num_envs=number, checkpoint=checkpoint, observation=observation)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(8)]

    def rate() -> float:
        taken, began = 0, now()
        while now() - began < seconds:
            env.step(actions[taken % len(actions)])
            taken += 1
        return taken * number / (now() - began)

    return rate


def stages(data: Path, work: Path, now: Callable[[], float]) -> dict[str, Callable[[], float]]:
    """Steps a second of every stage of the preset small."""
    where, training, sizes = parts()
    run_stage, kept = where.run_stage, dict[str, tuple[Any, ...]]()

    def keep(name: str, module: Any, losses: Any, config: Any, save: Path, *rest: Any) -> Any:
        learns = [p for p in module.parameters() if p.requires_grad]
        kept[name.replace(" ", "_")] = module, losses, config, getattr(module, "mixed", None), learns
        if set(STEPS) <= set(kept):
            raise Enough
        return run_stage(name, module, losses, dataclasses.replace(config, steps=1), save, *rest)

    where.run_stage = keep
    with contextlib.suppress(Enough):
        training.train(training.TrainConfig(data=data, out=work / "world_model"), sizes)
    where.run_stage, number = run_stage, count()

    def timed(name: str) -> Callable[[], float]:
        module, losses, config, mixed, learns = kept[name]
        config = dataclasses.replace(config, steps=STEPS[name])

        def rate() -> float:
            for p in learns:
                p.requires_grad_(True)  # what a stage leaves frozen
            if mixed is not None:
                module.mixed = mixed  # which only its stage sets
            began = now()
            run_stage(name, module, losses, config, work / f"{name}-{next(number)}.safetensors")
            return STEPS[name] / (now() - began)

        return rate

    return {name: timed(name) for name in STEPS}


def parts() -> tuple[Any, Any, Any]:
    """The module whose ``run_stage`` training calls, the one with ``train``, and sizes; no open loop is measured."""
    try:
        from procosm.world_model.diffusion import recipe
        from procosm.world_model.training import presets, recipes, train

        recipe.open_loop = lambda *_, **__: {}  # type: ignore[assignment]
        return recipes, train, presets.preset("small")
    except ImportError:  # before training had a folder
        from procosm.world_model import presets, train  # type: ignore[no-redef, attr-defined]

        train.open_loop = lambda *_, **__: {}
        return train, train, presets.preset("small")


def main(checkpoint: str, data: str, work: str, number: str, seconds: str, threads: str) -> None:
    """Answer until the other side ends."""
    torch.set_num_threads(int(threads))
    now = time.process_time if threads == "1" else time.perf_counter
    answers, sys.stdout = sys.stdout, sys.stderr
    works = {
        f"{n} dreams, {observation}": dreams(checkpoint, n, observation, float(seconds), now)
        for n, observation in ((1, "pixels"), (int(number), "pixels"), (int(number), "latent"))
    }
    works |= {f"training, {name}": rate for name, rate in stages(Path(data), Path(work), now).items()}
    print(json.dumps(list(works)), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(works[line.strip()]()), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
