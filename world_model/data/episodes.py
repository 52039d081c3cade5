"""What a world model is trained on: episodes on disk, written as a Minari dataset and read as arrays.

A dataset is a folder: ``main_data.hdf5`` and ``metadata.json`` as ``minari.MinariDataset(folder)`` reads them
(observations ``pixels`` and what else was logged for each frame, such as ``state``; ``rewards``, zeros where
``task.json`` does not list the signal; infos ``physics``), ``task.json`` and ``provenance.json`` beside them.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import h5py
import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from procosm.world_model.data import stored
from procosm.world_model.data.on_disk import PIXELS, EpisodeFrames, FrameFile
from procosm.world_model.data.stored import member, read, rows_together
from procosm.world_model.data.task import Task, read_task
from procosm.world_model.errors import DatasetError, ProcosmError
from procosm.world_model.folders import find, replace
from procosm.world_model.schema import checked

if TYPE_CHECKING:
    import gymnasium as gym

MAIN_FILE = "main_data.hdf5"
TOGETHER = 16
"""Frames that are compressed together: who reads a window reads few others."""
KINDS = ("train", "holdout", "constant", "test")
MOST_STEPS = 10**7
FILES = {MAIN_FILE, "metadata.json", "task.json", "provenance.json"}
DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError)
"""What h5py raises about a damaged file."""
AGAIN = "collect it again (procosm collect --out DIR) or restore it from a copy"


@dataclass(frozen=True)
class Episode:
    """One logged episode of T steps.

    A signal that is not in the mapping was not logged; nobody puts zeros there for it.

    Attributes:
        frames: (T+1, H, W, 3) uint8, the views of each side by side; of a loaded one perhaps still on disk, and then
            read when it is indexed.
        actions: (T, a) float32.
        terminated: whether the last step ended the episode for good (False: it was cut off, or it is not known).
        kind: ``train``, ``holdout`` (never trained on) or ``constant`` (held out, one action throughout: growth test).
        wide: whether it began where the task's own reset does not, perhaps in motion: its first frame, which stands
            for the past as well, shows no speed, so that its first steps cannot be predicted.
        signals: what else was logged, float32 arrays by name: ``state`` (T+1, s), the task's own observation vector;
            ``reward`` (T,); any other with T+1 values, one for each frame, or T, one for each step.
        text: what was asked for, in words; "" where nothing was.
    """

    frames: np.ndarray
    actions: np.ndarray
    terminated: bool
    kind: str
    wide: bool = False
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    text: str = ""


class Counted(TypedDict):
    """What is read of Minari's metadata."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    total_episodes: Annotated[int, Field(ge=0, le=10**7)]
    total_steps: Annotated[int, Field(ge=0, le=10**10)]


class Acted(TypedDict):
    """What is read of a dataset's provenance."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    policies: NotRequired[dict[str, str]]


class Origin(TypedDict):
    """Where a dataset comes from."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    job: NotRequired[Acted]


def load_task(path: str | Path) -> Task:
    """The task that the dataset in folder ``path`` was collected on.

    Raises:
        DatasetError: there is no dataset, or its ``task.json`` is damaged.
    """
    file = find(Path(path), "task.json")
    return read_task(_read_json(file), str(file), AGAIN, DatasetError)


def is_whole(path: Path) -> bool:
    """Whether every file of a dataset is there."""
    return all(find(path, name).exists() for name in FILES - {"provenance.json"})


def read_counts(path: Path) -> Counted:
    """``total_episodes`` and ``total_steps`` of the dataset at ``path``.

    Raises:
        DatasetError: there is no dataset, or its ``metadata.json`` is damaged.
    """
    metadata = find(path, "metadata.json")
    return checked(Counted, _read_json(metadata), str(metadata), AGAIN, DatasetError)


