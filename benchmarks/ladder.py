"""The ladder of arXiv 2606.15032 for every world model whose ranking was measured: from pictures to decisions.

A rung holds a number, or says that it was not measured for that very world model; where the number does not clear what
it must, it says that the rung fails. A result counts for a world model where it names the model's commit, and of
several seeds at one commit the seed.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from procosm.world_model.files import read_json

NOT_MEASURED = "not measured"
GAP = 0.05
"""Largest exploitability gap, in shares of the range of true returns."""
SAME_DATA = ("offline_sac", "offline_td3_bc", "cloned", "cloned_best")
"""Arms of `transfer` that learn from what the dream learned from."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """One world model, and the results that are of it.

    Attributes:
        name: task, and seed where the result's name has one. commit: of its training. seed: of its training, "" if its
            command names none. rows: of each benchmark, by the first word of its result's name.
    """

    name: str
    commit: str
    seed: str
    rows: Mapping[str, Sequence[Row]]

    def of(self, benchmark: str, metric: str, **where: Any) -> list[Row]:
        """Rows of a benchmark with this metric and these columns."""
        return [
            row
            for row in self.rows.get(benchmark, ())
            if row["metric"] == metric and all(row.get(key) == value for key, value in where.items())
        ]


def models(folder: Path) -> Iterator[Model]:
    """Every world model that policies were ranked in, as the results in a folder tell of it."""
    for path in sorted(folder.glob("ranking_*.json")):
        ranking = read_json(path)
        _, task, *rest = path.stem.split("_")
        told = ranking.get("details", {}).get("world_model", {})
        commit, command = str(told.get("commit", "")).rstrip("+"), str(told.get("command", ""))
        seed = found[1] if (found := re.search(r"--seed (\d+)", command)) else ""
        rows = {"ranking": ranking["rows"]}
        for benchmark in ("trust", "probes", "transfer", "pipeline") if commit else ():
            others = sorted(folder.glob(f"{benchmark}_{task}*.json"))  # also of a model that was ranked earlier
            rows[benchmark] = [row for other in others for row in _own(read_json(other), commit, seed)]
        yield Model(" ".join([ranking["rows"][0]["task"], *rest]), commit, seed, rows)


def _own(result: Mapping[str, Any], commit: str, seed: str) -> Iterator[Row]:
    """The rows of a result that are of this world model."""
    details = result.get("details", {})
    named = details.get("world_model", {}).get("commit")
    named = {named} if named else set(details.get("world_model_commits", {}).values())
    if named:
        yield from result["rows"] if {str(each).rstrip("+") for each in named} == {commit} else ()
        return
    for row in result["rows"]:  # of a run each
        if str(row.get("run_commit", "")).rstrip("+") == commit and seed in ("", str(row.get("seed"))):
            yield row


def told(number: str, passed: bool) -> str:
    """A cell of the table."""
    return number if passed else f"**fails**: {number}"


def visual(model: Model, rival: str = "copy last frame") -> str:
    """At how many horizons the picture is closer to MuJoCo's than what must be worse."""
    found = model.of("pipeline", f"horizons at which pixel_mse of the dream beats {rival}")
    return (
        told(f"{found[0]['value']} of {found[0]['n']}", 2 * found[0]["value"] > found[0]["n"])
        if found
        else NOT_MEASURED
    )


def actions(model: Model) -> str:
    """The same against a dream whose actions are another's."""
    return visual(model, "shuffled actions")


def reward(model: Model) -> str:
    """The worst of the rewards that probes asked for."""
    found = [
        *model.of("probes", "error of a step's reward"),
        *(
            {**row, "value": abs(1 - row["value"])}
            for row in model.of("probes", "reward per standing step of the dream")
        ),
    ]
    worst = max(found, key=lambda row: row["value"], default=None)
    return told(f"{worst['value']:.3f}", all(row["passed"] for row in found)) if worst else NOT_MEASURED


def ranking(model: Model) -> str:
    """Correlation, beside the best of what knows nothing of the dream; MMRV and regret."""
    horizon = longest(row["horizon"] for row in model.rows["ranking"])
    of = {(row.get("panel"), row["metric"]): row for row in model.rows["ranking"] if row["horizon"] == horizon}
    r = of.get(("without the dream-trained", "Pearson r")) or of.get(("all", "Pearson r"))
    if r is None:
        return NOT_MEASURED
    rivals = [
        row["value"] for (panel, name), row in of.items() if name == "Pearson r" and str(panel).startswith("control")
    ]
    rest = ", ".join(f"{name} {of['all', name]['value']:.3f}" for name in ("MMRV", "regret@1") if ("all", name) in of)
    best = f", of the best control {max(rivals):.3f}" if rivals else ""
    number = f"r {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]{best}, {rest}; {horizon}"
    return told(number, not rivals or r["low"] > max(rivals))


def lift(model: Model) -> str:
    """What a policy from the dream earns more than the best other use of the same data."""
    found = [row for arm in SAME_DATA for row in model.of("transfer", "return minus dream", arm=arm)]
    if not found:
        return NOT_MEASURED
    rival = max(found, key=lambda row: row["value"])
    high, low = -rival.get("low", float("nan")), -rival.get("high", float("nan"))
    return told(f"{-rival['value']:+.1f} [{low:.1f}, {high:.1f}] over {rival['arm']}", low > 0)


def exploitability(model: Model) -> str:
    """The largest gap between a dream's promise and MuJoCo's pay, of policies trained or searched for in the dream."""
    found = model.of("ranking", "exploitability gap")
    if not found:
        return NOT_MEASURED
    horizon = longest(row["horizon"] for row in found)
    own = [row for row in found if row["horizon"] == horizon]
    worst = max(own, key=lambda row: row["value"])
    searched = sum(row.get("family") == "exploit" for row in own)
    return told(
        f"{worst['value']:+.3f} of the range; {len(own)} policies, {searched} searched for", worst["value"] <= GAP
    )


def calibration(model: Model) -> str:
    """How much better trust's probabilities are than a clock's."""
    found = model.of("trust", "Brier skill over a clock", behaviour="all behaviours")
    if not found:
        return NOT_MEASURED
    low, high = (found[0].get(end, float("nan")) for end in ("low", "high"))
    return told(f"Brier skill {found[0]['value']:+.2f} [{low:.2f}, {high:.2f}] over a clock", low > 0)


RUNGS: dict[str, Callable[[Model], str]] = {
    "visual: horizons closer than a copied frame": visual,
    "actions: horizons closer than under others' actions": actions,
    "reward: largest error a step": reward,
    "ranking": ranking,
    "optimisation lift": lift,
    "exploitability": exploitability,
    "calibration": calibration,
}


def longest(horizons: Iterator[str]) -> str:
    """Of "first 32 steps" and the like; a whole episode is longer."""
    return max(horizons, key=lambda each: float("inf") if each == "whole episode" else int(each.split()[1]))


def ladder_table(folder: Path) -> list[str]:
    """A column for each world model, a line for each rung."""
    every = list(models(folder))
    lines = [
        f"| rung | {' | '.join(f'{each.name}, {each.commit}' for each in every)} |",
        "|---" * (len(every) + 1) + "|",
    ]
    return lines + [f"| {name} | {' | '.join(rung(each) for each in every)} |" for name, rung in RUNGS.items()]
