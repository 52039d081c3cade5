"""The arms of `transfer`: one function each, from a run's data and world model to returns in MuJoCo.

All arms but ``online_*`` see what a dream-trained policy sees: the world model's estimate of the state from frames.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import Tensor

from procosm.agents.judge.evaluate import JUDGING_SEED
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Rows, Truth, play
from procosm.agents.judge.rollouts import Player, opened, play_truth
from procosm.agents.policy.learners import new_learner
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import ScaledReward, dreams, reward_scale, truth
from procosm.agents.stages import record_path
from procosm.envs.collect.policy_file import save_learner
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.data.windows import context_index, tabulate
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_json, read_tensors, write_tensors

Algorithm = Literal["ppo", "sac"]
BATCH = 256
"""Transitions in a gradient step of cloning and of offline SAC."""
BEST_SHARE = 0.1
"""Of the episodes, whose actions ``cloned_best`` learns."""
MODEL_FREE_WIDTH = 64
"""Of each of the two hidden layers of model-free actors and critics, as in the panel of `ranking`."""
TRUTH_SLOTS = 50


@dataclass(frozen=True)
class Practice:
    """How much each arm of a task learns and is judged."""

    algorithm: Algorithm
    """Of the policy in the dream, with the settings of ``make bench``."""
    dreams: int
    """Dreams side by side."""
    iterations: int
    """Iterations in the dream."""
    gamma: float
    """Discount, of every arm that learns values."""
    episodes: int
    """MuJoCo episodes that judge a policy."""
    shares: tuple[float, ...]
    """Where online learners are judged, in units of the run's collected steps; SAC, which takes a gradient step for
    each real one, up to 1."""
    gradient_steps: int = 6000
    """Of offline SAC."""
    clone_steps: int = 2000
    """Gradient steps of cloning."""


@dataclass(frozen=True)
class Desk:
    """All that an arm needs.

    Attributes:
        run: folder with data/ and world_model/. own: whether the run's own seed is ``seed``.
        out: where the arm's policies go. seed: of weights, exploration and batches. practice: how much is learned.
    """

    run: Path
    own: bool
    out: Path
    seed: int
    practice: Practice

    def settings(self, **changes: Any) -> PolicyConfig:
        """The dream's training, or that of another arm by ``changes``."""
        p = self.practice
        base = PolicyConfig(self.run / "world_model", self.out, p.algorithm, seed=self.seed, truth_every=0)
        return replace(base, dreams=p.dreams, iterations=p.iterations, gamma=p.gamma, **changes)

    def seeds(self) -> list[int]:
        """Seeds of the episodes that judge, the same for all arms and for `procosm evaluate`."""
        return list(range(JUDGING_SEED, JUDGING_SEED + self.practice.episodes))

    def point(self, path: Path, algorithm: str, cpu_seconds: float | None) -> "Point":
        """Judge a policy that learned from all of the run's data, through the world model's eyes."""
        player = Player(self.run / "world_model", "trained", path, algorithm, "state")
        return Point(self.collected(), [p.total for p in play_truth(player, self.seeds(), 1)], cpu_seconds)

    def logged(self) -> "Logged":
        """The run's transitions, shared by the cells of a task."""
        return logged(self.run, self.out.parent / f"seen-{self.run.name}.safetensors")

    def collected(self) -> int:
        """Real steps in the run's data."""
        return int(read_json(self.run / "data" / "metadata.json")["total_steps"])


class Point(NamedTuple):
    """What a policy is worth: real steps behind it, a return for each episode, CPU seconds of its learning if known,
    and whether it was not trained here but with its run.
    """

    real_steps: int
    returns: list[float]
    cpu_seconds: float | None
    of_the_run: bool = False


@dataclass(frozen=True)
class Logged:
    """The transitions of a run's data as the world model's eyes see them, without those whose speed cannot be seen.

    Attributes:
        seen, after: (n, s) estimated states before and after. actions: (n, a). rewards, ends: (n,).
        best: (n,) bool, whether the transition is of one of the episodes of highest return; growth-test episodes, which
            are short, never are.
    """

    seen: Tensor
    actions: Tensor
    rewards: Tensor
    after: Tensor
    ends: Tensor
    best: Tensor


def logged(run: Path, store: Path) -> Logged:
    """Every transition of a run's data: trained on, held out and of the growth test. Kept at ``store``: encoding all
    frames takes longer than cloning.
    """
    if not store.exists():
        write_tensors(store, vars(_see(run)))
    return Logged(**read_tensors(store))


