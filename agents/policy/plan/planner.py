"""A planner as a policy: ``predict`` as Stable-Baselines3's policies have it, so that what plays them plays it.

It sees latents. A file of settings, ``plan.json``, stands for it where a policy's zip may stand (``procosm evaluate
--policy``, ``procosm play --policy``); the world model is that of the run it is played in.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import torch
from annotated_types import Ge, Interval

from procosm.agents.policy.plan.dreamed import Act, Moment, Value
from procosm.agents.policy.plan.search import Bounds, Found, coloured, icem, mppi, random_shooting, shifted
from procosm.agents.policy.worlds import reward_scale
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.collect.run_policy import observation_of
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.files import read_json, write_json
from procosm.world_model.interface import Condition
from procosm.world_model.schema import read_file
from procosm.world_model.settings import Count, Positive, Seed, Settings, SettingsError, Share

State = tuple[np.ndarray, ...]
"""What a planner remembers of n episodes: the rest of the plan (n, h, a), of the elites (n, e, h, a), and what was
done, (n, context - 1, a), NaN before the first step."""


@dataclass(frozen=True)
class PlanConfig(Settings):
    """How actions are chosen by the dream."""

    method: Literal["icem", "mppi", "random", "best-of"] = "icem"
    """Search: iCEM, MPPI, uniformly drawn plans, or the best of what a policy would do with some noise."""
    horizon: Count = 12
    """Steps of a plan."""
    candidates: Count = 64
    """Plans that are tried in an iteration."""
    iterations: Count = 3
    """Of the search; random draws as many plans as all of them together."""
    elites: Count = 8
    """iCEM: the best plans of an iteration, which the next one is drawn around."""
    std: Positive = 0.5
    """Deviation of the first plans, as a share of half the action range."""
    beta: Annotated[float, Interval(ge=0, le=10)] = 2.0
    """Colour of the noise: 0 is white, the greater the smoother."""
    temperature: Positive = 0.3
    """MPPI: how much better than others a plan must be to count more, in deviations of their returns."""
    gamma: Share = 0.99
    """Discount of each step."""
    policy: Path | None = None
    """Policy (zip of ours) whose actions the plans are drawn around; it sees state, features or latents."""
    value: bool = False
    """Add what the policy's critic (PPO's) expects after the last step."""
    seed: Annotated[Seed, Ge(0)] = 0
    """Of the noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy is None and (self.value or self.method == "best-of"):
            raise SettingsError("--value and --method best-of need a --policy")
        if self.method == "icem" and 2 * self.elites > self.candidates:
            raise SettingsError(f"--elites {self.elites} must be at most half of --candidates {self.candidates}")


