"""Behaviour for collecting real experience: noise, saved SB3 policies, policies of runs, and mixtures of them."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from procosm.envs.collect.policy_file import load_policy
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError

SMOOTHEST = 0.95
KIND = re.compile(r"\s*(random|noise|expert|policy:|run:)")


class Behaviour(Protocol):
    """Chooses actions, one episode at a time."""

    def begin(self, rng: np.random.Generator) -> None:
        """A new episode starts; every draw of it comes from ``rng``."""

    def act(self, state: np.ndarray, render: Callable[[], np.ndarray]) -> np.ndarray:
        """float32 (a,), given the true state (s,) and a way to see the frame (H, W, 3)."""


@dataclass(frozen=True)
class Share:
    """One part of a mixture.

    Attributes:
        kind: ``random``, ``noise``, ``expert``, ``policy`` or ``run``. share: of the steps.
        path: the zip of a policy that sees the true state or the frame; the folder of a run, whose policy sees through
            the run's world model.
    """

    kind: str
    share: float
    path: str = ""

    @property
    def policy(self) -> Path:
        """The zip of whoever acts."""
        return policy_of_run(self.path) if self.kind == "run" else Path(self.path)


def policy_of_run(run: Path | str) -> Path:
    """Where the policy of a run lies."""
    return Path(run) / "policy" / "policy.zip"


def parse_mixture(text: str) -> tuple[Share, ...]:
    """Reads ``noise:0.7,random:0.3``, ``policy:zoo/a.zip:0.5,noise:0.5`` or ``run:runs/a:0.5,noise:0.5``; shares are
    scaled to sum to 1. The files of ``policy:zoo/*.zip:0.5``, or the runs of a pattern, divide its share among them.

    Raises:
        TaskError: it cannot be read so, or a policy's file is missing.
    """
    parts, shares = text.split(","), list[Share]()
    while parts:
        # A path may hold commas, colons and brackets: the longest text that names a file counts.
        taken = next((n for n in range(len(parts), 1, -1) if _literal(",".join(parts[:n]))), None)
        if taken is None:  # a pattern may hold commas too; it ends where a behaviour begins
            taken = next((n for n in range(1, len(parts)) if KIND.match(parts[n])), len(parts))
        shares += _parse_shares(",".join(parts[:taken]).strip())
        parts = parts[taken:]
    total = sum(share.share for share in shares)
    return tuple(Share(share.kind, share.share / total, share.path) for share in shares)


def _literal(item: str) -> tuple[str, str] | None:
    """The path and share of a policy or run whose path is there as it stands; the share may be left out."""
    kind, _, rest = item.strip().partition(":")
    path, _, number = rest.rpartition(":")
    return next(((p, n) for p, n in ((rest, ""), (path, number)) if p and _acts(kind, p)), None)


def _acts(kind: str, path: str) -> bool:
    """Whether there is a policy at a path, of this kind."""
    return (kind == "policy" and Path(path).is_file()) or (kind == "run" and policy_of_run(path).is_file())


def _parse_shares(item: str) -> list[Share]:
    kind, _, rest = item.partition(":")
    path, number = "", rest
    if kind in ("policy", "run"):
        path, _, number = rest.rpartition(":")
        if number.endswith(".zip") or not path:
            path, number = rest, ""
        path, number = _literal(item) or (path, number)
    try:
        share = float(number or 1.0)
    except ValueError:
        share = -1.0
    known = kind in ("policy", "run") if path else kind in ("random", "noise", "expert")
    if not known or not 0 < share < math.inf:
        raise TaskError(
            f"behaviour {item!r} is not of the form random:0.3, noise:0.7, expert:0.5, policy:PATH.zip:0.5 or run:RUN"
        )
    paths = [path] if not path or _acts(kind, path) else [each for each in _matching(path) if _acts(kind, each)]
    if not paths:
        missing = f"file {path}" if kind == "policy" else f"run {path} with a policy (policy/policy.zip)"
        raise TaskError(f"behaviour {item!r}: there is no {missing}")
    return [Share(kind, share / len(paths), each) for each in paths]


def _matching(pattern: str) -> list[str]:
    """The paths that a pattern matches; a part of it that exists as it stands is no pattern."""
    first, *rest = Path(pattern).parts
    found = [Path(first)] if Path(pattern).is_absolute() else [Path()]
    for part in rest if Path(pattern).is_absolute() else (first, *rest):
        found = [
            each for base in found for each in ([base / part] if (base / part).exists() else sorted(base.glob(part)))
        ]
    return sorted({str(path) for path in found})


def make_behaviour(share: Share, task: Task, trust_pickle: bool = False) -> Behaviour:
    """The behaviour that ``share`` names, for ``task``.

    Raises:
        TaskError: the saved policy is for other observations or actions, or a pickle that is not trusted.
    """
    if share.kind == "policy":
        return SavedPolicy(share.path, task, trust_pickle)
    if share.kind == "run":
        from procosm.envs.collect.run_policy import RunPolicy  # brings a world model, which noise does not need

        return RunPolicy(Path(share.path), task)
    if share.kind == "expert":
        from procosm.envs.collect.experts import Expert  # they add smooth noise of this module

        return Expert(task)
    return Smooth(task) if share.kind == "noise" else Uniform(task)


class Uniform:
    """Every action drawn anew, uniformly within its bounds."""

    def __init__(self, task: Task) -> None:
        self._low, self._high = task.bounds

    def begin(self, rng: np.random.Generator) -> None:
        """Keep the episode's generator."""
        self._rng = rng

    def act(self, state: np.ndarray, render: Callable[[], np.ndarray]) -> np.ndarray:
        """A fresh draw."""
        return self._rng.uniform(self._low, self._high).astype(np.float32)


class Smooth:
    """First-order autoregressive noise x' = r x + √(1 − r²) ε round the middle of the bounds, clipped to them.

    Each episode draws how smooth (r from 0 to 0.95) and how strong (0 to 1 half ranges, more often weak) it is: slow
    pushes reach states that white noise averages away, and weak ones resemble what a good policy does.
    """

    def __init__(self, task: Task) -> None:
        low, high = np.array(task.action_low, np.float64), np.array(task.action_high, np.float64)
        self._middle, self._half = 0.5 * (low + high), 0.5 * (high - low)

    def begin(self, rng: np.random.Generator) -> None:
        """Draw the episode's smoothness and strength."""
        self._rng = rng
        self._smooth = rng.uniform(0.0, SMOOTHEST)
        self._scale = rng.uniform() ** 2
        self._noise = rng.standard_normal(self._middle.shape)

    def away(self) -> np.ndarray:
        """The noise's next value, (a,) float64 about the middle of the bounds."""
        fresh = self._rng.standard_normal(self._noise.shape)
        self._noise = self._smooth * self._noise + np.sqrt(1 - self._smooth**2) * fresh
        return self._half * np.clip(self._scale * self._noise, -1, 1)

    def act(self, state: np.ndarray, render: Callable[[], np.ndarray]) -> np.ndarray:
        """The noise's next value, as an action."""
        return (self._middle + self.away()).astype(np.float32)


class Constant:
    """One action throughout an episode; every third episode takes the middle of the bounds ("no action")."""

    def __init__(self, task: Task) -> None:
        self._low, self._high = task.bounds

    def begin(self, rng: np.random.Generator) -> None:
        """Draw the episode's action."""
        drawn = rng.uniform(self._low, self._high).astype(np.float32)
        self._action = drawn if rng.random() > 1 / 3 else 0.5 * (self._low + self._high)

    def act(self, state: np.ndarray, render: Callable[[], np.ndarray]) -> np.ndarray:
        """The episode's action."""
        return self._action


class SavedPolicy:
    """A policy from its zip, acting with its own exploration; it sees the true state or the frame."""

    def __init__(self, path: str, task: Task, trust_pickle: bool = False) -> None:
        self._model = load_policy(path, trust_pickle)
        shape = self._model.observation_space.shape
        height, width, colours = task.frame_shape
        channels_first = (colours, height, width)
        states = () if task.twin is None else (task.twin.state_size,)
        self._sees_frames = shape in (task.frame_shape, channels_first)
        if not self._sees_frames and shape != states:
            raise TaskError(
                f"policy {path} observes {shape}, but {task.id} has states of shape {states} and frames of "
                f"shape {task.frame_shape}: take a policy that was trained on one of these"
            )
        if self._model.action_space.shape != (len(task.action_low),):
            raise TaskError(
                f"policy {path} gives actions of shape {self._model.action_space.shape}, but {task.id} takes "
                f"({len(task.action_low)},): take a policy trained on this task"
            )
        self._channels_first = shape == channels_first

    def begin(self, rng: np.random.Generator) -> None:
        """Draw the episode's seed of torch, which SB3 samples from."""
        import torch

        self._draws = torch.Generator().manual_seed(int(rng.integers(2**31))).get_state()

    def act(self, state: np.ndarray, render: Callable[[], np.ndarray]) -> np.ndarray:
        """A sample of the policy; torch's global generator, which is the caller's, stays as it was."""
        import torch

        seen = render() if self._sees_frames else state
        seen = seen.transpose(2, 0, 1) if self._channels_first else seen
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._draws)
            action = self._model.predict(seen, deterministic=False)[0].astype(np.float32)
            self._draws = torch.get_rng_state()
        return action
