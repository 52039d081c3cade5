"""The trained policies of a panel: good, middling and bad, trained in MuJoCo or only in the dream.

    python -m procosm.agents.judge.ranking.zoo --env HalfCheetah --out runs/ranking/HalfCheetah/zoo

Model-free PPO, SAC and TD3 see the task's true state and are saved at four times of their training, so that the panel
is spread from random to solved. ``seen`` are those that acted in the world model's data, and what is derived from them:
the noises of collecting, and policies given to `procosm collect`, for which the command above trains the model-free
part of a panel before there is a world model.
"""

import dataclasses
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from procosm.agents.judge.ranking.members import CONTROLS, Member
from procosm.agents.policy.baselines.online import save_on_the_way
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import truth
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.names import resolve_name
from procosm.world_model import command
from procosm.world_model.data.task import Task
from procosm.world_model.files import read_json, sha256
from procosm.world_model.settings import Count, Settings

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC, "td3": TD3}
SHARES = (0.125, 0.25, 0.5, 1.0)
"""Parts of a training after which its policy is saved."""
EPSILONS = (0.05, 0.1, 0.3, 0.5)
"""Chances with which a degraded policy's action is replaced by a uniform one."""
TRUSTED = 0.5
"""Trust below which the dreams of ``ZooConfig.trusting`` are cut."""
PPO_STEPS = 5
"""On-policy steps are cheap and teach less: PPO gets this many times the steps of SAC and TD3."""


@dataclass(frozen=True)
class ZooConfig(Settings):
    """How many policies there are and how long they learn."""

    seeds: Annotated[int, Ge(0)] = 3
    """Trainings of each algorithm."""
    steps: Count = 6000
    """MuJoCo steps of each SAC and TD3 training."""
    dream_seeds: Annotated[int, Ge(0)] = 2
    """Trainings in the dream."""
    dream_iterations: Count = 24
    """Iterations of each of them."""
    trusting: Annotated[int, Ge(0)] = 0
    """Trainings in dreams that are cut where their trust falls below one half."""
    dreamed: tuple[Path, ...] = ()
    """Policies trained in this dream or in another of the task: of finished runs (RUN/policy/policy.zip), or those that
    ship (envs/play/policies/NAME.zip)."""
    trust_pickle: bool = False
    """Open policies of the panel that SB3 saved, as earlier versions did: their pickles run whatever code is in them.
    What this version trains it saves without, and needs no trust."""


def zoo(
    config: ZooConfig, task: Task, world_model: Path, folder: Path, acted: Collection[str] = (), device: str = "auto"
) -> list[Member]:
    """Train what is missing of the panel under ``folder``; a training that was killed begins again, others are kept.

    ``acted`` are the sha256 of the policies that acted in the world model's data; the world model dreams on ``device``.
    """
    members = [
        dataclasses.replace(member, seen=member.path is not None and sha256(member.path) in acted)
        for member in every_model_free(config, task, folder)
    ]
    if len(acted) > sum(member.seen for member in members):
        tqdm.write(f"of {len(acted)} policies in the model's data some are not in this panel", file=sys.stderr)
    best = [member for member in members if member.name.endswith("s0-4")]  # seed 0 of each algorithm, fully trained
    finished = [_of_a_run(path) for path in config.dreamed]
    degraded = [
        dataclasses.replace(member, name=f"{member.name} eps {epsilon}", family="degraded", epsilon=epsilon)
        for member in (*best, *finished)
        for epsilon in EPSILONS
    ]
    panel = [*members, *degraded, *CONTROLS, *dreamers(config, world_model, folder, device), *finished]
    return [dataclasses.replace(member, trust_pickle=config.trust_pickle) for member in panel]


def every_model_free(config: ZooConfig, task: Task, folder: Path) -> Iterator[Member]:
    """All trainings in MuJoCo."""
    for algorithm in ALGORITHMS:
        for seed in range(config.seeds):
            yield from model_free(algorithm, task, config.steps, seed, folder)


def model_free(algorithm: str, task: Task, steps: int, seed: int, folder: Path) -> Iterator[Member]:
    """One training in MuJoCo, as a member for each time it is saved."""
    total = steps * (PPO_STEPS if algorithm == "ppo" else 1)
    paths = [folder / f"{algorithm}-s{seed}-{number}.zip" for number in range(1, len(SHARES) + 1)]
    if not all(path.exists() for path in paths):
        env = make_vec_env(lambda: truth(task, "state"), n_envs=8 if algorithm == "ppo" else 1, seed=seed)
        marks = {path: int(share * total) for path, share in zip(paths, SHARES, strict=True)}
        for _ in save_on_the_way(_learner(algorithm, env, seed, total), marks):
            pass
        env.close()
    for path, share in zip(paths, SHARES, strict=True):
        yield Member(path.stem, algorithm, algorithm, path, steps=int(share * total), run=f"{algorithm}-s{seed}")


def _learner(algorithm: str, env: VecEnv, seed: int, total: int) -> BaseAlgorithm:
    common: dict[str, Any] = {"seed": seed, "device": "cpu", "learning_rate": 1e-3}
    common |= {"policy_kwargs": {"net_arch": [64, 64]}}
    if algorithm == "ppo":
        return PPO("MlpPolicy", env, n_steps=128, batch_size=256, n_epochs=6, **common)
    common |= {"buffer_size": total, "learning_starts": total // 16}
    return ALGORITHMS[algorithm]("MlpPolicy", env, **common)


def _of_a_run(policy: Path) -> Member:
    """The policy of RUN/policy/policy.zip, which was trained in RUN's dream; of another file without its steps."""
    log = policy.with_name("training.json")
    steps = read_json(log)["rounds"][-1]["imagined_steps"] if log.exists() else 0
    name = f"dream {policy.parent.parent.name if log.exists() else policy.stem}"
    return Member(name, "dream", path=policy, steps=steps, run=name)


def dreamers(config: ZooConfig, world_model: Path, folder: Path, device: str) -> Iterator[Member]:
    """PPO trained only in the dream, with the settings of `procosm train-policy`, heeding trust or not."""
    for kind, below, seeds in (("dream", 0.0, config.dream_seeds), ("dream-trusting", TRUSTED, config.trusting)):
        for seed in range(seeds):
            name = f"{kind}-s{seed}"
            options = {"iterations": config.dream_iterations, "truth_every": 0, "trust_below": below, "device": device}
            settings = PolicyConfig(world_model, folder / name, seed=seed, **options)  # type: ignore[arg-type]
            steps = settings.rounds * settings.round_steps
            path = train_policy(settings) / "policy.zip"
            yield Member(name, "dream", "ppo", path, steps=steps, run=name)


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Train the model-free policies of a panel before there is a world model, so that some may act in its data."""

    env: str
    """Task, as for `procosm collect`."""
    out: Path
    """Folder of the policies; a ranking finds them in RANKING/<task>/zoo."""
    seeds: Count = ZooConfig.seeds
    """Trainings of each algorithm."""
    steps: Count = ZooConfig.steps
    """MuJoCo steps of each SAC and TD3 training."""


def main(config: TrainingConfig) -> None:
    """Train what is missing."""
    env = MujocoEnv(resolve_name(config.env))
    env.close()
    total = config.seeds * len(ALGORITHMS) * len(SHARES)
    settings = ZooConfig(seeds=config.seeds, steps=config.steps)
    for member in tqdm(every_model_free(settings, env.task, config.out), total=total, unit="policy"):
        tqdm.write(str(member.path), file=sys.stderr)


if __name__ == "__main__":
    command.main(main, TrainingConfig)
