"""Collects one part of a dataset: a fixed number of real steps, the same whoever collects it and whenever.

A part's every draw comes from (seed, kind, part, episode), so parts can be collected in any order by any number of
processes. A part's file names its job, and is written only into that job's folder.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict
from typing_extensions import TypedDict

from procosm.envs.collect.part_file import SIGNAL, job_of, read_arrays
from procosm.envs.collect.policies import Behaviour, Constant, Share, make_behaviour
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.probe import Probe, probe
from procosm.envs.truth.starts import wide_start
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.task import Task, migrated
from procosm.world_model.errors import CheckpointError, DatasetError, ProcosmError
from procosm.world_model.files import read_json, write_bytes
from procosm.world_model.schema import checked

KINDS = ("train", "holdout", "constant")
CONSTANT_STEPS = 16
HELD_OUT_STEPS = 64  # held-out episodes run on where others are cut: the dream is compared with them over long horizons
JOB_FILE = "job.json"
AGAIN = "restore it, or collect into another folder"


@dataclass(frozen=True)
class Part:
    """``steps`` real steps of one ``kind``, the ``number``-th such part, by these ``behaviours`` of the mixture."""

    kind: str
    number: int
    steps: int
    behaviours: tuple[int, ...]

    @property
    def name(self) -> str:
        """What its file is called, without the suffix."""
        return f"{self.kind}-{self.number:05d}"


@dataclass(frozen=True)
class Job:
    """All that decides what is collected: everything a worker needs to know.

    Attributes:
        task: what the episodes are collected on.
        mixture: the behaviours and their shares.
        seed: of every draw.
        segment: steps after which an episode of noise is cut (a held-out one not before 64); 0: never.
        wide: share of episodes from wide starts.
        parts: what to collect.
        policies: sha256 of each saved policy's file, by path.
        versions: of the packages that decide the data.
    """

    task: Task
    mixture: tuple[Share, ...]
    seed: int
    segment: int
    wide: float
    parts: tuple[Part, ...]
    policies: dict[str, str]
    versions: dict[str, str]

    def to_json(self) -> str:
        """JSON text, the same for the same job."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"

    @property
    def id(self) -> str:
        """A digest of all that decides what is collected."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    @property
    def content(self) -> dict:
        """JSON values, the same for the same job wherever its policies lie."""
        return by_content(json.loads(self.to_json()), "this job")

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job that :meth:`to_json` wrote."""
        return checked(cls, json.loads(text), "the job of a worker", AGAIN)


def read_job(folder: Path) -> Job:
    """The job that a folder of parts is of.

    Raises:
        CheckpointError: its file is missing or damaged.
    """
    path = folder / JOB_FILE
    advice = f"delete {folder} and run the same command again"
    values = read_json(path, advice)
    try:
        values = with_migrated_task(values)
    except ProcosmError as fault:
        raise CheckpointError(f"{path} is damaged ({fault}): {advice}") from fault
    return checked(Job, values, str(path), advice)


def with_migrated_task(job: Any) -> Any:
    """JSON values of a job that any version wrote, its task as this one writes it."""
    return job | {"task": migrated(job["task"])} if isinstance(job, dict) and "task" in job else job


class _Actors(TypedDict):
    __pydantic_config__ = ConfigDict(strict=True, extra="allow")  # type: ignore[misc]
    mixture: list[Share]
    policies: dict[str, str]


def by_content(job: Any, where: str) -> dict[str, Any]:
    """JSON values of a job of any version, its policies named by the sha256 of their files instead of their paths.

    Raises:
        DatasetError, TaskError: the values, which stand in ``where``, are none of a job.
    """
    checked(_Actors, job, where, AGAIN, DatasetError)
    job = with_migrated_task(job)
    policies = job["policies"]
    mixture = [share | {"path": policies.get(share["path"], share["path"])} for share in job["mixture"]]
    return {key: value for key, value in job.items() if key != "policies"} | {"mixture": mixture}


