"""Does the dream rank policies as MuJoCo does? At least forty policies, a hundred paired episodes each, every interval.

    python -m procosm.benchmarks.dream.ranking --checkpoint envs/checkpoints/InvertedPendulum
    python -m procosm.benchmarks.dream.ranking --checkpoint runs/reacher --quick

A policy acts on the true state in MuJoCo and on the model's estimate of it in the dream, each dream beginning with the
first frame of the MuJoCo episode it is paired with. What is finished of a policy is kept: the same command goes on.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from procosm.agents.judge.ranking import regulator
from procosm.agents.judge.ranking.agreement import Scores, agreement_rows
from procosm.agents.judge.ranking.exploits import search
from procosm.agents.judge.ranking.members import Member, linear, open_loop, reaching
from procosm.agents.judge.ranking.paired import Dream, Rows, Truth, World, play
from procosm.agents.judge.ranking.reaching import TASK as REACHER
from procosm.agents.judge.ranking.zoo import ZooConfig, zoo
from procosm.agents.stages import write_csv
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.ranking_figure import scatter
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.envs.dreams.weights import find_checkpoint
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.files import read_json, write_json
from procosm.world_model.precision import has_bfloat16
from procosm.world_model.settings import Count

FIRST_SEED = 9_100_000
"""Seed of the first episode: none of collecting, training or judging is near it."""
TRUTH_SLOTS = 64
INTERVALS = "95 % over training runs: jackknife; top-k and regret of another such panel; gaps over paired episodes"
SPREAD, SEED = 0.35, 5
"""Of the gains of linear policies."""
EXPLOIT_STEPS = 300
"""Of a dream in which an exploit is searched for, at most."""


@dataclass(frozen=True)
class RankingConfig(OnDevice):
    """Rank a panel of policies in both worlds."""

    checkpoint: Path
    """Checkpoint or run folder of the world model."""
    out: Path = Path("runs/ranking")
    """Policies and episodes go to OUT/<task>; delete that folder to begin again."""
    zoo: ZooConfig = field(default_factory=ZooConfig)
    """The trained part of the panel."""
    linear: Annotated[int, Ge(0)] = 12
    """Linear policies drawn at random; of InvertedPendulum, disturbed regulators."""
    exploits: Annotated[int, Ge(0)] = 3
    """Searches in the dream for what it pays most."""
    generations: Count = 30
    """Of each search."""
    episodes: Count = 100
    """Episodes of each policy in each world."""
    horizons: tuple[Count, ...] = (32, 100)
    """Returns of the first so many steps are ranked as well; those not below the task's own limit are left out."""
    steps: Count | None = None
    """Cut every episode here, where whole ones would take too long, and rank only ``horizons`` up to it."""
    slots: Count = 256
    """Dreams side by side."""
    quick: bool = False
    """Two minutes: a small panel, few episodes; the result goes to OUT and counts for nothing."""


def ranking(config: RankingConfig) -> Path:
    """Train the panel, play it in both worlds, write the result, a line of each pair of episodes and the figure."""
    if config.quick:
        small = ZooConfig(seeds=1, steps=600, dream_seeds=0)
        config = dataclasses.replace(config, out=config.out / "quick", zoo=small, episodes=8, slots=64)
        config = dataclasses.replace(config, linear=4, exploits=1, generations=2)
    folder = find_checkpoint(config.checkpoint, None)
    model = load(folder, config.device)
    model.task.require("a ranking of policies", "reward", "twin")
    out = config.out / model.task.id.rsplit("-v", 1)[0].replace("/", "_")
    acted = model.provenance.get("policies", {}).values()
    trained = zoo(config.zoo, model.task, folder, out / "zoo", acted, config.device)
    members = [*trained, *controllers(config, model), *exploits(config, model, out / "exploits")]
    horizons = [h for h in config.horizons if h < model.task.max_episode_steps]
    cut = "" if config.steps is None else f"-{config.steps}"
    if config.steps is not None:
        model = dataclasses.replace(model, task=dataclasses.replace(model.task, max_episode_steps=config.steps))
        horizons = [h for h in horizons if h <= config.steps]
    seeds = list(range(FIRST_SEED, FIRST_SEED + config.episodes))

    def dream() -> World:
        return Dream(model, seeds, config.slots, has_bfloat16())

    real = played(out / f"truth{cut}", model, members, seeds, horizons, lambda: Truth(model.task, TRUTH_SLOTS))
    dreamed = played(out / f"dream{cut}", model, members, seeds, horizons, dream)
    return report(config, model, members, real, dreamed)