def _see(run: Path) -> Logged:
    model, episodes = opened(run / "world_model"), load_episodes(run / "data")
    model.task.require("this benchmark", "state", "reward", "twin")
    returns = [float(e.signals["reward"].sum()) for e in episodes if e.kind != "constant"]
    bar = float(np.quantile(returns, 1 - BEST_SHARE))
    parts = []
    for kind in sorted({episode.kind for episode in episodes}):
        table = tabulate(episodes, kind, model.dynamics.context)
        rewards = table.signals["reward"]
        total = torch.nn.functional.pad(rewards.double().cumsum(0), (1, 0))
        earned = total[table.last + 1] - total[table.first]
        with torch.inference_mode():
            latents = model.encode(table.seen(torch.arange(len(table.frames))).numpy())
            index = context_index(table, torch.arange(len(latents)), model.dynamics.context)
            states = torch.cat([model.read("state", latents[part]) for part in index.split(1024)])
        at = table.steps
        best = (earned[at] >= bar - 1e-6) & (kind != "constant")
        parts.append((states[at], table.actions[at], rewards[at], states[at + 1], table.ends[at], best))
    return Logged(*(torch.cat(column) for column in zip(*parts, strict=True)))


class Shuffled(VecEnvWrapper):
    """Dreams whose slots take one another's actions: each step a new random cycle through all slots.

    What a slot is told of its own action is then noise, while states, rewards and their statistics stay a dream's.
    """

    def __init__(self, venv: VecEnv) -> None:
        """Shuffle the actions of ``venv``.

        Raises:
            ProcosmError: a single slot has no other whose action it could take.
        """
        if venv.num_envs < 2:
            raise ProcosmError("actions are shuffled among dreams: give at least two of them (--dreams 2)")
        super().__init__(venv)
        self._generator = np.random.default_rng(0)

    def seed(self, seed: int | None = None) -> Any:
        """Seed the dreams and the cycles."""
        self._generator = np.random.default_rng(seed)
        return self.venv.seed(seed)

    def reset(self) -> VecEnvObs:
        """Begin new dreams."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """(n, a) actions, each for another slot than the one that chose it."""
        order = self._generator.permutation(self.num_envs)
        others = np.empty_like(actions)
        others[order] = actions[np.roll(order, 1)]
        self.venv.step_async(others)

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step."""
        return self.venv.step_wait()


def dream(desk: Desk) -> list[Point]:
    """The run's own policy and its evaluation where seed and settings are the run's; else a policy trained here."""
    settings = desk.settings()
    if desk.own and _same_training(desk.run, settings):
        wanted, rows = set(desk.seeds()), read_json(desk.run / "evaluation" / "returns.json")
        mine = [
            r["return"] for r in rows if r["world"] == "mujoco" and r["policy"] == "trained" and r["seed"] in wanted
        ]
        if len(mine) == len(wanted):
            return [Point(desk.collected(), mine, None, of_the_run=True)]
    return _practised(desk, settings, dreams)


def shuffled(desk: Desk) -> list[Point]:
    """The same training in a dream whose slots take one another's actions."""
    return _practised(desk, desk.settings(), lambda *args: Shuffled(dreams(*args)))


def untrained(desk: Desk) -> list[Point]:
    """The dream's policy before its first step."""
    settings = desk.settings()
    point = desk.point(_saved(desk, _blank(settings)), settings.algorithm, 0.0)
    return [point._replace(real_steps=0)]


def cloned(desk: Desk, best: bool = False) -> list[Point]:
    """Behaviour cloning: the actor's mean regressed on the logged actions; of all episodes, or of the best tenth."""
    data = desk.logged()
    began = time.process_time()
    chosen = data.best if best else torch.ones_like(data.best)
    learner = _blank(desk.settings(algorithm="ppo"))
    clone(learner.policy, data.seen[chosen], data.actions[chosen], desk.practice.clone_steps, desk.seed)
    return [desk.point(_saved(desk, learner), "ppo", time.process_time() - began)]


