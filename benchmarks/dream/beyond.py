"""Can practice in a dream lead beyond the policies whose logs the dream was learned from?

    python -m procosm.benchmarks.dream.beyond --run runs/logged/HalfCheetah

For a run whose data were collected by saved policies (`procosm collect --policy`): those policies, on the true state,
and what their logs can be made into without acting in MuJoCo again. The arms are those of `transfer`: practice in the
dream, SAC on the logged transitions, cloning all of them or the tenth of the episodes that earned most. All are judged
on the same MuJoCo episodes, and all but the policies that acted see through the world model.

Every (arm, seed) is a cell in RUN/beyond: killed at any moment, the same command goes on.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm import tqdm

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Rows, Truth, play
from procosm.agents.judge.stats import t_interval
from procosm.agents.stages import fingerprint
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.transfer_arms import ARMS, Desk, Practice
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_json, sha256, write_json
from procosm.world_model.settings import Count, Seed

NAMES = {
    "acted": "acted in the data",
    "cloned": "cloning, all episodes",
    "cloned_best": "cloning, best tenth",
    "offline_sac": "SAC on the same transitions",
    "dream": "practice in the dream",
}
"""What a figure calls an arm, the policies that acted first."""


@dataclass(frozen=True)
class BeyondConfig(OnDevice):
    """Compare what logs can be made into with the policies that made them."""

    run: Path
    """Run folder with data/ and world_model/ in it, the data collected by saved policies."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of each arm; the result has those asked for."""
    iterations: Count = 72
    """Of PPO in the dream."""
    episodes: Count = 20
    """MuJoCo episodes that judge a policy."""
    trust_pickle: bool = False
    """Open policies that acted and that SB3 saved, too: their pickles run whatever code is in them."""
    quick: bool = False
    """A minute: one seed, hardly trained; the result goes to RUN/beyond/quick and counts for nothing."""


def acted(model: WorldModel, trust_pickle: bool = False) -> list[Member]:
    """The policies that acted in a world model's data, named by what tells their files apart.

    Raises:
        ProcosmError: there are none, or a file is not what it was.
    """
    told = model.provenance.get("policies", {})
    if not told:
        raise ProcosmError(
            "no saved policy acted in the data of this world model: collect with --policy policy:PATH.zip, and train"
        )
    for path, digest in told.items():
        if not Path(path).is_file() or sha256(Path(path)) != digest:
            raise ProcosmError(f"{path} is not the policy that acted in the data any more: put that one back")
    root = os.path.commonpath([Path(path).parent for path in told])
    names = ["-".join(Path(path).relative_to(root).with_suffix("").parts) for path in told]
    return [
        Member(name, "acted", path=Path(path), seen=True, trust_pickle=trust_pickle)
        for name, path in zip(names, told, strict=True)
    ]


def claim(config: BeyondConfig, model: WorldModel, out: Path, practice: Practice) -> None:
    """Say whose cells ``out`` holds.

    Raises:
        ProcosmError: it holds those of other settings or of another world model.
    """
    weights = fingerprint(config.run / "world_model", ("tokenizer.safetensors", "dynamics.safetensors"))
    mine = {"practice": vars(practice), "weights": weights, "policies": model.provenance["policies"]}
    mine, path = json.loads(json.dumps(mine)), out / "settings.json"
    if path.exists() and read_json(path) != mine:
        raise ProcosmError(f"{out} holds other settings' cells or another world model's: delete it, or ask for those")
    write_json(path, mine)


