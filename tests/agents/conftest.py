"""Episodes of the linear world, computed in NumPy, so that agents' measurements have an independent truth."""

from pathlib import Path

import numpy as np
import pytest

from procosm.agents.judge.evaluate import EvaluateConfig
from procosm.agents.policy.train import PolicyConfig
from procosm.agents.report.report import ReportConfig
from procosm.agents.road import collect_stage, evaluate_stage, policy_stage, report_stage, train_stage
from procosm.envs.collect.collect import CollectConfig
from procosm.world_model.data.episodes import Episode
from procosm.world_model.training.train import TrainConfig

SMALL_POLICY = {"dreams": 8, "horizon": 4, "rollout_steps": 2, "iterations": 4, "width": 16, "epochs": 2}
SMALL_JUDGEMENT = {"episodes": 3, "horizon": 6, "windows": 16, "dreams": 4, "processes": 1, "speed_seconds": 0.05}
PUSH = np.array([0.5, -0.25, 0.0, 1.0])


def linear_episode(seed: int, steps: int, kind: str = "holdout", constant: float | None = None) -> Episode:
    """z' = 0.9 z + B a in float64; a frame shows z as four grey quarters; the state is (first of z, its change)."""
    generator = np.random.default_rng(seed)
    z = [generator.normal(0, 1.0, 4)]
    actions = generator.uniform(-1, 1, (steps, 1)) if constant is None else np.full((steps, 1), constant)
    for action in actions:
        z.append(0.9 * z[-1] + PUSH * action)
    values = np.stack(z)  # (T+1, 4)
    grey = np.clip(np.round(values * 20 + 128), 0, 255).astype(np.uint8).reshape(-1, 2, 2)
    frames = grey.repeat(20, axis=1).repeat(20, axis=2)[..., None].repeat(3, axis=-1)
    change = np.diff(values[:, 0], prepend=values[0, 0])
    states = np.stack((values[:, 0], change), axis=1).astype(np.float32)
    rewards = values[1:].mean(axis=1).astype(np.float32)
    signals = {"state": states, "reward": rewards}
    return Episode(frames, actions.astype(np.float32), False, kind, signals=signals)


@pytest.fixture
def linear_episodes() -> list[Episode]:
    """Twenty held-out episodes of 3 to 22 steps."""
    return [linear_episode(seed, 3 + seed) for seed in range(20)]


@pytest.fixture
def constant_episodes() -> list[Episode]:
    """Twelve episodes of 14 steps under one action each."""
    return [linear_episode(100 + i, 14, "constant", a) for i, a in enumerate(np.linspace(-1, 1, 12))]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole road at its smallest: real frames, a debug world model, a policy, a judgement, a page. Read only."""
    run = tmp_path_factory.mktemp("whole") / "run"
    collect_stage(CollectConfig(env="InvertedPendulum", out=run, steps=400, processes=1))
    train_stage(TrainConfig(data=run / "data", out=run / "world_model", preset="debug"))
    policy_stage(PolicyConfig(run / "world_model", run / "policy", **SMALL_POLICY, truth_every=2))
    evaluate_stage(EvaluateConfig(run, **SMALL_JUDGEMENT))
    report_stage(ReportConfig(run))
    return run
