"""What stands in a judged run's files: each part of ``evaluation/``, and ``metrics.json`` that gathers them."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from procosm.agents.judge.summary import verdicts
from procosm.world_model.data.task import finite_json
from procosm.world_model.schema import read_file

Natural = Annotated[int, Field(ge=0, le=10**15)]
Several = Annotated[int, Field(ge=1, le=10**9)]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Side = Annotated[int, Field(ge=8, le=16384)]
Magnitude = Annotated[float, Field(ge=0, le=1e15)]
Part = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, Field(max_length=100_000, pattern=r"^[^\x00]*$")]
Object = Annotated[dict[str, Any], AfterValidator(finite_json)]


def around(row: Mapping[str, Any], name: str = "") -> None:
    """Refuse an interval that ends before it begins, or does not hold the value called ``name``."""
    low, high = row["low"], row["high"]
    slack = 1e-6 * (1 + abs(low) + abs(high))  # a mean of equal values is not quite each of them
    if low > high or (name and not low - slack <= row[name] <= high + slack):
        raise ValueError(f"{row.get(name, 'a value')} with an interval from {low} to {high}")


def rising(values: Sequence[int], name: str) -> None:
    """Refuse numbers that do not grow from each to the next."""
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError(f"{name} does not grow from row to row")


def _estimate(row: dict[str, Any]) -> dict[str, Any]:
    around(row, "mean")
    if row["n"] == 1 and row["std"]:
        raise ValueError(f"one value with a deviation of {row['std']}")
    return row


class _Mean(TypedDict):
    mean: Number
    std: Magnitude
    low: Number
    high: Number
    n: Several


class _Rate(TypedDict):
    rate: Part
    low: Part
    high: Part
    n: Several


def _held(found: dict[str, Any]) -> dict[str, Any]:
    around(found, "rate")
    return found


class _MeanOfEpisodes(_Mean):
    mean_steps: Annotated[float, Field(ge=1, le=1e9)]
    success: NotRequired[Annotated[_Rate, AfterValidator(_held)]]


Gap = Annotated[_Mean, AfterValidator(_estimate)]
Return = Annotated[_MeanOfEpisodes, AfterValidator(_estimate)]


class Real(TypedDict):
    """Returns in MuJoCo, by policy."""

    trained: Return
    zero: Return
    random: Return


class Dreamed(TypedDict):
    """Returns in the dream."""

    trained: Return


class Returns(TypedDict):
    """Of each policy in each world, and the gap between them."""

    mujoco: Real
    dream: Dreamed
    gap: Gap


def _paired(returns: Returns) -> Returns:
    real, dream, gap = returns["mujoco"]["trained"], returns["dream"]["trained"], returns["gap"]
    if not real["n"] == dream["n"] == gap["n"]:
        raise ValueError("each dream begins with a MuJoCo episode's frame, but there are not as many")
    apart = dream["mean"] - real["mean"] - gap["mean"]
    if abs(apart) > 1e-6 * (1 + abs(dream["mean"]) + abs(real["mean"])):
        raise ValueError(f"gap.mean is {gap['mean']}, but the means are {dream['mean']} and {real['mean']}")
    return returns


class _Compared(TypedDict):
    horizon: Annotated[int, Field(ge=1, le=10**6)]
    method: Literal["dream", "shuffled actions", "copy last frame", "tokenizer"]
    metric: Literal["pixel_mse", "psnr_db", "latent_mse", "state_nrmse"]
    value: Annotated[float, Field(ge=-200, le=1e15)]
    low: Number
    high: Number
    n: Several


def _by_horizon(rows: list[_Compared]) -> list[_Compared]:
    """Of every metric the dream and both controls, at the same horizons, over no more windows than before."""
    curves: dict[tuple[str, str], list[_Compared]] = defaultdict(list)
    for row in rows:
        around(row, "value")
        if row["metric"] != "psnr_db" and row["low"] < 0:
            raise ValueError(f"{row['metric']} is an error, but its interval begins at {row['low']}")
        curves[row["metric"], row["method"]].append(row)
    horizons = {tuple(row["horizon"] for row in curve) for curve in curves.values()}
    if horizons != {tuple(range(1, max(row["horizon"] for row in rows) + 1))}:
        raise ValueError("the horizons are not those from 1 on, once each, of every method and metric")
    if any(later["n"] > earlier["n"] for curve in curves.values() for earlier, later in pairwise(curve)):
        raise ValueError("n grows with the horizon, but windows only end")
    metrics = {"pixel_mse", "psnr_db", "latent_mse", *(metric for metric, _ in curves)}
    wanted = {(metric, method) for metric in metrics for method in ("dream", "shuffled actions", "copy last frame")}
    if missing := wanted - set(curves):
        raise ValueError(f"{' of '.join(min(missing))} is missing")
    return rows


class _Grown(TypedDict):
    horizon: Annotated[int, Field(ge=1, le=10**6)]
    slope: Number
    low: Number
    high: Number
    correlation: Annotated[float, Field(ge=-1.000001, le=1.000001)]
    relative_error: Magnitude
    n: Several
    noise: NotRequired[Annotated[float, Field(ge=0, le=1)]]


def _grown(rows: list[_Grown]) -> list[_Grown]:
    for row in rows:
        around(row)
    rising([row["horizon"] for row in rows], "horizon")
    return rows


class GrowthOf(TypedDict):
    """What the growth test read, and of which episodes."""

    read: Literal["state", "features"]
    episodes: Literal["constant", "holdout"]


class Speed(TypedDict):
    """Steps a second."""

    dreams: Annotated[int, Field(ge=1, le=65536)]
    processes: Annotated[int, Field(ge=1, le=1024)]
    cores: Annotated[float, Field(ge=1, le=1e5)]
    dream_latent: Magnitude
    dream_state: NotRequired[Magnitude]
    dream_pixels: Magnitude
    dream_single: Magnitude
    mujoco: NotRequired[Magnitude]


Film = Annotated[str, Field(pattern=r"^[\w-]{1,100}\.mp4$")]


class Films(TypedDict):
    """File names, in ``evaluation/``."""

    comparison: Film
    policy_mujoco: NotRequired[Film]
    policy_dream: NotRequired[Film]


class Sweep(TypedDict):
    """The action sweep's picture, and the action of each pair of rows."""

    file: Annotated[str, Field(pattern=r"^[\w-]{1,100}\.png$")]
    actions: Annotated[list[Annotated[list[Number], Field(min_length=1)]], Field(min_length=1)]


