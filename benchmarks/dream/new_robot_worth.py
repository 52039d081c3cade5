"""How many real steps does pre-training save? Rows over the seeds of `new_robot`.

A model from scratch gets better with more real steps. Between those that were tried its score is taken to go along
straight lines over the logarithm of steps, and never to get worse with more. What post-training reaches with n steps,
training from scratch reaches with m: m less n are saved. Where it is better than scratch with most steps, or worse than
with fewest, m is the end of what was tried; ``at_most`` and ``at_least`` count such seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from procosm.agents.judge.stats import t_interval

SCRATCH, FULL, LOW_RANK = "from scratch", "post-trained", "post-trained, low rank"
GREATER_IS_BETTER = ("return",)
Key = tuple[str, int, str]
"""Arm, real steps, what was measured."""


def steps_as_good(steps: Sequence[int], errors: Sequence[float], error: float) -> float:
    """How many steps lead to ``error``, given the errors that some numbers of steps led to; no more and no fewer than
    these.

    Args:
        steps: rising. errors: of each, less is better.
    """
    best = np.minimum.accumulate(np.asarray(errors, np.float64))
    if error < best[-1]:
        return float(steps[-1])
    better = np.concatenate([[True], np.diff(best) < 0])  # of equal ones the fewest steps
    return float(np.exp(np.interp(-error, -best[better], np.log(steps)[better])))


def measured(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[Key, dict[int, float]]]:
    """By task, of each arm, number of real steps and quantity, its value by seed; of dreams under their own actions."""
    found: dict[str, dict[Key, dict[int, float]]] = {}
    for row in rows:
        if "seed" not in row or row.get("method", "dream") != "dream":
            continue
        what = row["metric"] if "horizon" not in row else f"{row['metric']} after {row['horizon']} steps"
        by_seed = found.setdefault(row["task"], {}).setdefault((row["arm"], row["real_steps"], what), {})
        by_seed[row["seed"]] = row["value"]
    return found


def worth(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds; steps saved by post-training; low-rank updates less all weights, of the same seeds."""
    made: list[dict[str, Any]] = []
    for task, values in measured(rows).items():
        for (arm, steps, what), by_seed in values.items():
            place = {"task": task, "real_steps": steps, "of": what, "unit": "1"}
            made.append({**place, "metric": "mean over seeds", "arm": arm, **t_interval(list(by_seed.values()))})
            full = values.get((FULL, steps, what), {})
            pairs = [by_seed[seed] - full[seed] for seed in sorted(by_seed.keys() & full.keys())]
            if arm == LOW_RANK and pairs:
                made.append({**place, "metric": "low rank less all weights", **t_interval(pairs)})
            if arm in (FULL, LOW_RANK):
                made += saved(values, arm, steps, what, place)
    return made


def saved(
    values: Mapping[Key, Mapping[int, float]], arm: str, steps: int, what: str, place: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The row of the real steps that an arm saves, each seed beside the same from scratch; none with one budget."""
    scratch = {n: by_seed for (other, n, of), by_seed in sorted(values.items()) if (other, of) == (SCRATCH, what)}
    seeds = sorted(set(values[arm, steps, what]).intersection(*scratch.values()))
    if len(scratch) < 2 or not seeds:
        return []
    sign = -1 if what in GREATER_IS_BETTER else 1
    tried = sorted(scratch)
    needed = [
        steps_as_good(tried, [sign * scratch[n][seed] for n in tried], sign * values[arm, steps, what][seed])
        for seed in seeds
    ]
    ends = {"at_least": sum(m >= tried[-1] for m in needed), "at_most": sum(m <= tried[0] for m in needed)}
    fewer = [round(m - steps) for m in needed]
    found = {"metric": "real steps saved", "arm": arm, **t_interval(fewer), **ends}
    return [{**place, **found, "unit": "steps", "seeds": ", ".join(map(str, fewer))}]