class Collector:
    """Collects the parts of one job, one after the other, in one environment."""

    def __init__(self, job: Job, trust_pickle: bool = False) -> None:
        self._job = job
        self._env = MujocoEnv.from_task(job.task)
        assert job.task.twin is not None  # what is collected is simulated
        self._seen: Probe = probe(job.task.twin.id, job.task.twin.env_kwargs)
        self._behaviours = [make_behaviour(share, job.task, trust_pickle) for share in job.mixture]
        self._constant = Constant(job.task)

    def episodes(self, part: Part) -> Iterator[tuple[Episode, np.ndarray | None]]:
        """The episodes of one part, each with its physics states; the last one is cut where the steps are used up."""
        left, index = part.steps, 0
        while left > 0:
            rng = np.random.default_rng([self._job.seed, KINDS.index(part.kind), part.number, index])
            episode, physics = self._episode(part, rng, left)
            left -= len(episode.actions)
            index += 1
            yield episode, physics

    def close(self) -> None:
        """Free the environment."""
        self._env.close()

    def _choose(self, part: Part, rng: np.random.Generator) -> tuple[Behaviour, int]:
        """A behaviour and the most steps its episode may last."""
        job = self._job
        if part.kind == "constant":
            return self._constant, CONSTANT_STEPS
        shares = np.array([job.mixture[i].share for i in part.behaviours])
        which = part.behaviours[rng.choice(len(shares), p=shares / shares.sum())]
        # A saved policy shows what it reaches late in an episode too, so it is not cut short.
        free = bool(job.mixture[which].path) or job.mixture[which].kind == "expert" or not job.segment
        cut = max(job.segment, HELD_OUT_STEPS) if part.kind == "holdout" else job.segment
        return self._behaviours[which], job.task.max_episode_steps if free else min(cut, job.task.max_episode_steps)

    def _episode(self, part: Part, rng: np.random.Generator, left: int) -> tuple[Episode, np.ndarray | None]:
        env = self._env
        behaviour, limit = self._choose(part, rng)
        observation, info = env.reset(seed=int(rng.integers(2**31)))
        physics = None
        if rng.random() < self._job.wide:
            physics = wide_start(env, self._seen, rng)
            if physics is not None:
                observation, info = env.reset(options={"physics": physics})
            else:
                observation, info = env.reset()
        behaviour.begin(rng)
        task = self._job.task
        frames, states, physics_states = [task.join(observation)], [info["state"]], [info["physics"]]
        actions: list[np.ndarray] = []
        rewards, successes, terminated, truncated = [], [], False, False
        while len(actions) < min(limit, left) and not (terminated or truncated):
            action = behaviour.act(states[-1], lambda: frames[-1])
            action = np.clip(action, env.action_space.low, env.action_space.high)
            observation, reward, terminated, truncated, info = env.step(action)
            frames.append(task.join(observation))
            states.append(info["state"])
            physics_states.append(info["physics"])
            actions.append(action)
            rewards.append(reward)
            successes.append(info.get("success", False))
        told = {"reward": np.array(rewards, np.float32), "success": np.array(successes, np.float32)}
        seen = {"state": np.stack(states), **told}
        logged = task.signals
        episode = Episode(
            np.stack(frames),
            np.stack(actions),
            terminated and "termination" in logged,
            part.kind,
            wide=physics is not None,
            signals={name: values for name, values in seen.items() if name in logged},
            text=info.get("instruction", ""),
        )
        return episode, np.stack(physics_states) if "state" in logged else None


def write_part(folder: Path, job: Job, part: Part, episodes: list[tuple[Episode, np.ndarray | None]]) -> None:
    """Write one part's file, whole or not at all.

    Raises:
        DatasetError: the disk did not take it, or the folder is another job's by now.
    """
    if not (folder / JOB_FILE).exists() or read_job(folder).id != job.id:
        raise DatasetError(f"{folder} was deleted or given to another collection while {part.name} was collected")
    buffer = io.BytesIO()
    logged = [name for name in job.task.signals if name != "termination"]
    arrays: dict[str, Any] = {
        f"{SIGNAL}{name}": np.concatenate([episode.signals[name] for episode, _ in episodes]) for name in logged
    }
    if physics := [states for _, states in episodes if states is not None]:
        arrays["physics"] = np.concatenate(physics)
    if any(texts := [episode.text for episode, _ in episodes]):
        arrays["texts"] = np.array(texts)
    np.savez(
        buffer,
        job=np.array(job.id),
        frames=np.concatenate([episode.frames for episode, _ in episodes]),
        actions=np.concatenate([episode.actions for episode, _ in episodes]),
        lengths=np.array([len(episode.actions) for episode, _ in episodes]),
        terminated=np.array([episode.terminated for episode, _ in episodes]),
        wide=np.array([episode.wide for episode, _ in episodes]),
        **arrays,
    )
    try:
        write_bytes(folder / f"{part.name}.npz", buffer.getvalue())
    except ProcosmError as error:
        raise DatasetError(f"{error}. The parts collected before are kept") from error


def is_collected(folder: Path, job: Job, part: Part) -> bool:
    """Whether a part of this job lies there; what an older version or another job left does not count.

    Raises:
        DatasetError: the file is damaged.
    """
    path = folder / f"{part.name}.npz"
    return path.exists() and job_of(path) == job.id


def read_part(folder: Path, job: Job, part: Part) -> Iterator[tuple[Episode, np.ndarray | None]]:
    """The episodes of one part's file, each with its physics states.

    Raises:
        DatasetError: the file is missing, damaged or another job's.
    """
    path = folder / f"{part.name}.npz"
    if job_of(path) != job.id:
        raise DatasetError(f"{path} was put there by another collection: run the same command again")
    arrays = read_arrays(path, part.steps, job.task)
    logged = {name: signal for name, signal in job.task.signals.items() if name != "termination"}
    first_frame = first_step = 0
    texts = arrays.get("texts", np.full(len(arrays["lengths"]), ""))
    each = arrays["lengths"], arrays["terminated"], arrays["wide"], texts
    for length, terminated, wide, text in zip(*each, strict=True):
        moments, steps = slice(first_frame, first_frame + length + 1), slice(first_step, first_step + length)
        episode = Episode(
            arrays["frames"][moments],
            arrays["actions"][steps],
            bool(terminated),
            part.kind,
            bool(wide),
            {name: arrays[f"{SIGNAL}{name}"][moments if s.per == "frame" else steps] for name, s in logged.items()},
            str(text),
        )
        yield episode, arrays["physics"][moments] if "physics" in arrays else None
        first_frame, first_step = moments.stop, steps.stop