class Planner:
    """Plans anew at every step, in the dream, and does the first action of the plan.

    Attributes:
        observation_space: latents (context, c, h, w). action_space: the task's.
    """

    def __init__(self, model: WorldModel, config: PlanConfig, value: Value | None = None) -> None:
        """A planner in a world model.

        Args:
            value: of what comes after the last step, in place of the critic of ``config.policy``.

        Raises:
            TaskError: the model tells no rewards, or the policy does not fit it.
        """
        self.config, self._model = config, model
        low, high = model.task.bounds
        self.bounds = Bounds(low, high)
        self.action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, tuple(model.starts.shape[1:]), np.float32)
        self._act: Act | None = None
        self._observation, self._value = "latent", value
        if config.policy is not None:
            self._take_policy(config.policy)
        self._rng = np.random.default_rng(config.seed)

    @property
    def takes_words(self) -> bool:
        """Whether plans are for what was asked for in words."""
        return self._model.takes_words

    def _take_policy(self, path: Path) -> None:
        policy = load_policy(path)
        self._observation = observation_of(policy.observation_space.shape, self._model)
        actions = policy.action_space.shape
        if actions != self.action_space.shape:
            raise TaskError(
                f"{path} gives actions of shape {actions}, and {self._model.task.id} takes {self.action_space.shape}: "
                "give a policy that was trained in this world model"
            )
        if self._observation == "pixels":
            raise TaskError(f"{path} sees pixels, which plans have none of: give a policy of state, features or latent")
        self._act = lambda seen: policy.predict(seen, deterministic=True)[0]
        if self.config.value and self._value is None:
            scale = reward_scale(self._model, self.config.gamma)  # its rewards were multiplied by it

            def critic(seen: np.ndarray) -> np.ndarray:
                with torch.no_grad():
                    return policy.predict_values(torch.from_numpy(seen))[:, 0].double().numpy() / scale  # type: ignore[operator]

            if not hasattr(policy, "predict_values"):
                raise TaskError(f"{path} has no critic of states: give PPO's, or leave out --value")
            self._value = critic

    def predict(
        self,
        observation: np.ndarray,
        state: State | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        said: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, State]:
        """Choose actions.

        Args:
            observation: (n, context, c, h, w) latents, newest last; or those of one episode.
            state: what was returned at the step before; without it each plan begins anew, and what was done is unknown.
            episode_start: (n,) whether an episode begins, so that its state is forgotten.
            deterministic: as SB3 has it; plans are what they are.
            said: n texts, what dreams are told in words, of models that take some; None tells nothing.

        Returns:
            (n, a) actions, or those of one episode, and the state for the next step.
        """
        batched = observation.ndim == len(self.observation_space.shape or ()) + 1
        latents = torch.from_numpy(np.asarray(observation if batched else observation[None], np.float32))
        rest, elites, past = self._remembered(len(latents), state, episode_start)
        there = latents.to(self._model.starts.device, self._model.starts.dtype)
        text = self._model.embed_text(said) if said and self._model.takes_words else None
        memory = self._model.begin(there, Condition(torch.from_numpy(past).to(there.device), text))
        moment = Moment(self._model, there, memory, self.config.gamma, self._observation, self._value)
        found = self._search(moment, rest, None if np.isnan(elites).any() else elites)
        action = found.best[:, 0]
        after = (
            shifted(found.best),
            shifted(found.elites),
            np.concatenate([past, action[:, None]], axis=1)[:, 1:],
        )
        return (action if batched else action[0]), after

    def _remembered(self, n: int, state: State | None, episode_start: np.ndarray | None) -> State:
        size, context = len(self.bounds.low), self._model.starts.shape[1]
        middle = 0.5 * (self.bounds.low + self.bounds.high)
        rest = np.broadcast_to(middle, (n, self.config.horizon, size)).astype(np.float32)
        past = np.full((n, context - 1, size), np.nan, np.float32)
        if state is None:
            return rest, np.full((n, 1, *rest.shape[1:]), np.nan, np.float32), past
        fresh = np.zeros(n, bool) if episode_start is None else np.asarray(episode_start, bool)
        rest = np.where(fresh[:, None, None], rest, state[0])
        elites = np.where(fresh[:, None, None, None], rest[:, None], state[1])
        return rest, elites, np.where(fresh[:, None, None], past, state[2])

    def _search(self, moment: Moment, mean: np.ndarray, kept: np.ndarray | None) -> Found:
        config, rng = self.config, self._rng
        if self._act is not None:
            done, _ = moment.rolled(self._act, np.zeros_like(mean)[:, None], self.bounds.clip)
            mean = done[:, 0]
        common: dict[str, Any] = {"candidates": config.candidates, "iterations": config.iterations, "std": config.std}
        if config.method == "icem":
            return icem(
                moment.returns, mean, self.bounds, rng, **common, beta=config.beta, elites=config.elites, kept=kept
            )
        if config.method == "mppi":
            settings: dict[str, Any] = {"beta": config.beta, "temperature": config.temperature}
            return mppi(moment.returns, mean, self.bounds, rng, **common, **settings)
        if config.method == "random":
            tried = config.candidates * config.iterations
            return random_shooting(moment.returns, mean, self.bounds, rng, candidates=tried)
        return self._best_of(moment, mean)

    def _best_of(self, moment: Moment, mean: np.ndarray) -> Found:
        """What the policy would do, with the noise that the dream pays most; none is among the candidates."""
        assert self._act is not None  # the settings ask for a policy
        shape = (len(mean), self.config.candidates, *mean.shape[1:])
        noise = self.config.std * self.bounds.half * coloured(self._rng, shape, self.config.beta)
        noise[:, 0] = 0.0
        done, returns = moment.rolled(self._act, noise, self.bounds.clip)
        index = returns.argmax(1)
        best = done[np.arange(len(index)), index]
        return Found(best, returns.max(1), best, best[:, None])


def save_plan(config: PlanConfig, path: Path) -> Path:
    """Write a planner's settings; its policy is named by a path from the root.

    Raises:
        ProcosmError: there is a file that holds no planner's settings, or it cannot be written.
    """
    if path.exists() and not _holds_settings(path):
        raise SettingsError(f"--out {path}: that file holds no planner's settings: give another name, or delete it")
    values = asdict(config) | {"policy": str(config.policy.absolute()) if config.policy else None}
    write_json(path, values)
    return path


def _holds_settings(path: Path) -> bool:
    """Whether a file is of ``save_plan``, also of another version, whose settings were others."""
    try:
        found = read_json(path)
    except ProcosmError:
        return False
    return isinstance(found, dict) and {"method", "horizon", "candidates"} <= found.keys()


def load_planner(path: Path, model: WorldModel, episode: int = 0) -> Planner:
    """The planner of a file of settings, in a world model; each ``episode`` has noise of its own.

    Raises:
        CheckpointError: the file is missing or damaged.
        SettingsError, TaskError: settings that cannot be, or do not fit.
    """
    config: PlanConfig = read_file(PlanConfig, path, "write it again with `procosm plan`")
    return Planner(model, replace(config, seed=(config.seed + episode) % 2**32))