def check_whole(path: Path) -> None:
    """Look at a dataset without reading its frames.

    Raises:
        DatasetError: a file is missing or damaged.
    """
    count = _read_json(find(path, "metadata.json")).get("total_episodes")
    load_task(path)
    try:
        with h5py.File(find(path, MAIN_FILE), "r") as file:
            if len(file) != count:
                raise DatasetError(f"{path / MAIN_FILE} holds {len(file)} of {count} episodes; {AGAIN}")
    except OSError as error:
        raise DatasetError(f"{path / MAIN_FILE} is missing, truncated or damaged ({error}); {AGAIN}") from error


def load_episodes(path: str | Path, frames_on_disk: bool = False) -> list[Episode]:
    """Every episode of the dataset in folder ``path``, in the order they were collected.

    Args:
        frames_on_disk: read frames when they are asked for, see ``on_disk``; until then only their headers are checked.

    Raises:
        DatasetError: there is no dataset, or it is truncated or does not fit its ``task.json``.
    """
    path = Path(path)
    task = load_task(path)
    count = read_counts(path)["total_episodes"]
    try:
        with h5py.File(find(path, MAIN_FILE), "r") as file:
            if len(file) != count:
                raise DatasetError(f"{path / MAIN_FILE} holds {len(file)} of {count} episodes; {AGAIN}")
            where = FrameFile(find(path, MAIN_FILE)) if frames_on_disk else None
            return [_read_episode(file, i, task, f"episode {i} of {path / MAIN_FILE}", where) for i in range(count)]
    except DAMAGE as error:
        raise DatasetError(f"{path / MAIN_FILE} is missing, truncated or damaged ({error}); {AGAIN}") from error


def read_episode(path: Path, index: int, task: Task) -> Episode:
    """One episode of the dataset in folder ``path``, whose task is ``task``.

    Raises:
        DatasetError: it is damaged, or does not fit the task.
    """
    try:
        with h5py.File(find(path, MAIN_FILE), "r") as file:
            return _read_episode(file, index, task, f"episode {index} of {path / MAIN_FILE}", None)
    except DAMAGE as error:
        raise DatasetError(f"{path / MAIN_FILE} is missing, truncated or damaged ({error}); {AGAIN}") from error


def newest_frames(path: Path, count: int) -> dict[str, int]:
    """How many frames of each kind the last ``count`` episodes of a dataset have.

    Raises:
        DatasetError: there is no dataset, or it has fewer.
    """
    frames = dict.fromkeys(KINDS, 0)
    if not count:
        return frames
    try:
        with h5py.File(find(path, MAIN_FILE), "r") as file:
            if count > len(file):
                raise DatasetError(f"{path} holds {len(file)} episodes, and the newest {count} are asked for")
            for index in range(len(file) - count, len(file)):
                group = file[f"episode_{index}"]
                frames[group.attrs["kind"]] += member(group, "actions").shape[0] + 1
    except DAMAGE as error:
        raise DatasetError(f"{path / MAIN_FILE} is missing, truncated or damaged ({error}); {AGAIN}") from error
    return frames


def acting_policies(path: Path) -> dict[str, str]:
    """sha256 of each saved policy that acted in the dataset at ``path``, by its file; none where it does not say."""
    told = find(path, "provenance.json")
    if not told.exists():
        return {}
    return checked(Origin, _read_json(told), str(told), AGAIN, DatasetError).get("job", {}).get("policies", {})