def controllers(config: RankingConfig, model: WorldModel) -> list[Member]:
    """Policies that nobody trained."""
    if model.task.id == regulator.TASK:
        gains = regulator.regulator(*regulator.linearised(model.task))
        feedback = regulator.regulated(gains) + regulator.disturbed(gains, config.linear, SPREAD, SEED)
    else:
        feedback = linear(model.task, config.linear, SPREAD, SEED)
        if model.task.id == REACHER:
            feedback += reaching()
    return open_loop(model.task) + feedback


def exploits(config: RankingConfig, model: WorldModel, folder: Path) -> list[Member]:
    """Policies that were searched for in the dream."""
    steps = min(config.steps or EXPLOIT_STEPS, model.task.max_episode_steps)
    seeds = range(config.exploits)
    return [search(model, config.generations, steps, seed, folder / f"{seed}.json") for seed in seeds]


def played(
    folder: Path,
    model: WorldModel,
    members: Sequence[Member],
    seeds: Sequence[int],
    horizons: Sequence[int],
    world: Callable[[], World],
) -> list[Rows]:
    """The episodes of every member in one world, from ``folder`` where they have been played."""
    missing = [member for member in members if not (folder / f"{member.name}.json").exists()]
    if missing:
        play(
            world(),
            model.task,
            missing,
            seeds,
            horizons,
            lambda member, rows: write_json(folder / f"{member.name}.json", rows),
            folder.name,
        )
    return [read_json(folder / f"{member.name}.json") for member in members]


def report(
    config: RankingConfig,
    model: WorldModel,
    members: Sequence[Member],
    real: list[Rows],
    dreamed: list[Rows],
) -> Path:
    """Write ``ranking_<task>.json``, the episodes beside it (.csv.gz) and the figure; returns the first."""
    results = config.out if config.quick else RESULTS
    stem = f"ranking_{in_files(model.task.id)}"
    episodes = [row for rows in zip(members, real, dreamed, strict=True) for row in raw(*rows)]
    write_csv(results / f"{stem}.csv.gz", episodes)
    rows: list[dict[str, Any]] = []
    panels: list[Scores] = []
    part = "return" if config.steps is None else "return_"  # of an episode that was cut, the whole means nothing
    for key in (key for key in real[0][0] if key.startswith(part)):
        scores = Scores.of(key, real, dreamed)
        panels.append(scores)
        rows += [{"task": model.task.id, **row} for row in agreement_rows(members, scores)]
    scatter(members, panels, rows, results / "figures" / f"{stem}.png", model.task.id)
    details = {
        "intervals": INTERVALS,
        "first_seed": FIRST_SEED,
        "episodes": config.episodes,
        "cut": config.steps,
        "normalised": "scores of both worlds less the worst true score, over the range of the true scores",
        "panel": [
            {"policy": m.name, "family": m.family, "steps": m.steps, "seen": m.seen, "run": m.training} for m in members
        ],
        "world_model": {key: model.provenance.get(key) for key in ("commit", "command", "date")},
    }
    return record(stem, rows, results, details)


def raw(member: Member, real: Rows, dreamed: Rows) -> Rows:
    """A line of the CSV for each pair of episodes."""
    return [
        {"policy": member.name, "seed": truth["seed"]}
        | {f"truth_{key}": f"{value:.6g}" for key, value in truth.items() if key != "seed"}
        | {f"dream_{key}": f"{value:.6g}" for key, value in dream.items() if key != "seed"}
        for truth, dream in zip(real, dreamed, strict=True)
    ]


if __name__ == "__main__":
    command.main(ranking, RankingConfig)
