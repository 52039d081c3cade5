"""What a world model is trained on: episodes on disk, written as a Minari dataset and read as arrays.

A dataset is a folder: ``main_data.hdf5`` and ``metadata.json`` as ``minari.MinariDataset(folder)`` reads them
(observations ``pixels`` and ``state``, infos ``physics``), ``task.json`` and ``provenance.json`` beside them.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

import h5py
import numpy as np
from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from procosm.sparse import strict
from procosm.world_model.data.stored import member, read
from procosm.world_model.errors import DatasetError, ProcosmError, TaskError
from procosm.world_model.folders import find, replace
from procosm.world_model.schema import checked

MAIN_FILE = "main_data.hdf5"
KINDS = ("train", "holdout", "constant", "test")
MOST_STEPS = 10**7
FILES = {MAIN_FILE, "metadata.json", "task.json", "provenance.json"}
Bound = Annotated[float, Field(ge=-1e30, le=1e30)]
"""Of an action: float32 holds it, and the distance to the other bound."""
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]
Length = Annotated[float, Field(gt=0, le=1e6)]
AGAIN = "collect it again (procosm collect --out DIR) or restore it from a copy"


def finite_json(values: dict[str, Any]) -> dict[str, Any]:
    """The same JSON values; a ValueError where one of them is NaN or infinite."""
    json.dumps(values, allow_nan=False)
    return values


class CameraJson(TypedDict, total=False):
    """What a task's camera may hold: ``envs.truth.camera`` reads a pose, ``envs.truth.model_camera`` a name."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    lookat: Annotated[list[Coordinate], Field(min_length=3, max_length=3)]
    azimuth: Annotated[float, Field(ge=-360, le=360)]
    elevation: Annotated[float, Field(ge=-90, le=90)]
    distance: Length
    width: Length
    height: Length
    body: Annotated[str, Field(max_length=200)]
    follow: Annotated[str, Field(pattern="^(|x|y|xy)$")]
    runway: Annotated[float, Field(ge=0, le=1e6)]
    views: int | list[dict[str, Any]]
    """Of benchmarks that look from several places: how many, or each camera."""


def camera_json(values: dict[str, Any]) -> dict[str, Any]:
    """The same JSON values; a ValueError where they are no camera's."""
    strict.check(CameraJson, values)
    return values


