"""What a log is of: views, actions, timing and signals; and, where there is one, its twin in MuJoCo."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from procosm.sparse import strict
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.schema import checked

Bound = Annotated[float, Field(ge=-1e30, le=1e30)]
"""Of an action: float32 holds it, and the distance to the other bound."""
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]
Length = Annotated[float, Field(gt=0, le=1e6)]
Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,39}$")]
Frames = TypeVar("Frames")
MAIN = "main"
"""What the only view of a task is called where nobody gave it a name."""


def finite_json(values: dict[str, Any]) -> dict[str, Any]:
    """The same JSON values; a ValueError where one of them is NaN or infinite."""
    json.dumps(values, allow_nan=False)
    return values


class CameraJson(TypedDict, total=False):
    """What a camera may hold: ``envs.truth.camera`` reads a pose, ``envs.truth.model_camera`` a name."""

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
class View:
    """What one camera shows: its name, and the height and width of its part of a frame, pixels."""

    name: Name
    height: Annotated[int, Field(ge=8, le=4096)]
    width: Annotated[int, Field(ge=8, le=4096)]


@dataclass(frozen=True)
class Signal:
    """What else than pixels and actions was logged under one name.

    Attributes:
        shape: of one value; () for a number.
        per: ``frame`` (T + 1 values in an episode of T steps) or ``step`` (T values).
    """

    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=10**6)], ...], Field(max_length=4)]
    per: Literal["frame", "step"]


REWARD = TERMINATION = SUCCESS = Signal((), "step")
"""Numbers of these kinds are logged as ``reward``, ``termination`` and ``success`` (1 in a step that is at the task's
goal, else 0); terminations stand in ``Episode.terminated``."""


@dataclass(frozen=True)
class Twin:
    """The MuJoCo task behind the same spaces: everything needed to make it, and its frames, again.

    Attributes:
        id: what ``gym.make`` or dm_control knows it by, such as ``Reacher-v5`` or ``dm_control/cartpole-swingup``.
        env_kwargs: keyword arguments that it is made with (JSON values).
        renderer: ``egl``, ``osmesa`` or ``raycast``; pixels of different renderers never mix.
        cameras: pose and settings of each view's camera (JSON values), by the view's name.
        state_size: length of the true state, which is the task's own observation vector.
        version: of the pixels; a change of what is drawn changes it.
    """

    id: Id
    env_kwargs: Annotated[dict[str, Any], AfterValidator(finite_json)]
    renderer: Annotated[str, Field(pattern="^(egl|osmesa|raycast)$")]
    cameras: dict[Name, Annotated[dict[str, Any], AfterValidator(camera_json)]]
    state_size: Annotated[int, Field(ge=1, le=10**6)]
    version: Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True)
class Task:
    """What a log, and a world model trained on it, is of.

    Attributes:
        id: the task's name; that of its twin, where it has one.
        views: what is seen. Frames of a step stand side by side along the width, in this order.
        action_low, action_high: bounds of each action.
        action_repeat: control steps for each step here.
        dt_s: seconds for each step here.
        max_episode_steps: steps here after which an episode is truncated.
        signals: what else is logged, by name: ``state``, ``reward``, ``termination`` and any other.
        twin: how MuJoCo shows the same task; None where nothing does, as for a robot's logs.
    """

    id: Id
    views: Annotated[tuple[View, ...], Field(min_length=1, max_length=16)]
    action_low: Annotated[tuple[Bound, ...], Field(min_length=1, max_length=1000)]
    action_high: Annotated[tuple[Bound, ...], Field(min_length=1, max_length=1000)]
    action_repeat: Annotated[int, Field(ge=1, le=1000)]
    dt_s: Annotated[float, Field(gt=1e-6, le=3600)]
    max_episode_steps: Annotated[int, Field(ge=1, le=10**9)]
    signals: dict[Name, Signal] = field(default_factory=dict)
    twin: Twin | None = None

    def __post_init__(self) -> None:
        pairs = zip(self.action_low, self.action_high, strict=False)
        if len(self.action_low) != len(self.action_high) or not all(low < high for low, high in pairs):
            raise TaskError(
                f"actions of {self.id} from {self.action_low} to {self.action_high}: each needs a low below its high"
            )
        names = [view.name for view in self.views]
        if len(set(names)) < len(names) or len({view.height for view in self.views}) != 1:
            raise TaskError(f"views {self.views} of {self.id}: each needs a name of its own, and all the same height")
        if self.twin is not None and set(self.twin.cameras) != set(names):
            raise TaskError(f"{self.id} has views {names} and cameras {list(self.twin.cameras)}: give each its own")
        if taken := {"pixels", "actions", "physics", "text"} & set(self.signals):
            raise TaskError(f"no signal of {self.id} can be called {', '.join(sorted(taken))}: logs have these besides")
        for name, wanted in (("reward", REWARD), ("termination", TERMINATION), ("success", SUCCESS)):
            if self.signals.get(name, wanted) != wanted:
                raise TaskError(f"signal {name!r} of {self.id} is {self.signals[name]}, and must be {wanted}")
        state = self.signals.get("state")
        if state is not None and (len(state.shape), state.per) != (1, "frame"):
            raise TaskError(f"signal 'state' of {self.id} is {state}, and must be a vector for each frame")

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """``action_low`` and ``action_high`` as arrays, float32 (a,)."""
        return np.array(self.action_low, np.float32), np.array(self.action_high, np.float32)

    @property
    def height(self) -> int:
        """Of a frame, pixels: that of each view."""
        return self.views[0].height

    @property
    def width(self) -> int:
        """Of a frame, pixels: that of all views together."""
        return sum(view.width for view in self.views)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, 3) of a frame."""
        return self.height, self.width, 3

    @property
    def state_size(self) -> int:
        """Length of the true state that is logged; 0 where none is."""
        return self.signals["state"].shape[0] if "state" in self.signals else 0

    def require(self, who: str, *needed: str) -> None:
        """Refuse work that this task's log, or what is known of the task, cannot be given to.

        Args:
            who: what needs it. needed: names of signals, and ``twin``.

        Raises:
            TaskError: names what is missing, and what there is.
        """
        there = {*self.signals, *(("twin",) if self.twin else ())}
        if missing := [name for name in needed if name not in there]:
            raise TaskError(
                f"{who} needs {' and '.join(missing)}, and {self.id} has {', '.join(sorted(there)) or 'pixels alone'} "
                "beside its pixels and actions"
            )

    def split(self, frames: Frames) -> dict[str, Frames]:
        """(…, H, W, 3) frames, an array or a tensor, to what each view shows of them, (…, H, w, 3) by its name."""
        ends = np.cumsum([view.width for view in self.views]).tolist()
        return {
            view.name: frames[..., end - view.width : end, :]  # type: ignore[index]
            for view, end in zip(self.views, ends, strict=True)
        }

    def join(self, shown: Any) -> Any:
        """What environments show as pixels, an array or arrays by view, to (…, H, W, 3) frames."""
        if isinstance(shown, Mapping):
            return np.concatenate([shown[view.name] for view in self.views], axis=-2)
        return shown