def _drawn(sweep: Sweep) -> Sweep:
    if len({len(action) for action in sweep["actions"]}) != 1:
        raise ValueError("actions are not all of one length")
    return sweep


class Verdict(TypedDict):
    better: Natural
    horizons: Natural
    worse_at: list[Several]


Played = TypedDict(
    "Played",
    {
        "world": Literal["mujoco", "dream"],
        "policy": Literal["trained", "zero", "random"],
        "seed": Natural,
        "return": Number,
        "steps": Several,
        "terminated": bool,
        "success": NotRequired[bool],
    },
)
Compared = Annotated[list[_Compared], Field(min_length=1), AfterValidator(_by_horizon)]
Drawn = Annotated[Sweep, AfterValidator(_drawn)]
Grown = Annotated[list[_Grown], AfterValidator(_grown)]
PARTS: dict[str, Any] = {
    "returns": Annotated[list[Played], Field(min_length=1)],
    "open_loop": Compared,
    "growth": Grown,
    "speed": Speed,
    "films": Films,
    "sweep": Drawn,
}
"""What each file of ``evaluation/`` holds."""


class RealSteps(TypedDict):
    """Steps in MuJoCo, by purpose."""

    collected: Natural
    collected_train: Natural
    collected_holdout: Natural
    collected_constant: Natural
    looks_while_training: Natural
    judging: Natural
    action_repeat: Annotated[int, Field(ge=1, le=1000)]


class Policy(TypedDict):
    """How the policy was trained."""

    algorithm: Literal["ppo", "sac", "shac", "plan"]
    observation: Literal["state", "features", "latent", "pixels"]


class Origin(TypedDict):
    """Where the judgement comes from."""

    commit: Text
    command: Text
    date: Text
    hardware: Text
    versions: dict[Name, Text | None]
    configs: NotRequired[Object]


class Provenance(TypedDict):
    """Of the world model and of the judgement."""

    world_model: Object
    evaluation: Origin


class _Metrics(TypedDict):
    task: Name
    frame_size: Side
    """Height, pixels; the width too where that is not given."""
    frame_width: NotRequired[Side]
    dt_s: Annotated[float, Field(gt=0, le=3600)]
    policy: NotRequired[Policy]
    returns: NotRequired[Annotated[Returns, AfterValidator(_paired)]]
    open_loop: Compared
    growth: NotRequired[Grown]
    growth_of: NotRequired[GrowthOf]  # older versions compared states under constant actions alone
    speed: Speed
    films: Films
    sweep: NotRequired[Drawn]  # older versions drew none
    left_out: NotRequired[dict[Name, Text]]
    verdicts: dict[str, dict[str, Verdict]]
    real_steps: RealSteps
    seconds: dict[Name, Annotated[float, Field(ge=0, le=1e9)]]
    provenance: Provenance


def _agreeing(found: _Metrics) -> _Metrics:
    """The same metrics; a ValueError where a number is not what the numbers that it was made from say."""
    if found["verdicts"] != verdicts(found["open_loop"]):
        raise ValueError("verdicts are not those of open_loop")
    steps = found["real_steps"]
    if steps["collected"] != steps["collected_train"] + steps["collected_holdout"] + steps["collected_constant"]:
        raise ValueError("real_steps.collected is not the sum of its parts")
    explained = set(found) | set(found.get("left_out", {}))
    for name in ("returns", "growth"):
        if name not in explained:
            raise ValueError(f"{name} is missing, and left_out does not say why")
    if "policy" not in found and "returns" in found:
        raise ValueError("policy is missing, and returns are there")
    return found


Metrics = Annotated[_Metrics, AfterValidator(_agreeing)]


def read_metrics(path: Path, run: Path) -> dict[str, Any]:
    """A ``metrics.json`` of a judged run.

    Raises:
        CheckpointError: it is missing; or damaged, with what to delete.
    """
    return read_file(Metrics, path, judge_again(run))


def judge_again(run: Path) -> str:
    """What to do about damage in the judgement of a run."""
    return (
        f"delete {run / 'evaluation'} and {run / 'stages' / 'evaluation.json'}, and judge the run again with "
        f"`procosm evaluate --run {shlex.quote(str(run))}`"
    )
