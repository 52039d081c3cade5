"""Real experience: a behaviour mixture in a truth env, by several processes, into a Minari dataset on disk."""

import importlib.metadata
import json
import logging
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import gymnasium as gym
import numpy as np
from annotated_types import Ge, Interval
from tyro.conf import UseAppendAction

from procosm.envs.collect.policies import Share, make_behaviour, parse_mixture
from procosm.envs.collect.segments import (
    CONSTANT_STEPS,
    JOB_FILE,
    KINDS,
    Job,
    Part,
    by_content,
    is_collected,
    read_job,
    read_part,
)
from procosm.envs.collect.workers import run_parts
from procosm.envs.dreams.arguments import frame_sides
from procosm.envs.truth.model_camera import parse_cameras
from procosm.envs.truth.mujoco import MujocoEnv, settings_of
from procosm.envs.truth.names import resolve_name
from procosm.envs.truth.probe import STEPS, probe
from procosm.envs.truth.tasks import parse_kwargs
from procosm.world_model.data import episodes as dataset
from procosm.world_model.data.task import Task
from procosm.world_model.errors import DatasetError, ProcosmError, TaskError
from procosm.world_model.files import read_json, sha256, write_bytes
from procosm.world_model.folders import check_out, find, finish
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Processes, Seed, Settings

PART_STEPS = 500
CONSTANT_EPISODES = 32
SIGNALS: dict[str, tuple[str, ...]] = {
    "none": (),
    "reward": ("reward", "termination", "success"),
    "all": ("state", "reward", "termination", "success"),
}
"""Names of what is logged, by ``--signals``."""
SHORTEST, LONGEST = 40, 100
LEAST_STEPS = 100
LOOK_STEPS = 20
PARTS = re.compile(rf"{JOB_FILE}|({'|'.join(KINDS)})-\d+\.npz|worker-\d+\.log")
"""Names of what lies in a folder of parts; older versions left logs there."""


@dataclass(frozen=True)
class CollectConfig(Settings):
    """What to collect, and where to put it."""

    env: str
    """Gymnasium id (Reacher-v5, or module:Id of your own), path/to/task.py:make, dm_control/<domain>-<task>,
    fetch/<task>, metaworld/<task>, or a name of ours (Reacher)."""
    out: Path
    """Run folder; the dataset goes to OUT/data."""
    steps: Annotated[int, Interval(ge=LEAST_STEPS, le=10**8)] = 10000
    """Real steps in all, held-out ones included."""
    policy: str = "noise:0.7,random:0.3"
    """Behaviour and shares: noise (smooth), random (uniform), policy:PATH.zip ("policy:zoo/*.zip:0.6" is all of them),
    which sees the true state or the frame, run:RUN, the policy of a run, which sees through its world model, expert, a
    script, where the task has one. A policy has its share of the steps, the others share the rest by episodes."""
    frame_size: int | str = 64
    """Height and width of a view, pixels (32 to 256): 64 for both, or 64x96."""
    action_repeat: Annotated[int, Interval(ge=1, le=1000)] = 1
    """Control steps for each step."""
    seed: Seed = 0
    """The same settings and seed give the same data, with any number of processes."""
    processes: Processes = 2
    """Processes that collect."""
    segment: Annotated[int, Ge(0)] | None = None
    """Steps after which an episode of noise is cut, 0 for never. Default: 40 to 60 where noise soon ends an episode,
    else 100. Held-out episodes run to 64 at least, and a saved policy's to their end."""
    signals: Literal["none", "reward", "all"] = "all"
    """What is logged beside pixels and actions. none: nothing; reward: rewards, whether an episode ended for good and,
    where the task tells, succeeded; all: the true state too."""
    wide: Annotated[float, Interval(ge=0, le=1)] = 0.75
    """Share of episodes that start from states the task's own reset does not give; 0 takes its reset alone."""
    constant: Annotated[float, Interval(ge=0, lt=0.5)] = 0.05
    """Share of the steps for held-out episodes under one action throughout, which the growth test needs; 512 steps at
    most."""
    holdout: Annotated[float, Interval(gt=0, lt=0.5)] = 0.1
    """Share of the steps that is kept from training."""
    trust_pickle: bool = False
    """Open policies that SB3 saved, too: their pickles run whatever code is in them."""
    renderer: Literal["auto", "egl", "osmesa", "raycast"] = "auto"
    """What draws the frames; auto takes the first of the others that works here."""
    camera: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Name of a camera in the task's model, or a pose as JSON: {"lookat": [0, 0, 0.5], "azimuth": 90, "elevation": -20,
    "distance": 3}. Given more than once, or as NAME=CAMERA, each is a view of that name. Default: one is chosen, as it
    is for NAME= alone."""
    env_kwargs: str = ""
    """Keyword arguments of the task, as JSON: {"ctrl_cost_weight": 0.2}."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_cameras(self.camera)
        frame_sides(self.frame_size)
        parse_kwargs(self.env_kwargs)
        parse_mixture(self.policy)


