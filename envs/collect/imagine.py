"""``procosm imagine``: rollouts of a world model as a dataset, by a policy or under actions that were logged."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from procosm.envs.collect.policies import Share, make_behaviour, parse_mixture
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.collect.run_policy import STACK, observation_of
from procosm.envs.dreams.observe import Observation, row
from procosm.envs.dreams.perceive import Eyes
from procosm.envs.dreams.reward import no_reward
from procosm.envs.dreams.world import WorldModelEnv
from procosm.world_model import checkpoint
from procosm.world_model.data.datasets import load_episodes
from procosm.world_model.data.episodes import FILES, Episode, write_dataset
from procosm.world_model.data.logs import held_out
from procosm.world_model.data.task import REWARD, TERMINATION, Signal, Task
from procosm.world_model.errors import TaskError
from procosm.world_model.folders import check_out
from procosm.world_model.model import WorldModel
from procosm.world_model.progress import Progress
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count, Device, Seed, Settings, SettingsError

STATE = "estimated_state"
"""The state as the model estimates it; nobody is to take it for the simulator's."""


@dataclass(frozen=True)
class ImagineConfig(Settings):
    """What to dream, and where to put it."""

    world_model: Path
    """Checkpoint folder (RUN/world_model)."""
    out: Path
    """Run folder; the dataset goes to OUT/data."""
    episodes: Count = 32
    """Dreams, at most."""
    steps: Count = 64
    """Of each dream, at most."""
    policy: str = "noise:0.7,random:0.3"
    """Who acts, as in procosm collect: noise, random, policy:PATH.zip, run:RUN; shares count episodes."""
    actions: Path | None = None
    """Dataset or shards: its held-out episodes are dreamed again under their logged actions, in place of --policy."""
    starts: Literal["task", "wide"] = "task"
    """Where dreams begin: the task's own reset, or windows spread over what was logged."""
    holdout: Annotated[float, Interval(ge=0, le=0.5)] = 0.1
    """Share of the dreams that is marked as held out."""
    seed: Seed = 0
    """Of dreams and actions."""
    trust_pickle: bool = False
    """Open policies that SB3 saved, too: their pickles run whatever code is in them."""
    device: Device = "auto"
    """Where dreams are computed: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(share.kind == "expert" for share in parse_mixture(self.policy)):
            raise SettingsError(f"--policy {self.policy}: a script sees the true state, which dreams have none of")


def imagine(config: ImagineConfig) -> Path:
    """Write dreams as a dataset, which ``procosm export`` turns into LeRobot or Minari; returns ``OUT/data``.

    Signals are what the model tells: ``reward``, ``termination``, ``estimated_state``. The task has no twin: no number
    of it is MuJoCo's.

    Raises:
        CheckpointError, DatasetError, TaskError: the model, the actions or the policy cannot be used.
    """
    check_out(config.out)
    check_out(config.out / "data", FILES.__contains__)
    model = checkpoint.load(config.world_model, config.device)
    if model.frames_per_step > 1:
        raise TaskError(f"a step of {config.world_model} is {model.frames_per_step} frames; dreams of one are recorded")
    task = imagined_task(model)
    rollouts = _replayed(config, model) if config.actions else _acted(config, model)
    origin = provenance({"imagine": config}) | {"imagined": True, "world_model": model.provenance}
    write_dataset(config.out / "data", task, ((each, None) for each in rollouts), origin, env_spec=None)
    return config.out / "data"


def imagined_task(model: WorldModel) -> Task:
    """The task of a model's dreams."""
    told = {"reward": REWARD, "termination": TERMINATION}
    signals = {name: signal for name, signal in told.items() if name in model.capabilities}
    if "state" in model.capabilities:
        signals[STATE] = Signal((model.task.state_size,), "frame")
    return replace(model.task, signals=signals, twin=None)


def _open(config: ImagineConfig, model: WorldModel, observation: tuple[str, ...]) -> WorldModelEnv:
    reward = None if "reward" in model.capabilities else no_reward  # asked for, and not logged
    return WorldModelEnv(model, observation, starts=config.starts, max_episode_steps=config.steps, reward=reward)


def _acted(config: ImagineConfig, model: WorldModel) -> Iterator[Episode]:
    """Dreams in which somebody of the mixture acts."""
    mixture = parse_mixture(config.policy)
    actors = [_Actor(share, model, config.trust_pickle) for share in mixture]
    envs = {kind: _open(config, model, (kind,)) for kind in {actor.kind for actor in actors}}
    apart = held_out([str(index) for index in range(config.episodes)], config.holdout)
    with Progress(config.episodes, "dreams", "dreams") as bar:
        for index in range(config.episodes):
            rng = np.random.default_rng((config.seed, index))
            actor = actors[rng.choice(len(actors), p=[share.share for share in mixture])]
            actor.begin(rng)
            env = envs[actor.kind]
            seen, info = env.reset(seed=int(rng.integers(2**31)))
            rollout = _Rollout(env, info)
            while not rollout.over:
                seen = rollout.step(actor.act(seen[actor.kind], rollout.frames[-1]))
            yield rollout.episode("holdout" if str(index) in apart else "train", config.starts == "wide")
            bar.update(1)


