"""The benchmark of few steps learns what it is asked to, whatever lies in its folder from before."""

import json
from pathlib import Path

import numpy as np

from procosm.benchmarks.dream import distillation
from procosm.benchmarks.dream.distillation import DistillationConfig, compare
from procosm.world_model.data.episodes import Episode, write_dataset
from tests.conftest import simulated_task


def test_another_seed_learns_something_else_in_the_same_folder(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "HORIZONS", (1, 2))
    rng = np.random.default_rng(0)

    def episode(kind: str) -> tuple[Episode, None]:
        signals = {"state": rng.normal(size=(7, 4)).astype(np.float32), "reward": np.ones(6, np.float32)}
        frames, actions = rng.integers(0, 256, (7, 64, 64, 3), np.uint8), rng.uniform(-3, 3, (6, 1))
        return Episode(frames, actions.astype(np.float32), False, kind, signals=signals), None

    task = simulated_task("InvertedPendulum-v5", 64, 4, bound=3.0)
    write_dataset(tmp_path / "data", task, map(episode, ("train", "train", "holdout")), {}, "{}")

    def learned(seed: int) -> object:
        config = DistillationConfig(tmp_path / "data", tiny_checkpoint, tmp_path, 2, 4, 2, seed, device="cpu")
        return json.loads(Path(compare(config)).read_text())["details"]["learned"]

    assert learned(0) != learned(1)