def collect(config: CollectConfig) -> Path:
    """Collect a dataset; run again after a crash, it goes on where it was.

    Returns:
        The dataset's folder, OUT/data.

    Raises:
        TaskError: an unknown task, behaviour or option.
        DatasetError: OUT holds other data, or the disk does not take these.
    """
    check_outs(config)
    job = plan(config)
    data, folder = config.out / "data", config.out / "data.parts"
    if dataset.is_whole(data):
        finish(data)
        _same_job(data, job)
    else:
        _check_space(config.out, job)
        _claim(folder, job)
        missing = [part for part in job.parts if not is_collected(folder, job, part)]
        run_parts(folder, job, missing, config.processes, config.trust_pickle)
        origin = {**provenance({"collect": config}), "job": json.loads(job.to_json())}
        dataset.write_dataset(data, job.task, _assembled(folder, job), origin, _env_spec(job))
    shutil.rmtree(folder, ignore_errors=True)
    return data


def frame_sides_of(config: CollectConfig) -> tuple[int, int]:
    """Height and width of a frame, of all views together, pixels."""
    height, width = frame_sides(config.frame_size)
    return height, width * len(parse_cameras(config.camera))


def check_outs(config: CollectConfig) -> None:
    """Refuse, before the work, an ``out`` that a dataset cannot be written to.

    Raises:
        ProcosmError: it is no folder or cannot be written, or its data or data.parts are not of a dataset.
    """
    check_out(config.out)
    if (config.out / "config.json").exists() and any(config.out.glob("*.safetensors")):
        raise ProcosmError(f"{config.out} is a checkpoint's folder: give the folder of its run, or another")
    check_out(config.out / "data", dataset.FILES.__contains__)
    check_out(config.out / "data.parts", PARTS.fullmatch)  # in the end it is deleted


def check_behaviours(config: CollectConfig) -> None:
    """Refuse to go on with a dataset that others acted in than ``config.policy`` names, by their files' content.

    Raises:
        DatasetError: it is so.
    """
    path = find(config.out / "data", "provenance.json")
    origin = read_json(path) if path.exists() else None
    told = origin.get("job") if isinstance(origin, dict) else None
    if not isinstance(told, dict) or not {"mixture", "policies"} <= set(told):
        return
    there = by_content({key: told[key] for key in ("mixture", "policies")}, str(path))
    mixture = parse_mixture(config.policy)
    policies = {share.path: sha256(share.policy) for share in mixture if share.path}
    asked = by_content({"mixture": [asdict(share) for share in mixture], "policies": policies}, "--policy")
    if there != asked:
        raise DatasetError(f"{path.parent} was collected by others than --policy {config.policy}: give another --out")


def plan(config: CollectConfig) -> Job:
    """All that decides the data, from a config.

    Raises:
        TaskError: an unknown task, behaviour or option.
    """
    env = MujocoEnv(
        resolve_name(config.env),
        frame_size=config.frame_size,
        action_repeat=config.action_repeat,
        renderer=config.renderer,
        cameras=parse_cameras(config.camera),
        env_kwargs=parse_kwargs(config.env_kwargs),
    )
    logged = {name: signal for name, signal in env.task.signals.items() if name in SIGNALS[config.signals]}
    task = replace(env.task, signals=logged)
    wide = config.wide if env.simulator.reads_state else 0.0
    if wide < config.wide:
        logging.getLogger("procosm").warning(
            "%s cannot tell its state in a given physics state: no wide starts", task.id
        )
    _check_motion(env)
    env.close()
    mixture = parse_mixture(config.policy)
    for share in mixture:
        make_behaviour(share, task, config.trust_pickle)
    segment = _segment(task) if config.segment is None else config.segment
    segment = min(segment, task.max_episode_steps)
    longest = task.max_episode_steps if not segment or any(share.path for share in mixture) else segment
    packages = ("mujoco", "gymnasium", "numpy", "procosm")
    return Job(
        task=task,
        mixture=mixture,
        seed=config.seed,
        segment=segment,
        wide=wide,
        parts=_parts(config, max(PART_STEPS, longest), mixture),
        policies={share.path: sha256(share.policy) for share in mixture if share.path},
        versions={name: importlib.metadata.version(name) for name in packages},
    )


def _check_motion(env: MujocoEnv) -> None:
    """Refuse a camera in whose picture nothing ever moves."""
    frames = []
    for seed, action in enumerate((env.action_space.low, env.action_space.high)):
        frames.append(env.task.join(env.reset(seed=seed)[0]))
        for _ in range(LOOK_STEPS):
            observed, _, terminated, truncated, _ = env.step(action)
            frames.append(env.task.join(observed))
            if terminated or truncated:
                break
    for name, seen in env.task.split(np.stack(frames)).items():
        if (seen == seen[0]).all():
            raise TaskError(
                f"nothing moves in view {name} of {env.task.id}, whatever is done: give another camera than "
                f"{env.twin.cameras[name]}"
            )