def _replayed(config: ImagineConfig, model: WorldModel) -> Iterator[Episode]:
    """Held-out episodes dreamed again: from their first frame, or, begun in motion, from the first that shows it."""
    assert config.actions is not None
    logged = [e for e in load_episodes(config.actions, frames_on_disk=True) if e.kind == "holdout"][: config.episodes]
    if not logged:
        raise TaskError(f"{config.actions} has no held-out episode whose actions could be taken")
    env = _open(config, model, ("pixels",))
    with Progress(len(logged), "dreams", "dreams") as bar:
        for index, episode in enumerate(logged):
            seen = model.dynamics.context if episode.wide and len(episode.actions) > model.dynamics.context else 1
            given: dict[str, Any] = {"frames": _by_view(model.task, episode.frames[:seen])}
            given["actions"] = episode.actions[: seen - 1]
            if model.takes_words:
                given["instruction"] = episode.text
            _, info = env.reset(seed=config.seed + index, options=given)
            rollout = _Rollout(env, info)
            for action in episode.actions[seen - 1 :]:
                if not rollout.over:
                    rollout.step(action)
            yield replace(rollout.episode("holdout", episode.wide), text=episode.text)
            bar.update(1)


def _by_view(task: Task, frames: np.ndarray) -> Any:
    return frames if len(task.views) == 1 else task.split(frames)


class _Rollout:
    """A dream as it is recorded."""

    def __init__(self, env: WorldModelEnv, info: dict[str, Any]) -> None:
        self.env, self.over, self.terminated = env, False, False
        self.text: str = info.get("instruction", "")
        self.frames, self.states = [env.dreams.frames()[0]], [info.get("state")]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []

    def step(self, action: np.ndarray) -> Any:
        """Act, write down what came of it, and show it."""
        action = np.clip(action, *self.env.task.bounds).astype(np.float32)
        seen, reward, self.terminated, truncated, info = self.env.step(action)
        self.actions.append(action)
        self.rewards.append(reward)
        self.frames.append(self.env.dreams.frames()[0])
        self.states.append(info.get("state"))
        self.over = self.terminated or truncated
        return seen

    def episode(self, kind: str, wide: bool) -> Episode:
        """What was recorded, with the signals that the model tells and the words that it was told."""
        model, signals = self.env.dreams.model, dict[str, np.ndarray]()
        if "reward" in model.capabilities:
            signals["reward"] = np.array(self.rewards, np.float32)
        if "state" in model.capabilities:
            signals[STATE] = np.array(self.states, np.float32)
        return Episode(np.stack(self.frames), np.stack(self.actions), self.terminated, kind, wide, signals, self.text)


class _Actor:
    """One of a mixture in a dream; ``kind`` is the observation that it wants.

    Raises:
        TaskError: a policy of another task.
    """

    def __init__(self, share: Share, model: WorldModel, trust_pickle: bool) -> None:
        self.kind, self._policy, self._first = "pixels", None, True
        if share.kind not in ("policy", "run"):
            self._behaviour = make_behaviour(share, model.task)
            return
        self._policy = load_policy(share.policy, trust_pickle)
        shape, actions = self._policy.observation_space.shape, self._policy.action_space.shape
        if actions != (len(model.task.action_low),):
            raise TaskError(
                f"policy {share.path} gives actions {actions}, which does not fit {model.task.id}: take one that was "
                "trained in this world model"
            )
        self.kind = observation_of(shape, model)
        self._eyes = Eyes(model, Observation.parse("pixels"), 1, STACK)

    def begin(self, rng: np.random.Generator) -> None:
        """A new dream."""
        self._first = True
        if self._policy is None:
            self._behaviour.begin(rng)

    def act(self, seen: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """(a,): without exploration, as a policy is judged."""
        if self._policy is None:
            return self._behaviour.act(np.zeros(0), lambda: frame)
        if self.kind == "pixels":
            stacked, self._first = self._eyes.see(np.zeros(1, np.int64), frame[None], self._first), False
            seen = row(stacked, 0)  # type: ignore[assignment]  # one kind is shown
        action: np.ndarray = self._policy.predict(seen, deterministic=True)[0]
        return action
