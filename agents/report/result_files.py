"""What stands in the result of a benchmark, in the CSV of episodes beside it, and in the pictures of a page."""

import csv
import gzip
import io
import math
import warnings
import zlib
from collections import defaultdict
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NotRequired

import av
import numpy as np
from PIL import Image
from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from procosm.agents.judge.measurements import Name, Natural, Number, Object, Text, around, rising
from procosm.world_model.errors import CheckpointError
from procosm.world_model.files import read_json
from procosm.world_model.schema import read_file

OPEN = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
MOST_BYTES = 64 * 2**20
"""Of a picture, a film or a CSV on a page."""
MOST_SIDE, MOST_PICTURES, MOST_EPISODES = 8192, 20_000, 10**6

ERRORS = {"state_nrmse", "frechet_video", "reward_error", "landmark_error", "sampson_time", "sampson_views"}
CORRELATIONS = {"Pearson r", "Spearman rho", "Kendall tau"}
RANGES = dict.fromkeys(ERRORS, (0.0, math.inf))
RANGES |= dict.fromkeys(CORRELATIONS, (-1.0, 1.0)) | {"lost": (0.0, 1.0), "false_end": (0.0, 1.0), "ssim": (-1.0, 1.0)}
RANGES |= {"AUROC": (0.0, 1.0), "MMRV": (0.0, math.inf), "regret@1": (0.0, math.inf)}
"""What the value of a metric can be."""


class _Row(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    metric: Name
    task: Name
    unit: Annotated[str, Field(max_length=200)]
    value: Number
    low: NotRequired[Number]
    high: NotRequired[Number]
    n: NotRequired[Natural]
    seed: NotRequired[Natural]
    method: NotRequired[Name]
    behaviour: NotRequired[Name]
    network: NotRequired[Name]
    panel: NotRequired[Name]
    horizon: NotRequired[Annotated[int, Field(ge=1, le=10**9)] | Name]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Refuse an interval without an end, a value that its metric cannot have, and a column that is no single word."""
    if ("low" in row) != ("high" in row):
        raise ValueError("an interval with one end")
    if "low" in row:
        around(row)
    least, most = RANGES.get(row["metric"], (-math.inf, math.inf))
    if not least - 1e-9 <= row["value"] <= most + 1e-9:
        raise ValueError(f"{row['metric']} is {row['value']}")
    for name, value in row.items():
        if isinstance(value, list | dict) or len(str(value)) > 1000:
            raise ValueError(f"{name} is no word and no number")
    return row


Row = Annotated[_Row, AfterValidator(_row)]
Rows = Annotated[list[Row], Field(min_length=1)]


class Details(TypedDict):
    """What a result says beside its rows."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    reading: NotRequired[Text]


class Result(TypedDict):
    """Any result."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    rows: Rows
    details: NotRequired[Details]


def _followed(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse fidelity without the dream and the last frame copied, by state and picture, at the same horizons."""
    curves: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in result["rows"]:
        if "method" not in row:
            continue
        if missing := {"behaviour", "horizon", "low", "n"} - set(row):
            raise ValueError(f"{min(missing)} of {row['metric']} by {row['method']} is missing")
        if not isinstance(row["horizon"], int):
            raise ValueError(f"horizon is {row['horizon']!r}")
        around(row)
        curves[row["behaviour"], row["metric"], row["method"]].append(row["horizon"])
    if not curves:
        raise ValueError("no row has a method")
    for name, horizons in curves.items():
        rising(horizons, f"horizon of {', '.join(name)}")
    for behaviour in {name[0] for name in curves}:
        for metric in ("state_nrmse", "psnr_db"):
            compared = [curves.get((behaviour, metric, method)) for method in ("dream", "copy last frame")]
            if not compared[0] or compared[0] != compared[1]:
                raise ValueError(
                    f"{metric} of {behaviour}: dream and copy last frame do not stand at the same horizons"
                )
            for (b, m, _), horizons in curves.items():
                if (b, m) == (behaviour, metric) and not set(horizons) <= set(compared[0]):
                    raise ValueError(f"{metric} of {behaviour}: a curve reaches horizons that the dream does not")
    return result


class Member(TypedDict):
    """A policy of a panel."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    policy: Name
    family: Name


class _Panel(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    panel: Annotated[list[Member], Field(min_length=1)]


class _Ranking(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    rows: Rows
    details: _Panel


def _ranked(result: Mapping[str, Any]) -> Mapping[str, Any]:
    names = [member["policy"] for member in result["details"]["panel"]]
    if len(set(names)) < len(names):
        raise ValueError("a policy stands twice in the panel")
    shown = [row for row in result["rows"] if (row.get("panel"), row.get("horizon")) == ("all", "whole episode")]
    if any("low" not in row for row in shown):
        raise ValueError("a row about whole episodes has no interval")
    return result


KINDS: dict[str, Any] = {
    "fidelity": Annotated[Result, AfterValidator(_followed)],
    "ranking": Annotated[_Ranking, AfterValidator(_ranked)],
}


def read_result(question: str, path: Path) -> dict[str, Any]:
    """A result as the section of ``question`` needs it.

    Raises:
        CheckpointError: it is damaged, with what to do.
    """
    advice = _without(path)
    found = read_file(KINDS.get(question, Result), path, advice)
    read_file(Object, path, advice)  # below details, too, every number is finite
    return found


def task_of(path: Path) -> str | None:
    """The task that a result is about, None where it does not say."""
    values = read_json(path, _without(path))
    rows = values.get("rows") if isinstance(values, dict) else None
    first = rows[0] if isinstance(rows, list) and rows else None
    return first.get("task") if isinstance(first, dict) else None


def episodes_file(result: Path) -> Path:
    """The CSV with a row for each episode of a ranking, beside its JSON: packed, or as earlier versions wrote it."""
    plain, packed = result.with_suffix(".csv"), result.with_suffix(".csv.gz")
    return plain if plain.exists() and not packed.exists() else packed


def _result_of(episodes: Path) -> Path:
    return episodes.with_name(episodes.name.removesuffix(".gz")).with_suffix(".json")


def read_episodes(path: Path, policies: set[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each policy the (n,) returns in MuJoCo and in the dream, from the table of a ranking's episodes.

    Raises:
        CheckpointError: it is missing or damaged, or is not about these ``policies``, each with the same seeds.
    """
    played: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    try:
        rows = csv.DictReader(io.StringIO(content_of(path).decode("utf-8")), strict=True)
        for row in islice(rows, MOST_EPISODES):
            if None in row or None in row.values():
                raise ValueError(f"line {rows.line_num} has not as many columns as the first")
            seed, returns = row["seed"], tuple(_number(row[f"{world}_return"]) for world in ("truth", "dream"))
            if not (seed.isascii() and seed.isdigit() and len(seed) < 20 and all(abs(r) <= 1e15 for r in returns)):
                raise ValueError(f"line {rows.line_num} holds a seed or a return that can be none")
            if int(seed) in played[row["policy"]]:
                raise ValueError(f"line {rows.line_num} tells an episode again")
            played[row["policy"]][int(seed)] = returns[0], returns[1]
        if set(played) != policies or len({frozenset(seeds) for seeds in played.values()}) != 1:
            raise ValueError("it does not hold the same episodes of each policy in details.panel")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: restore it, or {_without(_result_of(path))}") from error
    except (OSError, EOFError, zlib.error, ValueError, KeyError, csv.Error) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}): {_without(path)}") from error
    return {name: (each[:, 0], each[:, 1]) for name, of in played.items() for each in [np.array(list(of.values()))]}


