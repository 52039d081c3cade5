"""Does sparse training get there sooner? Held-out error over seconds of training, dense against sparse, preset wide.

    python -m procosm.benchmarks.sparse.curve

Both arms train the diffusion stage of the preset for equal steps on the same latents of one dense tokenizer, each with
the learning rate found for it. They take turns of a few steps on one thread, so that other work on the machine hits
both alike. A third arm, sparse too, takes so many more steps that it lasts about as long as dense; it trains after
them, alone, and is compared in processor seconds. ``value`` of a mean is over seeds, differences are paired by seed.
Killed at any moment, the same command goes on from the last mark.
"""

import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

from procosm.agents.judge.stats import t_interval
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.cells import Cell, Protocol, desk, tokenized
from procosm.benchmarks.sparse.cpu import processor
from procosm.benchmarks.sparse.racing import CPU, Given, Racer
from procosm.benchmarks.sparse.steps import chosen_block
from procosm.world_model import command
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.settings import Count, Positive, Settings, Share
from procosm.world_model.threads import one_thread
from procosm.world_model.training.presets import Preset, preset

JUDGED = ("psnr_1_db", "psnr_8_db", "better_than_copy_1_db", "better_than_copy_8_db")
CLOCKS = {"cpu_s": "processor seconds", "wall_s": "wall-clock seconds"}
ARMS = ("dense", "procrustes")


@dataclass(frozen=True)
class SparseCurveConfig(Settings):
    """What to train, and for how long."""

    out: Path = Path("runs/bench/sparse_curve")
    """Folder of data, tokenizer and models; the same command goes on with what is there."""
    result: Path = RESULTS / "sparse_curve.json"
    """Where the result goes; the figure beside it."""
    task: str = "HalfCheetah"
    """What is learned."""
    preset: str = "wide"
    """Size of the dynamics."""
    density: Share = 0.1
    """Share of the weights of attention and MLPs that exists in the sparse arm."""
    seeds: Count = 3
    """Seeds of each arm."""
    steps: Count = 400
    """Optimizer steps of either arm; the learning rate ends at zero."""
    batch: Count = 32
    """Windows in a batch."""
    dense_rate: Positive = 8e-4
    """Peak learning rate of the dense arm."""
    sparse_rate: Positive = 8e-4
    """Peak learning rate of the sparse arm, before the factor that training gives the values of blocks."""
    longer: Count = 3
    """Times as many steps of the third arm: about as many as pass while dense takes ``steps``."""
    marks: Count = 8
    """How often each model is judged in ``steps``, in equal distances."""
    turn: Count = 5
    """Steps that one arm takes before it is the other's turn."""
    real_steps: Count = 12_000
    """MuJoCo steps collected, a tenth of them held out."""
    tokenizer_steps: Count = 300
    """Optimizer steps of the dense tokenizer, of preset small, that both arms share."""
    windows: Count = 128
    """Held-out windows that judge."""

    def sizes(self, arm: str) -> Preset:
        """The preset with the length and the rate of an arm."""
        learning_rate = self.dense_rate if arm == "dense" else self.sparse_rate
        steps = self.steps * (self.longer if arm == "longer" else 1)
        stage = {"steps": steps, "batch": self.batch, "learning_rate": learning_rate}
        return preset(self.preset).with_stage("diffusion", **stage)


def given(config: SparseCurveConfig) -> Given:
    """Data, tokenizer and latents, made where they are not on disk."""
    home, tokenize = config.out / config.task, replace(Protocol().tokenize, steps=config.tokenizer_steps)
    protocol = Protocol(config.real_steps, tokenize)
    here = desk(home, config.task, protocol, CPU)
    cell = Cell(config.task, "tokenizer", "dense", 1.0, 0)
    return Given(here, *tokenized(cell, home, here, protocol), config.windows)