def settle(config: BeyondConfig, model: WorldModel, out: Path, practice: Practice) -> dict[str, list[float]]:
    """Learn and judge what is not on disk; returns in MuJoCo by cell, ARM/NAME or ARM/SEED."""
    members = acted(model, config.trust_pickle)
    claim(config, model, out, practice)
    seeds = Desk(config.run, False, out, 0, practice, config.device).seeds()

    def finished(member: Member, rows: Rows) -> None:
        write_json(out / f"acted/{member.name}.json", [row["return"] for row in rows])

    missing = [member for member in members if not (out / f"acted/{member.name}.json").exists()]
    if missing:
        play(Truth(model.task, len(seeds)), model.task, missing, seeds, (), finished, "acted")
    cells = [(arm, seed) for arm in NAMES if arm != "acted" for seed in config.seeds]
    for arm, seed in tqdm([cell for cell in cells if not (out / f"{cell[0]}/{cell[1]}.json").exists()], unit="cell"):
        tqdm.write(f"{arm} {seed}", file=sys.stderr)
        point = ARMS[arm](Desk(config.run, False, out / f"{arm}-{seed}", seed, practice, config.device))[-1]
        write_json(out / f"{arm}/{seed}.json", point.returns)
    names = [f"acted/{member.name}" for member in members] + [f"{arm}/{seed}" for arm, seed in cells]
    return {name: read_json(out / f"{name}.json") for name in names}


def rows_of(task: str, found: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row for each policy; over an arm's seeds the mean, and what it lies above the best that acted."""
    rows, means = [], dict[str, list[float]]()
    for name, returns in found.items():
        arm, policy = name.split("/")
        mean = estimate(np.array(returns))
        means.setdefault(arm, []).append(mean.mean)
        row = {"metric": "return", "arm": arm, "policy": policy, "value": mean.mean, "low": mean.low, "high": mean.high}
        rows.append({**row, "n": len(returns)})
    best = max(means.pop("acted"))
    for arm, values in means.items():
        rows.append({"metric": "return mean", "arm": arm, **t_interval(values)})
        rows.append(
            {"metric": "return above the best that acted", "arm": arm, **t_interval([v - best for v in values])}
        )
    return [{"task": task, "unit": "return", **row} for row in rows]


def draw(task: str, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A dot for each policy, with its 95 % interval over episodes; a line where the best that acted stands."""
    figure, axis = plt.subplots(figsize=(6.4, 3.0))
    for height, arm in enumerate(NAMES):
        for row in (row for row in rows if row["metric"] == "return" and row["arm"] == arm):
            colour = {"acted": "#555555", "dream": "#d55e00"}.get(arm, "#0072b2")
            axis.plot([row["low"], row["high"]], [height, height], color=colour, lw=1.2, alpha=0.6)
            axis.plot(row["value"], height, marker="*" if arm == "dream" else "o", color=colour, ms=9, alpha=0.8)
    best = max(row["value"] for row in rows if row["metric"] == "return" and row["arm"] == "acted")
    axis.axvline(best, color="#555555", lw=0.8, ls="--")
    axis.set_yticks(range(len(NAMES)), list(NAMES.values()))
    axis.set(xlabel="return in MuJoCo, mean of a policy's episodes", title=task, ylim=(-0.6, len(NAMES) - 0.4))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def main(config: BeyondConfig) -> Path:
    """Learn what is missing; write ``beyond_<task>.json`` and its figure."""
    model, out, results = load(config.run / "world_model", config.device), config.run / "beyond", RESULTS
    practice = Practice("ppo", 384, config.iterations, 0.99, config.episodes, ())
    if config.quick:
        out = results = out / "quick"
        config = replace(config, seeds=config.seeds[:1])
        practice = Practice("ppo", 16, 2, 0.99, 3, (), gradient_steps=50, clone_steps=50)
    found = settle(config, model, out, practice)
    rows, name = rows_of(model.task.id, found), f"beyond_{in_files(model.task.id)}"
    details = {
        "intervals": "95 %, rows of single policies bootstrapped over episodes, others Student t over seeds, which "
        "share one world model",
        "practice": vars(practice),
        "world_model": {key: model.provenance.get(key) for key in ("commit", "command", "date")},
        "returns": found,
    }
    draw(model.task.id, rows, results / "figures" / f"{name}.png")
    return record(name, rows, results, details)


if __name__ == "__main__":
    torch.set_num_threads(1)
    command.main(main, BeyondConfig)