def read_picture(path: Path, advice: str | None = None) -> bytes:
    """A PNG file that can be drawn.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        content = content_of(path)
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            warnings.simplefilter("error")
            if max(picture.size) > MOST_SIDE:
                raise ValueError(f"it says that it has {picture.size} pixels")
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {advice or _without(path)}") from error
    return content


def read_film(path: Path, advice: str) -> tuple[bytes, Image.Image]:
    """An mp4 file and the picture from its middle.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        content = content_of(path)
        with av.open(io.BytesIO(content), "r", format="mp4") as container:
            stream = container.streams.video[0]
            if not 0 < stream.frames <= MOST_PICTURES or max(stream.width, stream.height) > MOST_SIDE:
                raise ValueError(f"it says that it has {stream.frames} pictures of {stream.width} x {stream.height}")
            frame = next(islice(container.decode(stream), stream.frames // 2, None))
            return content, frame.to_image()
    except (av.FFmpegError, OSError, ValueError, IndexError, StopIteration) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}): {advice}") from error


def _number(text: str) -> float:
    """A number as any program writes it; Python's own reads ``1_0`` and other digits than ASCII's, too."""
    if "_" in text or not text.isascii():
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)


def content_of(path: Path) -> bytes:
    """What stands in a file, a ``.gz`` unpacked.

    Raises:
        OSError, EOFError, zlib.error: it cannot be read, or is damaged. ValueError: it is too long for a page.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than the {MOST_BYTES:,} bytes that anything on a page may have")
    return content


def _without(path: Path) -> str:
    return f"restore it from a copy; or delete {path}, make the page without it, or measure it again"