def _segment(task: Task) -> int:
    """Steps after which an episode of noise is cut: noise learns nothing new late in an episode."""
    assert task.twin is not None  # what is collected is simulated
    seen = probe(task.twin.id, task.twin.env_kwargs)
    if not seen.ended:
        return LONGEST
    return int(np.clip(2 * np.median(seen.lengths) / task.action_repeat, SHORTEST, STEPS))


def _parts(config: CollectConfig, size: int, mixture: Sequence[Share]) -> tuple[Part, ...]:
    """Each saved policy has parts of its own: drawn episode by episode, its long ones would leave noise no steps."""
    steps = config.steps
    constant = min(CONSTANT_EPISODES * CONSTANT_STEPS, int(config.constant * steps))
    held = round(config.holdout * steps)
    noise = tuple(i for i, share in enumerate(mixture) if not share.path)
    groups = [noise] * bool(noise) + [(i,) for i, share in enumerate(mixture) if share.path]
    ends = np.cumsum([0.0] + [sum(mixture[i].share for i in group) for group in groups])

    def cut(first: int, last: int, group: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
        return [(min(size, last - at), group) for at in range(first, last, size)]

    def shared(total: int) -> list[tuple[int, tuple[int, ...]]]:
        at = np.rint(total * ends).astype(int).tolist()
        return [part for place in zip(at[:-1], at[1:], groups, strict=True) for part in cut(*place)]

    kinds = {"constant": cut(0, constant, ()), "holdout": shared(held), "train": shared(steps - held - constant)}
    return tuple(Part(kind, number, *part) for kind, parts in kinds.items() for number, part in enumerate(parts))


def _assembled(folder: Path, job: Job) -> Iterator:
    """Every episode with its physics, unless all frames turn out to be of one value."""
    shades: set[int] = set()
    for part in sorted(job.parts, key=lambda part: ("train", "holdout", "constant").index(part.kind)):
        for episode, physics in read_part(folder, job, part):
            if len(shades) < 2:
                shades |= {int(episode.frames.min()), int(episode.frames.max())}
            yield episode, physics
    if len(shades) < 2:
        raise DatasetError(
            f"every frame of {folder} is {min(shades, default=0)} all over, so there is nothing to learn: "
            f"delete {folder} and collect with another camera or renderer"
        )


def _claim(folder: Path, job: Job) -> None:
    """Make the parts folder, or go on with the one that is there if its parts are this job's."""
    path = folder / JOB_FILE
    begun = path.exists() and any(folder.glob("*.npz"))
    if begun and (there := read_job(folder).content) != job.content:
        raise DatasetError(
            f"{folder} holds an unfinished collection with other settings ({_difference(there, job)}). "
            "Finish it with its own settings, give another --out, or delete it"
        )
    try:
        write_bytes(path, job.to_json().encode())
    except ProcosmError as error:
        raise DatasetError(str(error)) from error


def _same_job(data: Path, job: Job) -> None:
    dataset.load_task(data)
    try:
        path = data / "provenance.json"
        stored = by_content(json.loads(path.read_text(encoding="utf-8"))["job"], str(path))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ProcosmError) as error:
        raise DatasetError(f"{data} does not say how it was collected ({error!r}): give another --out") from error
    if stored != job.content:
        raise DatasetError(
            f"{data} was collected with other settings ({_difference(stored, job)}): give another --out, or delete it"
        )


def _difference(there: dict, job: Job) -> str:
    here = job.content
    keys = [key for key in here if here[key] != there.get(key)]
    return "; ".join(f"{key}: {_short(there.get(key))} there, {_short(here[key])} here" for key in keys)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_space(out: Path, job: Job) -> None:
    place = out.resolve()
    there = next(path for path in (place, *place.parents) if path.exists())
    steps = sum(part.steps for part in job.parts)
    # Parts are kept whole until the dataset, a tenth of their size, is written.
    need = int(1.3 * steps * (math.prod(job.task.frame_shape) + 8 * job.task.state_size + 200))
    free = shutil.disk_usage(there).free
    if free < need:
        raise DatasetError(
            f"{out} needs {need / 1e6:.0f} MB for {steps} steps, and its disk has {free / 1e6:.0f} MB free: free "
            "some, give another --out, or collect fewer --steps"
        )


def _env_spec(job: Job) -> str:
    settings = settings_of(job.task)
    limit = settings.pop("max_episode_steps")
    shown = ["pixels", "state"] if "state" in job.task.signals else "pixels"
    return replace(
        gym.spec("Procosm/Truth-v0"), kwargs=settings | {"observation": shown}, max_episode_steps=limit
    ).to_json()