def write_dataset(
    path: Path | str,
    task: Task,
    episodes: Iterable[tuple[Episode, np.ndarray | None]],
    provenance: dict,
    env_spec: str | None,
) -> None:
    """Write a dataset into the folder ``path``, whole or not at all.

    Args:
        path: the folder; it need not exist, and may be a link or a mount point.
        task: what the episodes were collected on.
        episodes: episodes with the signals that the task logs, each with its physics states, float64 (T+1, n), or None.
        provenance: JSON values: where the data come from and how to repeat them.
        env_spec: JSON of the Gymnasium spec from which Minari can make the environment again, None
            where there is none.

    Raises:
        DatasetError: there is one already, or the disk did not take it; nothing of it is left then.
    """
    path = Path(path)
    if is_whole(path):
        raise DatasetError(f"there is a dataset in {path} already: give another folder, or delete it")

    def write(staging: Path) -> None:
        try:
            with h5py.File(staging / MAIN_FILE, "w", libver="latest") as file:
                counts = [_write_episode(file, index, task, *pair) for index, pair in enumerate(episodes)]
            size_mb = (staging / MAIN_FILE).stat().st_size / 1e6
            metadata = _metadata(task, len(counts), sum(counts), size_mb, env_spec)
            for name, values in (("metadata", metadata), ("task", asdict(task)), ("provenance", provenance)):
                text = json.dumps(values, indent=2, allow_nan=False) + "\n"
                (staging / f"{name}.json").write_text(text, encoding="utf-8")
            for file_path in staging.iterdir():
                with file_path.open("rb+") as written:
                    os.fsync(written.fileno())
        except (OSError, RuntimeError) as error:
            # HDF5 reports a full disk as either, depending on where it notices.
            size_mb = sum(part.stat().st_size for part in staging.iterdir()) / 1e6
            raise DatasetError(
                f"cannot write the dataset {path} ({error}) after {size_mb:.0f} MB: free some space, then run the same "
                "command again; what was collected is kept"
            ) from error

    try:
        replace(path, write)
    except DatasetError:
        raise
    except ProcosmError as error:
        raise DatasetError(str(error)) from error


def _metadata(task: Task, episodes: int, steps: int, size_mb: float, env_spec: str | None) -> dict[str, Any]:
    import gymnasium as gym
    import minari

    name = "".join(letter if letter.isalnum() else "-" for letter in task.id)
    observed: dict[str, gym.Space] = {"pixels": gym.spaces.Box(0, 255, task.frame_shape, np.uint8)}
    for signal in sorted(task.signals):
        if task.signals[signal].per == "frame":
            observed[signal] = gym.spaces.Box(-np.inf, np.inf, task.signals[signal].shape, np.float32)
    actions = gym.spaces.Box(*task.bounds, dtype=np.float32)
    return {
        "dataset_id": f"procosm/{name}-v0",
        "total_episodes": episodes,
        "total_steps": steps,
        "dataset_size": round(size_mb, 1),
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "minari_version": minari.__version__,
        "observation_space": _space_json(gym.spaces.Dict(observed)),
        "action_space": _space_json(actions),
        **({"env_spec": env_spec} if env_spec is not None else {}),
    }


def _space_json(space: "gym.Space") -> str:
    """A space as Minari reads it, in JSON, which has no infinite numbers: such bounds stand as text ("-inf"), of which
    Minari's reader (NumPy) makes the same numbers.
    """
    from minari.serialization import serialize_space

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(each) for key, each in value.items()}
        if isinstance(value, list):
            return [finite(each) for each in value]
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(serialize_space(space, to_string=False)), allow_nan=False)