@dataclass(frozen=True)
class Task:
    """One task as a camera sees it: everything needed to make the truth env again, and the world-model env like it.

    Attributes:
        id: what ``gym.make`` or dm_control knows it by, such as ``Reacher-v5`` or ``dm_control/cartpole-swingup``.
        frame_size: height and width of a frame, pixels.
        action_repeat: simulator control steps for each step here.
        max_episode_steps: steps here after which an episode is truncated.
        dt_s: seconds of simulated time for each step here.
        action_low, action_high: bounds of each action.
        state_size: length of the true state, which is the task's own observation vector.
        camera: the camera's pose and settings as chosen for this task (JSON values), so that frames can be made again.
        renderer: ``egl``, ``osmesa`` or ``raycast``; pixels of different renderers never mix.
        version: version of the truth env; a change of pixels changes it.
        env_kwargs: keyword arguments that the task is made with (JSON values).
    """

    id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
    frame_size: Annotated[int, Field(ge=8, le=1024)]
    action_repeat: Annotated[int, Field(ge=1, le=1000)]
    max_episode_steps: Annotated[int, Field(ge=1, le=10**9)]
    dt_s: Annotated[float, Field(gt=1e-6, le=3600)]
    action_low: Annotated[tuple[Bound, ...], Field(min_length=1, max_length=1000)]
    action_high: Annotated[tuple[Bound, ...], Field(min_length=1, max_length=1000)]
    state_size: Annotated[int, Field(ge=1, le=10**6)]
    camera: Annotated[dict[str, Any], AfterValidator(camera_json)]
    renderer: Annotated[str, Field(pattern="^(egl|osmesa|raycast)$")]
    version: Annotated[int, Field(ge=1, le=1000)]
    env_kwargs: Annotated[dict[str, Any], AfterValidator(finite_json)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pairs = zip(self.action_low, self.action_high, strict=False)
        if len(self.action_low) != len(self.action_high) or not all(low < high for low, high in pairs):
            raise TaskError(
                f"actions of {self.id} from {self.action_low} to {self.action_high}: each needs a low below its high"
            )

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """``action_low`` and ``action_high`` as arrays, float32 (a,)."""
        return np.array(self.action_low, np.float32), np.array(self.action_high, np.float32)


@dataclass(frozen=True)
class Episode:
    """One logged episode of T steps.

    Attributes:
        frames: (T+1, H, W, 3) uint8.
        states: (T+1, s) float32, the task's own observation vector.
        actions: (T, a) float32. rewards: (T,) float32.
        terminated: whether the last step ended the episode for good (False: it was cut off).
        kind: ``train``, ``holdout`` (never trained on) or ``constant`` (held out, one action throughout: growth test).
        wide: whether it began where the task's own reset does not, perhaps in motion: its first frame, which stands
            for the past as well, shows no speed, so that its first steps cannot be predicted.
    """

    frames: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    kind: str
    wide: bool = False


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
        DatasetError: there is no dataset, or its ``task.json`` is damaged or from another version.
    """
    file = find(Path(path), "task.json")
    return checked(Task, _read_json(file), str(file), AGAIN, DatasetError, optional=("env_kwargs",))


def is_whole(path: Path) -> bool:
    """Whether every file of a dataset is there."""
    return all(find(path, name).exists() for name in FILES - {"provenance.json"})


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


def load_episodes(path: str | Path) -> list[Episode]:
    """Every episode of the dataset in folder ``path``, in the order they were collected.

    Raises:
        DatasetError: there is no dataset, or it is truncated or does not fit its ``task.json``.
    """
    path = Path(path)
    task = load_task(path)
    metadata = find(path, "metadata.json")
    count = checked(Counted, _read_json(metadata), str(metadata), AGAIN, DatasetError)["total_episodes"]
    try:
        with h5py.File(find(path, MAIN_FILE), "r") as file:
            if len(file) != count:
                raise DatasetError(f"{path / MAIN_FILE} holds {len(file)} of {count} episodes; {AGAIN}")
            return [_read_episode(file, i, task, f"episode {i} of {path / MAIN_FILE}") for i in range(count)]
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise DatasetError(f"{path / MAIN_FILE} is missing, truncated or damaged ({error}); {AGAIN}") from error


def acting_policies(path: Path) -> dict[str, str]:
    """sha256 of each saved policy that acted in the dataset at ``path``, by its file; none where it does not say."""
    told = find(path, "provenance.json")
    if not told.exists():
        return {}
    return checked(Origin, _read_json(told), str(told), AGAIN, DatasetError).get("job", {}).get("policies", {})


def write_dataset(
    path: Path, task: Task, episodes: Iterable[tuple[Episode, np.ndarray]], provenance: dict, env_spec: str
) -> None:
    """Write a dataset into the folder ``path``, whole or not at all.

    Args:
        path: the folder; it need not exist, and may be a link or a mount point.
        task: what the episodes were collected on.
        episodes: episodes, each with its physics states, float64 (T+1, n).
        provenance: JSON values: where the data come from and how to repeat them.
        env_spec: JSON of the Gymnasium spec from which Minari can make the environment again.

    Raises:
        DatasetError: there is one already, or the disk did not take it; nothing of it is left then.
    """
    if is_whole(path):
        raise DatasetError(f"there is a dataset in {path} already: give another folder, or delete it")

    def write(staging: Path) -> None:
        try:
            with h5py.File(staging / MAIN_FILE, "w", libver="latest") as file:
                counts = [_write_episode(file, index, *pair) for index, pair in enumerate(episodes)]
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


def _metadata(task: Task, episodes: int, steps: int, size_mb: float, env_spec: str) -> dict[str, Any]:
    import gymnasium as gym
    import minari
    from minari.serialization import serialize_space

    name = "".join(letter if letter.isalnum() else "-" for letter in task.id)
    frames = gym.spaces.Box(0, 255, (task.frame_size, task.frame_size, 3), np.uint8)
    states = gym.spaces.Box(-np.inf, np.inf, (task.state_size,), np.float32)
    actions = gym.spaces.Box(*task.bounds, dtype=np.float32)
    return {
        "dataset_id": f"procosm/{name}-v0",
        "total_episodes": episodes,
        "total_steps": steps,
        "dataset_size": round(size_mb, 1),
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "minari_version": minari.__version__,
        "observation_space": serialize_space(gym.spaces.Dict({"pixels": frames, "state": states})),
        "action_space": serialize_space(actions),
        "env_spec": env_spec,
    }


def _write_episode(file: h5py.File, index: int, episode: Episode, physics: np.ndarray) -> int:
    """Minari's layout; lzf makes frames ten times smaller and costs little to read. Returns the steps."""
    steps = len(episode.actions)
    ends, cuts = np.zeros(steps, bool), np.zeros(steps, bool)
    ends[-1], cuts[-1] = episode.terminated, not episode.terminated
    group = file.create_group(f"episode_{index}")
    group.attrs.update({"id": index, "total_steps": steps, "kind": episode.kind, "wide": episode.wide})
    pixels = {"chunks": episode.frames.shape, "compression": "lzf"}
    group.create_dataset("observations/pixels", data=episode.frames, **pixels)
    group.create_dataset("observations/state", data=episode.states)
    group.create_dataset("infos/physics", data=physics)
    for name, values in (
        ("actions", episode.actions),
        ("rewards", episode.rewards),
        ("terminations", ends),
        ("truncations", cuts),
    ):
        group.create_dataset(name, data=values)
    return steps


def _read_episode(file: h5py.File, index: int, task: Task, where: str) -> Episode:
    group = file[f"episode_{index}"]
    try:
        steps, size = (*(member(group, "actions").shape or ()), 0)[0], task.frame_size
        if not 1 <= steps <= MOST_STEPS:
            raise DatasetError(f"actions of {steps} steps")
        episode = Episode(
            frames=read(group, "observations/pixels", (steps + 1, size, size, 3), np.uint8),
            states=read(group, "observations/state", (steps + 1, task.state_size), np.float32),
            actions=read(group, "actions", (steps, len(task.action_low)), np.float32),
            rewards=read(group, "rewards", (steps,), np.float32),
            terminated=bool((ends := read(group, "terminations", (steps,), np.bool_))[-1]),
            kind=group.attrs["kind"],
            wide=bool(group.attrs["wide"]),
        )
        if not isinstance(episode.kind, str) or episode.kind not in KINDS:
            raise DatasetError(f"kind is {episode.kind!r:.40}, none of {', '.join(KINDS)}")
        if not isinstance(group.attrs["wide"], bool | np.bool_) or ends[:-1].any():
            raise DatasetError("wide must be true or false, and no step but the last may end an episode")
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
