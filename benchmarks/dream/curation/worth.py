"""What curation is worth to a world model: trained on logs with faults, on what is kept of them, on a random part.

python -m procosm.benchmarks.dream.curation.worth --seed 0

Half of the logs have a planted fault. The three models are of one size and take as many steps; all are judged on the
same held-out logs without faults. The random part keeps as many clips as curation does: fewer data alone win nothing.
One seed a command, of which --arms chooses models; the same command goes on, and the result has what is there.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.open_loop import choose_windows, open_loop
from procosm.benchmarks.dream.curation.planted import FAULTS
from procosm.benchmarks.dream.curation.recordings import record
from procosm.benchmarks.record import RESULTS
from procosm.benchmarks.record import record as write
from procosm.world_model import checkpoint
from procosm.world_model.command import main
from procosm.world_model.curation.curate import CurateConfig, curate
from procosm.world_model.data.datasets import load_episodes
from procosm.world_model.data.episodes import Episode, is_whole, write_dataset
from procosm.world_model.data.task import Task
from procosm.world_model.files import write_json
from procosm.world_model.settings import Count, Seed, Settings
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.train import TrainConfig, train

Arm = Literal["raw", "curated", "random part"]
ARMS: tuple[Arm, ...] = ("raw", "curated", "random part")
HORIZONS = (1, 4, 8, 16)
WINDOWS = 128


@dataclass(frozen=True)
class WorthConfig(Settings):
    """What is measured."""

    seed: Seed = 0
    """Of the recordings, the faults, the models and the windows."""
    arms: tuple[Arm, ...] = ARMS
    """Which models to train; none makes the logs and curates them, so that models can be trained side by side."""
    env: str = "HalfCheetah-v5"
    """Task of the recordings."""
    logs: Count = 72
    """Logs to train on, half of them with a fault."""
    held_out: Count = 12
    """Logs without a fault to judge by."""
    steps: Count = 60
    """Of each log."""
    out: Path = Path("runs/bench/worth")
    """Where recordings, shards and models go."""
    publish: bool = False
    """Write the result where the README's tables are made from."""


def sizes() -> Preset:
    """Preset debug, trained for longer."""
    made = preset("debug")
    for stage, steps, batch in (("tokenizer", 200, 8), ("state_head", 80, 32), ("manifold", 80, 64),
                                ("diffusion", 400, 16), ("unroll", 20, 8)):  # fmt: skip
        made = made.with_stage(stage, steps=steps, batch=batch)
    return made


def measure(config: WorthConfig) -> Path:
    """One seed; returns the result file."""
    folder = config.out / f"seed{config.seed}"
    recording = record(config.env, config.seed, config.logs + config.held_out, config.steps, config.out)
    task = replace(recording.task, signals={})
    good = [Episode(frames, actions, False, "train") for frames, actions in recording.episodes]
    logs, held_out = good[: config.logs], [replace(e, kind="holdout") for e in good[config.logs :]]
    logs = _with_faults(logs, config.seed)
    raw = _dataset(folder / "logs", task, logs)
    curate(CurateConfig(data=raw, out=folder / "shards", holdout=0.0, seed=config.seed))
    kept = load_episodes(folder / "shards")
    chosen = np.random.default_rng(config.seed).permutation(len(logs))[: len(kept)]
    data = dict(zip(ARMS, (logs, kept, [logs[index] for index in chosen]), strict=True))
    for arm in config.arms:
        psnr_db = _train_and_judge(folder / arm.replace(" ", "-"), task, data[arm], held_out, config)
        write_json(folder / f"{arm}.json", {"logs": len(logs), "kept": len(kept), "psnr_db": psnr_db})
    return write("curation_worth", _rows(config), RESULTS if config.publish else config.out)


def _with_faults(logs: list[Episode], seed: int) -> list[Episode]:
    """The logs, every second with one of the faults."""
    rng, kinds = np.random.default_rng(seed), list(FAULTS)
    bad = []
    for index, log in enumerate(logs):
        if index % 2:
            frames, actions = FAULTS[kinds[index // 2 % len(kinds)]](log.frames, log.actions, rng)
            log = replace(log, frames=frames, actions=actions)
        bad.append(log)
    return bad


def _dataset(path: Path, task: Task, episodes: list[Episode]) -> Path:
    if not is_whole(path):
        write_dataset(path, task, ((episode, None) for episode in episodes), {}, None)
    return path


def _train_and_judge(
    folder: Path, task: Task, episodes: list[Episode], held_out: list[Episode], config: WorthConfig
) -> dict[str, dict[int, float]]:
    """PSNR on the held-out logs, by what is judged and horizon."""
    data = _dataset(folder / "data", task, [*(replace(e, kind="train") for e in episodes), *held_out])
    out = folder / "world_model"
    if not out.exists():
        train(TrainConfig(data=data, out=out, preset="debug", seed=config.seed), sizes())
    model = checkpoint.load(out)
    windows = choose_windows(held_out, model.dynamics.context, max(HORIZONS), WINDOWS, config.seed)
    rows = [row for row in open_loop(model, windows, None, config.seed) if row["metric"] == "psnr_db"]
    return {
        str(method): {int(row["horizon"]): float(row["value"]) for row in rows if row["method"] == method}  # type: ignore[call-overload, arg-type]
        for method in dict.fromkeys(row["method"] for row in rows)
    }


def _rows(config: WorthConfig) -> list[dict[str, Any]]:
    """Every model that is there, and what the curated one gains, with intervals over seeds."""
    found: dict[Arm, dict[int, Any]] = {arm: {} for arm in ARMS}
    for arm in ARMS:
        for path in sorted(config.out.glob(f"seed*/{arm}.json")):
            found[arm][int(path.parent.name.removeprefix("seed"))] = json.loads(path.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = []
    dreams: dict[tuple[str, int], dict[int, float]] = {}
    for arm, by_seed in found.items():
        for seed, each in by_seed.items():
            share = {"metric": f"{arm}, clips", "value": each["logs"] if arm == "raw" else each["kept"], "unit": "1"}
            rows.append({**share, "task": config.env, "seed": seed, "n": each["logs"]})
            for method, by_horizon in each["psnr_db"].items():
                for h in HORIZONS:
                    value = by_horizon[str(h)]
                    rows.append({"metric": f"{arm}, {method}, PSNR after {h} steps", "task": config.env, "unit": "dB",
                                 "value": round(value, 3), "seed": seed, "n": WINDOWS})  # fmt: skip
                    if method == "dream":
                        dreams.setdefault((arm, h), {})[seed] = value
    for other in ("raw", "random part"):
        for h in HORIZONS:
            ours, theirs = dreams.get(("curated", h), {}), dreams.get((other, h), {})
            gains = np.array([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
            if len(gains):
                gain = estimate(gains)
                rows.append({"metric": f"curated less {other}, dream, PSNR after {h} steps", "task": config.env,
                             "unit": "dB", "value": round(gain.mean, 3), "low": round(gain.low, 3),
                             "high": round(gain.high, 3), "n": gain.n})  # fmt: skip
    return rows


if __name__ == "__main__":
    main(measure, WorthConfig)
