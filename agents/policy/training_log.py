"""What stands in a policy's ``training.json``: its rounds of dreams, and the looks at MuJoCo in between."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from procosm.agents.judge.measurements import Natural, Number, Several, judge_again, rising
from procosm.world_model.folders import named
from procosm.world_model.schema import read_file


class Round(TypedDict):
    """What the dreams that ended in a round were like; None where none ended."""

    round: Natural
    imagined_steps: Several
    dream_return: Number | None
    dream_length: Annotated[float, Field(ge=1, le=1e9)] | None


class Look(TypedDict):
    """Whole episodes in MuJoCo while the policy was trained."""

    imagined_steps: Several
    returns: Annotated[list[Number], Field(min_length=1)]
    real_steps: Several
    lengths: list[Several]


def _consistent(look: Look) -> Look:
    if len(look["lengths"]) != len(look["returns"]) or sum(look["lengths"]) != look["real_steps"]:
        raise ValueError("returns, lengths and real_steps are not of the same episodes")
    return look


class _Log(TypedDict):
    algorithm: Literal["ppo", "sac", "shac"]
    observation: Literal["state", "features", "latent", "pixels"]
    rounds: list[Round]
    truth: list[Annotated[Look, AfterValidator(_consistent)]]


def _in_order(log: _Log) -> _Log:
    if [entry["round"] for entry in log["rounds"]] != list(range(len(log["rounds"]))):
        raise ValueError("the rounds are not numbered from 0 on")
    rising([entry["imagined_steps"] for entry in log["rounds"]], "imagined_steps of rounds")
    rising([entry["imagined_steps"] for entry in log["truth"]], "imagined_steps of truth")
    if len({len(look["returns"]) for look in log["truth"]}) > 1:
        raise ValueError("looks at MuJoCo are not of equally many episodes")
    return log


Log = Annotated[_Log, AfterValidator(_in_order)]


def read_log(policy: Path) -> dict[str, Any]:
    """``training.json`` of a policy's folder.

    Raises:
        CheckpointError: it is missing; or damaged, with what to delete.
    """
    folder = named(policy)
    world_model, record = folder.parent / "world_model", folder.parent / "stages" / f"{folder.name}.json"
    advice = (
        f"restore it from a copy; or delete {folder} and {record}, train the policy again with `procosm train-policy "
        f"--world-model {shlex.quote(str(world_model))} --out {shlex.quote(str(folder))}`, {judge_again(folder.parent)}"
    )
    return read_file(Log, policy / "training.json", advice)