def race(config: SparseCurveConfig, seed: int, block: int, shared: Given) -> dict[str, list[dict[str, Any]]]:
    """Points of both arms of one seed, see ``Racer.points``."""
    marks = [round(config.steps * (k + 1) / config.marks) for k in range(config.marks)]
    home = config.out / config.task / "models"
    racers = {}
    for arm in ARMS:
        cell = Cell(config.task, config.preset, arm, 1.0 if arm == "dense" else config.density, seed)
        racers[arm] = Racer(cell, config.sizes(arm), block, shared, marks, home)
    stops = sorted({*range(config.turn, config.steps, config.turn), *marks})
    begun = min(racer.step for racer in racers.values())
    with tqdm(total=config.steps, desc=f"seed {seed}", unit="step", initial=begun) as bar:
        for stop in stops:
            for racer in racers.values():
                racer.advance(stop)
            bar.update(max(0, stop - bar.n))
    return {arm: racer.points for arm, racer in racers.items()}


def race_longer(config: SparseCurveConfig, seed: int, block: int, shared: Given) -> list[dict[str, Any]]:
    """Points of the third arm of one seed."""
    marks = [round(config.steps * (k + 1) / config.marks) for k in range(config.marks * config.longer)]
    cell = Cell(config.task, f"{config.preset}_longer", "procrustes", config.density, seed)
    racer = Racer(cell, config.sizes("longer"), block, shared, marks, config.out / config.task / "models")
    for mark in tqdm(marks, desc=f"seed {seed}, longer", unit="mark"):
        racer.advance(mark)
    return racer.points


def reached(points: list[dict[str, Any]], metric: str, level: float, clock: str) -> float | None:
    """Seconds after which a curve first reaches ``level``, between marks along straight lines; None: it never does."""
    before = None
    for point in points:
        if point[metric] >= level:
            if before is None:
                return float(point[clock])
            share = (level - before[metric]) / (point[metric] - before[metric])
            return float(before[clock] + share * (point[clock] - before[clock]))
        before = point
    return None


def rows_of(found: dict[int, dict[str, list[dict[str, Any]]]], config: SparseCurveConfig) -> list[dict[str, Any]]:
    """Every point; and over the seeds how much faster sparse steps are, how far behind they end, and how much sooner
    they reach what dense ends with.
    """
    task, rows = f"{config.task} {config.preset} density={config.density:g}", []
    for seed, arms in found.items():
        for arm, points in arms.items():
            for point in points:
                at = {"task": task, "arm": arm, "seed": seed, **{k: point[k] for k in ("step", *CLOCKS)}}
                rows += [{"metric": metric, "value": point[metric], "unit": "dB", **at} for metric in JUDGED]
    ends = [(arms["dense"], arms["procrustes"]) for arms in found.values()]
    for clock, words in CLOCKS.items():
        ratios = [dense[-1][clock] / thin[-1][clock] for dense, thin in ends]
        unit = "dense time / sparse time"
        rows.append({"metric": f"speedup of equal steps, {words}", "task": task, "unit": unit, **t_interval(ratios)})
    for metric in JUDGED:
        lag = [thin[-1][metric] - dense[-1][metric] for dense, thin in ends]
        rows.append({"metric": f"{metric} minus dense at equal steps", "task": task, "unit": "dB", **t_interval(lag)})
        for clock, words in CLOCKS.items():
            for seed, arms in found.items():
                dense, thin = arms["dense"], arms["procrustes"]
                level = min(dense[-1][metric], max(point[metric] for point in thin))
                taken = [reached(points, metric, level, clock) for points in (dense, thin)]
                sooner = taken[0] / taken[1] if taken[0] and taken[1] else None
                rows.append(
                    {"metric": f"seconds to the same {metric}, {words}", "task": task, "seed": seed, "value": sooner}
                    | {"unit": "dense time / sparse time", "level_db": level, "dense_end_db": dense[-1][metric]}
                )
    return rows + longer_rows(found, task)