def logged_signals(state_size: int) -> dict[str, Signal]:
    """All that is logged of a MuJoCo task: its true state, rewards and terminations."""
    return {"state": Signal((state_size,), "frame"), "reward": REWARD, "termination": TERMINATION}


def read_task(values: Any, where: str, advice: str, error: type[ProcosmError]) -> Task:
    """The task of JSON values that any version wrote; ``error`` says where they are wrong, ``advice`` what to do."""
    try:
        values = migrated(values)
    except TaskError as fault:
        raise error(f"{where}: {fault}; {advice}") from fault
    return checked(Task, values, where, advice, error)


def migrated(values: Any) -> Any:
    """A task as JSON, of this version or of those that knew one square view of a MuJoCo task, as this one writes it.

    Raises:
        TaskError: a key of the older version is missing.
    """
    if not isinstance(values, dict) or "views" in values or "frame_size" not in values:
        return values
    older = {"id", "frame_size", "state_size", "camera", "renderer", "version"}
    if missing := sorted(older - set(values)):
        raise TaskError(f"{', '.join(missing)} missing")
    kept = {key: value for key, value in values.items() if key not in older | {"env_kwargs"}}
    size, state_size = values["frame_size"], values["state_size"]
    state = {"shape": [state_size], "per": "frame"}
    number = {"shape": [], "per": "step"}
    twin = {
        "id": values["id"],
        "env_kwargs": values.get("env_kwargs", {}),
        "renderer": values["renderer"],
        "cameras": {MAIN: values["camera"]},
        "state_size": state_size,
        "version": values["version"],
    }
    return {
        "id": values["id"],
        "views": [{"name": MAIN, "height": size, "width": size}],
        **kept,
        "signals": {"state": state, "reward": number, "termination": number},
        "twin": twin,
    }
