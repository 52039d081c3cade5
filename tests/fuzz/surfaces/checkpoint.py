"""A small whole checkpoint to spoil, and what a user does with it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.trust.trust import Forecasts
from procosm.world_model.checkpoint import load, save
from procosm.world_model.data.task import MAIN, Task, Twin, View, logged_signals
from tests.conftest import restless_model

CAMERA = {
    "lookat": [0.0, 0.0, 0.275], "azimuth": 90.0, "elevation": 0.0, "distance": 5.671, "width": 2.06, "height": 1.03,
    "body": "", "follow": "", "runway": 0.0,
}  # fmt: skip
TASK = Task(
    id="InvertedPendulum-v5", views=(View(MAIN, 64, 64),), action_low=(-3.0,), action_high=(3.0,), action_repeat=1,
    dt_s=0.04, max_episode_steps=1000, signals=logged_signals(4),
    twin=Twin("InvertedPendulum-v5", {}, "egl", {MAIN: CAMERA}, 4, 2),
)  # fmt: skip


def whole(folder: Path) -> Path:
    """An untrained model with trust, as training and calibrating write it; dreamed of once, for imports take long."""
    forecasts = Forecasts(4, TASK.state_size, 1, 8)
    with torch.no_grad():
        for name in ("std", "change", "calibration", "bound", "high"):
            getattr(forecasts, name).fill_(0.5)
    plain = restless_model(TASK)
    model = replace(
        plain,
        trust=forecasts.state_dict(),
        resets=plain.starts[:4, -1].clone(),
        metrics={"growth": {"growth_error": 0.4, "passed": True}, "tokenizer": {"loss": 0.1}},
        provenance={"commit": "abc", "policies": {"a.zip": "0" * 64}},
    )
    saved = save(folder / "run" / "world_model", model)
    dream(saved)
    return saved


def dream(folder: Path) -> None:
    """Open it and dream two steps; everything must be finite."""
    env = WorldModelEnv(load(folder), observation=("pixels", "latent", "state"), denoising_steps=2)
    observed, info = env.reset(seed=0)
    for action in (env.action_space.low, env.action_space.high):
        observed, reward, *_, info = env.step(action)
        assert np.isfinite(observed["latent"]).all() and np.isfinite(observed["state"]).all()
        assert np.isfinite(reward) and 0 <= info["trust"] <= 1


@contextlib.contextmanager
def holding(path: Path, content: bytes) -> Iterator[None]:
    """The file with other content for a while."""
    kept = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(kept)


def opened_with(path: Path, content: bytes) -> None:
    """Dream of a checkpoint whose file ``path`` has other content."""
    with holding(path, content):
        dream(path.parent)


def opened_sealed(path: Path, content: bytes) -> None:
    """The same where the checksum in config.json is that of the other content: whoever wrote it meant it."""
    config = path.parent / "config.json"
    values = json.loads(config.read_text())
    if "sha256" in values:
        values["sha256"][path.name] = hashlib.sha256(content).hexdigest()
    with holding(config, json.dumps(values).encode()):
        opened_with(path, content)