def longer_rows(found: dict[int, dict[str, list[dict[str, Any]]]], task: str) -> list[dict[str, Any]]:
    """How long the third arm took, where it ends and when it reaches what dense ends with, in processor seconds: of
    each seed, then over them. A mean of times is missing where a seed never gets there.
    """
    rows: list[dict[str, Any]] = []

    def add(metric: str, values: dict[int, float | None], unit: str) -> None:
        rows.extend({"metric": metric, "task": task, "seed": s, "value": v, "unit": unit} for s, v in values.items())
        known = [value for value in values.values() if value is not None]
        mean = t_interval(known) if len(known) == len(values) else {"value": None, "n": len(values)}
        rows.append({"metric": f"{metric}, mean", "task": task, "unit": unit, **mean})

    ends = {seed: (arms["dense"][-1], arms["longer"]) for seed, arms in found.items() if "longer" in arms}
    if not ends:
        return []
    shares = {seed: longer[-1]["cpu_s"] / dense["cpu_s"] for seed, (dense, longer) in ends.items()}
    add("processor seconds of more steps over dense's", {**shares}, "1")
    for metric in JUDGED:
        leads = {seed: longer[-1][metric] - dense[metric] for seed, (dense, longer) in ends.items()}
        add(f"{metric} of more steps minus dense's end", {**leads}, "dB")
        taken = {seed: reached(longer, metric, dense[metric], "cpu_s") for seed, (dense, longer) in ends.items()}
        sooner = {seed: ends[seed][0]["cpu_s"] / at if at else None for seed, at in taken.items()}
        add(f"seconds to dense's last {metric}", sooner, "dense time / sparse time")
    return rows


def draw(found: dict[int, dict[str, list[dict[str, Any]]]], config: SparseCurveConfig, path: Path) -> None:
    """Error against that of copying, one and eight steps ahead, over both clocks: a line a seed."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 2, figsize=(10, 7), sharey="col")
    colours = {"dense": "black", "procrustes": "tab:orange", "longer": "tab:red"}
    names = {"dense": "dense", "procrustes": f"density {config.density:g}, Procrustes"}
    third = sum("longer" in arms for arms in found.values())
    names["longer"] = f"the same, {config.longer} times the steps ({third} of {len(found)} seeds)"
    for axes, (clock, horizon) in zip(grid.flat, product(("wall_s", "cpu_s"), (1, 8)), strict=True):
        for seed, arms in found.items():
            for arm, points in arms.items():
                if (arm, clock) == ("longer", "wall_s"):
                    continue  # it takes no turns with the others: another hour, other work beside it
                x = np.array([point[clock] for point in points])
                y = np.array([-point[f"better_than_copy_{horizon}_db"] for point in points])
                axes.plot(x, y, color=colours[arm], marker=".", label=None if seed else names[arm])
        ahead = "one step" if horizon == 1 else f"{horizon} steps"
        axes.set(xlabel=f"{CLOCKS[clock]} of training", ylabel="latent error against copying, dB")
        axes.set(title=f"{config.task}, {ahead} ahead", xlim=(0, None))
        axes.grid(alpha=0.3)
    grid[1, 0].legend(fontsize=8)
    figure.suptitle(f"Preset {config.preset}: equal steps, one thread, {len(found)} seeds, held-out windows")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def write(found: dict[int, dict[str, list[dict[str, Any]]]], config: SparseCurveConfig, block: int) -> None:
    """The result and its figure, from the seeds there are."""
    rows = rows_of(found, config)
    config.result.parent.mkdir(parents=True, exist_ok=True)
    draw(found, config, config.result.with_suffix(".png"))
    details = {"processor": processor(), "threads": 1, "bfloat16": bfloat16_pays(CPU), "block": block}
    details |= {"steps": config.steps, "batch": config.batch, "windows": config.windows}
    details |= {"rates": {"dense": config.dense_rate, "sparse": config.sparse_rate}}
    record(config.result.stem, rows, config.result.parent, details)
    for row in rows:
        if "step" not in row and "seed" not in row:
            print(row["metric"], row["value"], row.get("low"), row.get("high"), file=sys.stderr)


@one_thread()
def benchmark(config: SparseCurveConfig) -> Path:
    """Train what is missing, seed by seed; write the result after each."""
    shared = given(config)
    block = chosen_block(config.sizes("procrustes"), config.density, config.out / config.task / "models")
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for seed in range(config.seeds):
        found[seed] = race(config, seed, block, shared)
        write(found, config, block)
    for seed in range(config.seeds):
        found[seed]["longer"] = race_longer(config, seed, block, shared)
        write(found, config, block)
    return config.result


if __name__ == "__main__":
    command.main(benchmark, SparseCurveConfig)
