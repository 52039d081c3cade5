"""Inverse dynamics learned from the logs that are judged: most of them answer to their actions, some do not."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from procosm.world_model.curation.consistency import Answer, compare
from procosm.world_model.curation.inverse import (
    FOLDS,
    LEAST_SAMPLES,
    InverseModel,
    Sample,
    estimate,
    fit,
    small,
    windows,
)
from procosm.world_model.files import read_tensors, under, write_tensors

LEAST_AGREEMENT = 0.2
"""Correlation below which an action cannot be told from these frames, and says nothing about a log. Chosen on MuJoCo
video: HalfCheetah and Swimmer have actions above it; Reacher has none, where judgements were little better than chance.
"""
WEIGHTS = "weights"


class ActionModel:
    """Two inverse models, each of which judges the logs that the other one learned from.

    Attributes:
        weights: (a,) of each action, the share of its variance that can be told from frames of logs that were not
            learned from; all zero where none can, or where there is too little to learn from: then logs are not judged
            by their actions.
    """

    def __init__(self, models: list[InverseModel], weights: np.ndarray) -> None:
        self.models, self.weights = models, weights

    @classmethod
    def learn(cls, samples: Iterable[tuple[str, Sample]], action_size: int, seed: int, steps: int) -> "ActionModel":
        """Models of sampled logs, by their names, trained for so many steps; none for 0 or for too few samples."""
        folds: list[list[Sample]] = [[] for _ in range(FOLDS)]
        for name, sample in samples:
            folds[fold(name)].append(sample)
        if steps == 0 or any(sum(len(sample.actions) for sample in each) < LEAST_SAMPLES / FOLDS for each in folds):
            return cls([], np.zeros(action_size))
        models = [fit(folds[1 - index], seed + index, steps) for index in range(FOLDS)]
        pairs = [
            (sample.actions, estimate(models[index], sample.pictures))
            for index, each in enumerate(folds)
            for sample in each
        ]
        logged, found = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
        logged, found = logged - logged.mean(0), found - found.mean(0)
        scale = np.sqrt(np.square(logged).sum(0) * np.square(found).sum(0))
        told = np.divide((logged * found).sum(0), scale, out=np.zeros(action_size), where=scale > 1e-9)
        return cls(models, np.where(told >= LEAST_AGREEMENT, told**2, 0.0))

    def judge(self, name: str, frames: np.ndarray, actions: np.ndarray) -> Answer | None:
        """How frames (n, H, W, 3) of the log ``name`` answer to its actions (n - 1, a); None if unknown."""
        if not self.weights.any() or len(actions) < 8:
            return None
        return compare(actions, estimate(self.models[fold(name)], small(frames)), self.weights)

    def save(self, path: Path) -> None:
        """Write the models and their weights as safetensors."""
        tensors = {
            f"{index}.{key}": value for index, m in enumerate(self.models) for key, value in m.state_dict().items()
        }
        write_tensors(path, tensors | {WEIGHTS: torch.from_numpy(self.weights)})

    @classmethod
    def load(cls, path: Path, picture: tuple[int, int]) -> "ActionModel":
        """What ``save`` wrote; ``picture`` is the height and width of what the models look at."""
        tensors = read_tensors(path, "delete it, and run the same command again")
        weights = tensors.pop(WEIGHTS).numpy()
        models = []
        for index in range(FOLDS if tensors else 0):
            model = InverseModel(len(weights))
            model(windows(torch.zeros(2, *picture, dtype=torch.uint8)))
            model.load_state_dict(under(f"{index}.", tensors))
            models.append(model.eval().requires_grad_(False))
        return cls(models, weights)


def fold(name: str) -> int:
    """Which of the models judges a log; the same in every process."""
    return zlib.crc32(name.encode()) % FOLDS
