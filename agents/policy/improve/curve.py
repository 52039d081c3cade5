"""The return over real steps, as it grows: ``improve.json``, ``improve.png`` and a line for each round."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from pydantic import AfterValidator
from typing_extensions import TypedDict

from procosm.agents.judge.measurements import Number, Several, around
from procosm.world_model.files import write_bytes, write_json
from procosm.world_model.schema import read_file


def _held(judgement: dict[str, Any]) -> dict[str, Any]:
    around(judgement, "mean")
    return judgement


class _Judged(TypedDict):
    mean: Number
    low: Number
    high: Number
    n: Several
    dream_mean: Number
    real_steps: Several


Judgement = Annotated[_Judged, AfterValidator(_held)]


def read_judgement(folder: Path) -> dict[str, Any]:
    """What was found of a round's policy.

    Returns:
        ``mean``, ``low`` and ``high`` of its return in MuJoCo over ``n`` episodes of ``real_steps`` together, and
        ``dream_mean``, what its dreams from the same first frames promise.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = folder / "judgement.json"
    return read_file(Judgement, path, f"delete {path}, and run the same command again to judge this round again")


def write_curve(out: Path, task: str, rounds: Sequence[dict[str, Any]], mark: float | None) -> None:
    """Write ``improve.json`` and ``improve.png`` into ``out``.

    Args:
        task: its name. rounds: of each judged round its ``round``, ``real_steps`` collected until then, and what
            ``read_judgement`` says, its real steps as ``judging_steps``. mark: the return aimed at.
    """
    write_json(out / "improve.json", {"task": task, "mark": mark, "rounds": list(rounds)})
    figure, axis = plt.subplots(figsize=(5.6, 3.6))
    steps, means = [row["real_steps"] for row in rounds], [row["mean"] for row in rounds]
    axis.plot(steps, means, color="#0072b2", marker="o", label="MuJoCo")
    axis.fill_between(steps, [r["low"] for r in rounds], [r["high"] for r in rounds], color="#0072b2", alpha=0.2, lw=0)
    promised = [row["dream_mean"] for row in rounds]
    axis.plot(steps, promised, color="#d55e00", marker="*", ls="--", label="promised in dreams")
    if mark is not None:
        axis.axhline(mark, color="#555555", lw=0.8, ls=":", label="mark")
    axis.set(xlabel="real steps", ylabel="return", title=f"{task}, {rounds[0]['n']} episodes a round", xlim=(0, None))
    axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=140, format="png")
    plt.close(figure)
    write_bytes(out / "improve.png", picture.getvalue())


def told(row: dict[str, Any], rounds: int) -> str:
    """A round in a line."""
    return (
        f"round {row['round'] + 1} of {rounds}, {row['real_steps']:,} real steps: return {row['mean']:.1f} "
        f"[{row['low']:.1f}, {row['high']:.1f}] in MuJoCo, {row['dream_mean']:.1f} promised in dreams"
    )
