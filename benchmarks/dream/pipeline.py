"""The whole road, from scratch, several seeds: what a policy trained only in a dream earns in MuJoCo.

    python -m procosm.benchmarks.dream.pipeline --env InvertedPendulum
    python -m procosm.benchmarks.dream.pipeline --env Reacher --preset medium --algorithm sac --steps 20000 …
    python -m procosm.benchmarks.dream.pipeline --env InvertedPendulum --signals reward --wide 0 --constant 0 …
    python -m procosm.benchmarks.dream.pipeline --env InvertedPendulum --family autoregressive

Runs that exist are gone on with, so seeds may also be run apart, with `procosm run`, into the same folders. Every seed
is reported, the bad ones too.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from procosm.agents.run import RunConfig, run
from procosm.agents.stages import stage_seconds
from procosm.benchmarks.dream.strip import strip
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.world_model import command
from procosm.world_model.files import read_json
from procosm.world_model.settings import Count, Settings


@dataclass(frozen=True)
class PipelineConfig(Settings):
    """Seeds of the whole road for one task."""

    run: RunConfig
    """The road; its ``out`` is the folder of all seeds, its ``seed`` the first of them."""
    seeds: Count = 3
    """How many, from the first on."""


def rows_of(folder: Path, task: str, seed: int) -> list[dict[str, Any]]:
    """The numbers a run is known by."""
    metrics = read_json(folder / "metrics.json")
    row = {"task": task, "seed": seed, "run_commit": metrics["provenance"]["evaluation"]["commit"]}
    rows = []
    for world, policies in metrics["returns"].items():
        for policy, found in policies.items() if world != "gap" else ():
            rows.append(row | {"metric": f"return of {policy} in {world}", "unit": "return", **_interval(found)})
    rows += [
        row | {"metric": f"real steps {name}", "value": n, "unit": "step"} for name, n in metrics["real_steps"].items()
    ]
    seconds = stage_seconds(folder)
    rows += [row | {"metric": f"seconds of {stage}", "value": s, "unit": "s"} for stage, s in seconds.items()]
    rows.append(row | {"metric": "seconds in all", "value": round(sum(seconds.values()), 1), "unit": "s"})
    model = read_json(folder / "world_model" / "metrics.json")
    rows += [
        row | {"metric": name, "value": model["growth"][name], "unit": "1"}
        for name in ("growth_error", "growth_slope")
        if name in model["growth"]  # a preset without a gate tests nothing
    ]
    for metric, controls in metrics["verdicts"].items():
        for control, verdict in controls.items():
            name = f"horizons at which {metric} of the dream beats {control}"
            rows.append(row | {"metric": name, "value": verdict["better"], "n": verdict["horizons"], "unit": "horizon"})
    return rows


def _interval(found: dict[str, Any]) -> dict[str, Any]:
    return {"value": found["mean"], **{k: found[k] for k in ("std", "low", "high", "n") if k in found}}


def main(config: PipelineConfig) -> Path:
    """Run every seed and write ``results/pipeline_<task>.json``."""
    rows, name = [], in_files(config.run.env)
    if config.run.signals != "all":
        name += f"_{config.run.signals}"
    if config.run.family != "diffusion":
        name += f"_{config.run.family}"
    for seed in range(config.run.seed, config.run.seed + config.seeds):
        folder = config.run.out / f"seed{seed}"
        run(dataclasses.replace(config.run, out=folder, seed=seed))
        told = {"signals": config.run.signals, "family": config.run.family}
        rows += [row | told for row in rows_of(folder, config.run.env, seed)]
    strip(config.run.out / f"seed{config.run.seed}", RESULTS / "figures" / f"dream_{name}.png")
    return record(f"pipeline_{name}", rows)


if __name__ == "__main__":
    command.main(main, PipelineConfig, options=(tyro.conf.OmitArgPrefixes,))