def clone(policy: ActorCriticPolicy, seen: Tensor, actions: Tensor, steps: int, seed: int) -> None:
    """Fit a policy's mean to (n, a) actions at (n, s) states by least squares, in units of half the action range."""
    space: Any = policy.action_space
    half = torch.as_tensor((space.high - space.low) / 2)
    optimizer = torch.optim.Adam(policy.parameters(), lr=PolicyConfig.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        at = torch.randint(len(seen), (BATCH,), generator=generator)
        acted: Any = policy.get_distribution(seen[at]).distribution
        loss = ((acted.mean - actions[at]) / half).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def offline_sac(desk: Desk) -> list[Point]:
    """SAC on the logged transitions alone: its memory is the data, and it never acts while it learns."""
    data, settings = desk.logged(), desk.settings(algorithm="sac", width=MODEL_FREE_WIDTH)
    began, learner = time.process_time(), _blank(settings)
    learner.replay_buffer = memory(learner, data, reward_scale(opened(settings.world_model), settings.gamma))
    learner.set_logger(Logger(folder=None, output_formats=[]))
    learner.set_random_seed(desk.seed)
    learner.train(desk.practice.gradient_steps, BATCH)
    return [desk.point(_saved(desk, learner), "sac", time.process_time() - began)]


def memory(learner: SAC, data: Logged, scale: float) -> ReplayBuffer:
    """The logged transitions as SAC remembers its own: actions in −1…1, rewards scaled; a cut-off is no end."""
    n = len(data.seen)
    buffer = ReplayBuffer(n, learner.observation_space, learner.action_space, "cpu", n_envs=1)
    buffer.observations[:, 0], buffer.next_observations[:, 0] = data.seen.numpy(), data.after.numpy()
    buffer.actions[:, 0] = learner.policy.scale_action(data.actions.numpy())
    buffer.rewards[:, 0], buffer.dones[:, 0] = data.rewards.numpy() * scale, data.ends.numpy()
    buffer.full = True
    return buffer


def online(desk: Desk, algorithm: Algorithm) -> list[Point]:
    """A fresh learner in MuJoCo itself, on the true state, judged at several numbers of its own real steps."""
    slots, length = (8, 128) if algorithm == "ppo" else (1, 256)
    shares = [share for share in desk.practice.shares if share <= 1 or algorithm == "ppo"]
    marks = [round(share * desk.collected()) for share in shares]
    settings = replace(
        desk.settings(algorithm=algorithm, width=MODEL_FREE_WIDTH), dreams=slots, horizon=length, rollout_steps=length,
        iterations=math.ceil(marks[-1] / length),
    )  # fmt: skip
    model = opened(settings.world_model)
    env = make_vec_env(lambda: truth(model.task, "state"), n_envs=slots, seed=desk.seed)
    learner = new_learner(settings, ScaledReward(env, reward_scale(model, settings.gamma)), model)
    members, cpu_seconds = [], 0.0
    for mark in marks:
        began = time.process_time()
        learner.learn(max(0, mark - learner.num_timesteps), reset_num_timesteps=False)
        cpu_seconds += time.process_time() - began
        path = desk.out / f"steps-{mark}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_learner(learner, path)
        learner._last_obs = None  # the next part begins with new episodes
        members.append((Member(path.stem, algorithm, algorithm, path, steps=learner.num_timesteps), cpu_seconds))
    env.close()
    returns: dict[str, list[float]] = {}

    def finished(member: Member, rows: Rows) -> None:
        returns[member.name] = [row["return"] for row in rows]

    world = Truth(model.task, min(TRUTH_SLOTS, desk.practice.episodes))
    play(world, model.task, [member for member, _ in members], desk.seeds(), (), finished, algorithm)
    return [Point(member.steps, returns[member.name], seconds) for member, seconds in members]


ARMS: dict[str, Callable[[Desk], list[Point]]] = {
    "dream": dream,
    "untrained": untrained,
    "cloned": cloned,
    "cloned_best": lambda desk: cloned(desk, best=True),
    "offline_sac": offline_sac,
    "online_ppo": lambda desk: online(desk, "ppo"),
    "online_sac": lambda desk: online(desk, "sac"),
    "shuffled": shuffled,
}


def _practised(desk: Desk, settings: PolicyConfig, world: Callable[..., VecEnv]) -> list[Point]:
    whole = not settings.out.exists()  # of a training gone on with, the seconds before it was killed are not known
    began = time.process_time()
    path = train_policy(settings, world) / "policy.zip"
    return [desk.point(path, settings.algorithm, time.process_time() - began if whole else None)]


def _same_training(run: Path, settings: PolicyConfig) -> bool:
    """Whether the run's policy is finished and was trained with these settings; looks at the truth guide nothing."""
    record = record_path(run / "policy")
    if not (run / "evaluation" / "returns.json").exists() or not record.exists():
        return False
    stored = read_json(record)["config"]
    return all(getattr(settings, k) == v for k, v in stored.items() if not k.startswith("truth_"))


def _blank(settings: PolicyConfig) -> Any:
    """A learner with its first weights."""
    model = opened(settings.world_model)
    return new_learner(settings, dreams(model, settings.dreams, "state", settings.horizon, settings.gamma), model)


def _saved(desk: Desk, learner: BaseAlgorithm) -> Path:
    desk.out.mkdir(parents=True, exist_ok=True)
    save_learner(learner, desk.out / "policy.zip")
    return desk.out / "policy.zip"