def _arrays(task: Task, steps: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Where each signal of an episode lies in its group, and its shape; termination has a place of its own."""
    places = {}
    for name, signal in task.signals.items():
        folder = "observations" if signal.per == "frame" else "infos"
        place = "rewards" if name == "reward" else f"{folder}/{name}"
        places[name] = place, (steps + (signal.per == "frame"), *signal.shape)
    places.pop("termination", None)
    return places


def _write_episode(file: h5py.File, index: int, task: Task, episode: Episode, physics: np.ndarray | None) -> int:
    """Minari's layout; lzf makes frames ten times smaller and costs little to read. Returns the steps.

    Minari wants ``rewards`` of every episode: zeros stand there where none were logged, and the task tells.
    """
    steps = len(episode.actions)
    places = _arrays(task, steps)
    found = {name: (values.shape, values.dtype) for name, values in episode.signals.items()}
    wanted = {name: (shape, np.dtype(np.float32)) for name, (_, shape) in places.items()}
    if found != wanted:
        raise DatasetError(f"episode {index} has the signals {found}, where its task logs {wanted}")
    if episode.terminated and "termination" not in task.signals:
        raise DatasetError(f"episode {index} ends for good, and its task logs no termination")
    ends, cuts = np.zeros(steps, bool), np.zeros(steps, bool)
    ends[-1], cuts[-1] = episode.terminated, not episode.terminated
    group = file.create_group(f"episode_{index}")
    group.attrs.update({"id": index, "total_steps": steps, "kind": episode.kind, "wide": episode.wide})
    if episode.text:
        group.attrs["text"] = episode.text
    together = min(TOGETHER, len(episode.frames))
    group.create_dataset(PIXELS, data=episode.frames, chunks=(together, *episode.frames.shape[1:]), compression="lzf")
    group.create_dataset("actions", data=episode.actions)
    group.create_dataset("terminations", data=ends)
    group.create_dataset("truncations", data=cuts)
    if "reward" not in places:
        group.create_dataset("rewards", data=np.zeros(steps, np.float32))
    for name, (place, _) in places.items():
        group.create_dataset(place, data=episode.signals[name])
    if physics is not None:
        group.create_dataset("infos/physics", data=physics)
    return steps


def frame_bytes(path: str | Path) -> int:
    """How much memory the frames of a dataset take.

    Raises:
        DatasetError: there is no dataset, or it is damaged.
    """
    path = Path(path)
    counted = read_counts(path)
    return (counted["total_steps"] + counted["total_episodes"]) * math.prod(load_task(path).frame_shape)


def _frames(group: h5py.Group, index: int, shape: tuple[int, ...], on_disk: FrameFile | None) -> Any:
    """The frames of an episode, or what reads them."""
    if on_disk is None:
        return read(group, PIXELS, shape, np.uint8)
    return EpisodeFrames(on_disk, index, shape, rows_together(stored.checked(group, PIXELS, shape, np.uint8)))


def _read_episode(file: h5py.File, index: int, task: Task, where: str, on_disk: FrameFile | None) -> Episode:
    group = file[f"episode_{index}"]
    try:
        steps = (*(member(group, "actions").shape or ()), 0)[0]
        if not 1 <= steps <= MOST_STEPS:
            raise DatasetError(f"actions of {steps} steps")
        ends = read(group, "terminations", (steps,), np.bool_)
        episode = Episode(
            frames=_frames(group, index, (steps + 1, *task.frame_shape), on_disk),
            actions=read(group, "actions", (steps, len(task.action_low)), np.float32),
            terminated=bool(ends[-1]),
            kind=group.attrs["kind"],
            wide=bool(group.attrs["wide"]),
            signals={
                name: read(group, place, shape, np.float32) for name, (place, shape) in _arrays(task, steps).items()
            },
            text=group.attrs.get("text", ""),
        )
        if not isinstance(episode.kind, str) or episode.kind not in KINDS:
            raise DatasetError(f"kind is {episode.kind!r:.40}, none of {', '.join(KINDS)}")
        if not isinstance(group.attrs["wide"], bool | np.bool_) or ends[:-1].any():
            raise DatasetError("wide must be true or false, and no step but the last may end an episode")
        if not isinstance(episode.text, str):
            raise DatasetError(f"text is {episode.text!r:.40}, no text")
        if episode.terminated and "termination" not in task.signals:
            raise DatasetError("it ends for good, and its task logs no termination")
        low, high = task.bounds
        if (episode.actions < low).any() or (episode.actions > high).any():
            raise DatasetError(f"actions lie outside {low.tolist()} to {high.tolist()}")
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}; {AGAIN}") from error
    return episode


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"there is no dataset in {path.parent}: {path.name} is missing; {AGAIN}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is damaged ({error}); {AGAIN}") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{path} is damaged (no JSON object); {AGAIN}")
    return values
