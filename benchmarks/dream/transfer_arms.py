"""The arms of `transfer`: one function each, from a run's data and world model to returns in MuJoCo.

All arms but ``online_*`` see what a dream-trained policy sees: the world model's estimate of the state from frames.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from stable_baselines3 import TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from procosm.agents.judge.evaluate import JUDGING_SEED
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Rows, Truth, play
from procosm.agents.judge.rollouts import Player, opened, play_truth
from procosm.agents.policy.baselines import logged
from procosm.agents.policy.baselines.cloning import clone
from procosm.agents.policy.baselines.logged import Logged
from procosm.agents.policy.baselines.offline import learn_offline
from procosm.agents.policy.baselines.online import save_on_the_way
from procosm.agents.policy.baselines.shuffled import Shuffled
from procosm.agents.policy.baselines.td3_bc import learn_td3_bc
from procosm.agents.policy.learners import new_learner
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import ScaledReward, dreams, reward_scale, truth
from procosm.agents.stages import record_path
from procosm.envs.collect.policy_file import save_learner
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.files import read_json

Algorithm = Literal["ppo", "sac"]
MODEL_FREE_WIDTH = 64
"""Of each of the two hidden layers of model-free actors and critics, as in the panel of `ranking`."""
TD3_BC_WIDTH, TD3_BC_RATE = 256, 3e-4
"""Of both hidden layers of actor and critics, and Adam's rate: arXiv 2106.06860, table 3."""
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
    """Of offline SAC and TD3+BC."""
    clone_steps: int = 2000
    """Gradient steps of cloning."""


@dataclass(frozen=True)
class Desk:
    """All that an arm needs.

    Attributes:
        run: folder with data/ and world_model/. own: whether the run's own seed is ``seed``.
        out: where the arm's policies go. seed: of weights, exploration and batches. practice: how much is learned.
        device: where world model and policies are computed.
    """

    run: Path
    own: bool
    out: Path
    seed: int
    practice: Practice
    device: str = "auto"

    def settings(self, **changes: Any) -> PolicyConfig:
        """The dream's training, or that of another arm by ``changes``."""
        p = self.practice
        base = PolicyConfig(self.run / "world_model", self.out, p.algorithm, seed=self.seed, truth_every=0)
        return replace(
            base, dreams=p.dreams, iterations=p.iterations, gamma=p.gamma, **{"device": self.device, **changes}
        )

    def model(self) -> WorldModel:
        """The run's world model."""
        return opened(self.run / "world_model", self.device)

    def seeds(self) -> list[int]:
        """Seeds of the episodes that judge, the same for all arms and for `procosm evaluate`."""
        return list(range(JUDGING_SEED, JUDGING_SEED + self.practice.episodes))

    def point(self, path: Path, algorithm: str, cpu_seconds: float | None) -> "Point":
        """Judge a policy that learned from all of the run's data, through the world model's eyes."""
        player = Player(self.run / "world_model", "trained", path, algorithm, "state", self.device)
        return Point(self.collected(), [p.total for p in play_truth(player, self.seeds(), 1)], cpu_seconds)

    def logged(self) -> Logged:
        """The run's transitions, shared by the cells of a task."""
        store = self.out.parent / f"seen-{self.run.name}.safetensors"
        if not store.exists():
            logged.write(store, logged.see(self.model(), load_episodes(self.run / "data")))
        return logged.read(store)

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
    point = desk.point(_saved(desk, _blank(desk, settings)), settings.algorithm, 0.0)
    return [point._replace(real_steps=0)]


def cloned(desk: Desk, best: bool = False) -> list[Point]:
    """Behaviour cloning: the actor's mean regressed on the logged actions; of all episodes, or of the best tenth."""
    data = desk.logged()
    began = time.process_time()
    rows = data.best if best else data.best.new_ones(len(data.best))
    settings = desk.settings(algorithm="ppo")
    learner, steps = _blank(desk, settings), desk.practice.clone_steps
    clone(learner.policy, data.seen[rows], data.actions[rows], steps, desk.seed, settings.learning_rate)
    return [desk.point(_saved(desk, learner), "ppo", time.process_time() - began)]


def offline_sac(desk: Desk) -> list[Point]:
    """SAC on the logged transitions alone: its memory is the data, and it never acts while it learns."""
    data, settings = desk.logged(), desk.settings(algorithm="sac", width=MODEL_FREE_WIDTH)
    began, learner = time.process_time(), _blank(desk, settings)
    learn_offline(learner, data, reward_scale(desk.model(), settings.gamma), desk.practice.gradient_steps, desk.seed)
    return [desk.point(_saved(desk, learner), "sac", time.process_time() - began)]


def offline_td3_bc(desk: Desk) -> list[Point]:
    """TD3+BC on the logged transitions alone, with the networks and rates of its paper."""
    data, settings = desk.logged(), desk.settings(algorithm="sac", width=TD3_BC_WIDTH)
    began, blank = time.process_time(), _blank(desk, settings)
    kwargs = {key: value for key, value in blank.policy_kwargs.items() if key != "use_sde"}  # which TD3 does not know
    given: dict[str, Any] = {"gamma": settings.gamma, "policy_kwargs": kwargs, "seed": desk.seed, "device": "cpu"}
    learner = TD3("MlpPolicy", blank.env, TD3_BC_RATE, buffer_size=1, **given)
    learn_td3_bc(learner, data, reward_scale(desk.model(), settings.gamma), desk.practice.gradient_steps, desk.seed)
    return [desk.point(_saved(desk, learner), "td3", time.process_time() - began)]


def online(desk: Desk, algorithm: Algorithm) -> list[Point]:
    """A fresh learner in MuJoCo itself, on the true state, judged at several numbers of its own real steps."""
    slots, length = (8, 128) if algorithm == "ppo" else (1, 256)
    shares = [share for share in desk.practice.shares if share <= 1 or algorithm == "ppo"]
    marks = {desk.out / f"steps-{mark}.zip": mark for mark in (round(share * desk.collected()) for share in shares)}
    settings = replace(
        desk.settings(algorithm=algorithm, width=MODEL_FREE_WIDTH), dreams=slots, horizon=length, rollout_steps=length,
        iterations=math.ceil(max(marks.values()) / length),
    )  # fmt: skip
    model = desk.model()
    env = make_vec_env(lambda: truth(model.task, "state"), n_envs=slots, seed=desk.seed)
    learner = new_learner(settings, ScaledReward(env, reward_scale(model, settings.gamma)), model)
    members = [
        (Member(path.stem, algorithm, algorithm, path, steps=learner.num_timesteps), cpu_seconds)
        for path, cpu_seconds in zip(marks, save_on_the_way(learner, marks), strict=True)
    ]
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
    "offline_td3_bc": offline_td3_bc,
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
    """Whether the run's policy is finished and was trained with these settings, wherever; looks at the truth guide
    nothing.
    """
    record = record_path(run / "policy")
    if not (run / "evaluation" / "returns.json").exists() or not record.exists():
        return False
    stored = read_json(record)["config"]
    compared = (key for key in stored if not key.startswith(("truth_", "device")))
    return all(getattr(settings, key) == stored[key] for key in compared)


def _blank(desk: Desk, settings: PolicyConfig) -> Any:
    """A learner with its first weights."""
    model = desk.model()
    return new_learner(settings, dreams(model, settings.dreams, "state", settings.horizon, settings.gamma), model)


def _saved(desk: Desk, learner: BaseAlgorithm) -> Path:
    desk.out.mkdir(parents=True, exist_ok=True)
    save_learner(learner, desk.out / "policy.zip")
    return desk.out / "policy.zip"
