"""From rows to the numbers that a run is known by."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import estimate, proportion
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.task import Task

Rows = Sequence[Mapping[str, Any]]


def summarise(rows: Rows) -> dict[str, Any]:
    """Returns by world and policy with 95 % intervals, and what the policy earns more in its dream than in MuJoCo.

    Where a task tells of success, ``success`` is the share of episodes whose last step is at the goal. ``gap`` pairs
    each dream with the MuJoCo episode whose first frame it began with; exploitation makes it large.
    """
    found: dict[str, Any] = {}
    for world, policy in dict.fromkeys((row["world"], row["policy"]) for row in rows):
        chosen = [row for row in rows if (row["world"], row["policy"]) == (world, policy)]
        steps = float(np.mean([row["steps"] for row in chosen]))
        totals = estimate(np.array([row["return"] for row in chosen])).as_dict()
        found.setdefault(world, {})[policy] = totals | {"mean_steps": steps}
        if all("success" in row for row in chosen):
            share = proportion(np.array([row["success"] for row in chosen])).as_dict()
            found[world][policy]["success"] = {"rate": share.pop("value"), **share}
    real = {row["seed"]: row["return"] for row in rows if (row["world"], row["policy"]) == ("mujoco", "trained")}
    gaps = [row["return"] - real[row["seed"]] for row in rows if row["world"] == "dream"]
    found["gap"] = estimate(np.array(gaps)).as_dict()
    return found


def verdicts(rows: Rows) -> dict[str, Any]:
    """At how many horizons the dream is nearer the truth than each control, by metric.

    Returns:
        ``{metric: {control: {"better": …, "horizons": …, "worse_at": […]}}}``.
    """
    value = {(row["metric"], row["method"], row["horizon"]): row["value"] for row in rows}
    found: dict[str, Any] = {}
    for metric in dict.fromkeys(row["metric"] for row in rows):
        sign = -1 if metric == "psnr_db" else 1  # of these metrics it alone is better when larger
        horizons = [h for m, method, h in value if (m, method) == (metric, "dream")]
        for control in ("copy last frame", "shuffled actions"):
            worse = [h for h in horizons if sign * value[metric, "dream", h] >= sign * value[metric, control, h]]
            verdict = {"better": len(horizons) - len(worse), "horizons": len(horizons), "worse_at": worse}
            found.setdefault(metric, {})[control] = verdict
    return found


def real_steps(looks: Rows, task: Task, episodes: Sequence[Episode], returns: Rows) -> dict[str, int]:
    """Steps taken in MuJoCo, by purpose; multiply by ``action_repeat`` for control steps of the simulator.

    ``looks`` are those of the policy's log.
    """
    by_kind = dict.fromkeys(("train", "holdout", "constant"), 0)
    for episode in episodes:
        by_kind[episode.kind] += len(episode.actions)
    return {
        "collected": sum(by_kind.values()),
        **{f"collected_{kind}": steps for kind, steps in by_kind.items()},
        "looks_while_training": sum(look["real_steps"] for look in looks),
        "judging": sum(row["steps"] for row in returns if row["world"] == "mujoco"),
        "action_repeat": task.action_repeat,
    }
