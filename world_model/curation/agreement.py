"""Inverse dynamics learned from the logs that are judged: most of them answer to their actions, some do not."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.curation.consistency import Answer, compare, standing_out
from procosm.world_model.curation.inverse import NOISE, Kernel, Sample, Steps, small, solve
from procosm.world_model.files import read_tensors, write_tensors
from procosm.world_model.threads import one_thread

FOLDS = 10
"""Parts of the logs, each judged by what the others tell."""
ROUNDS = 3
"""Times that logs which seem not to answer to their actions lose their say in what the others are judged by."""
LEAST_SAY = 0.02
LEAST_STEPS, MOST_STEPS = 200, 3000
"""Steps of logs below which nothing can be learned, and to which they are cut, for time and memory grow with them."""
LEAST_POWER = 3.5
"""By how many standard deviations of shuffled actions a clip that answers must be expected to stand out; a shorter one,
or one of a task whose frames tell less, says nothing. Chosen on MuJoCo video: at 2.6 to 2.8 (Reacher, Pusher), shuffled
clips are told with an AUROC of .92 to .95, at 6 and more (Swimmer, HalfCheetah) of 1."""


class ActionModel:
    """Estimates of actions, each of a log made without that log's part of the logs.

    Attributes:
        told: (a,), correlation of each action with its estimate, 0 and more; all zero where there is too little to
            learn from. evidence: (a,), what the product of an action and its estimate counts.
        rate: by how many standard deviations a clip of one step that answers stands out; one of T steps by sqrt(T)
            times that.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self.told, self.evidence = tensors["told"].numpy(), tensors["evidence"].numpy()
        self.rate = float(tensors["rate"])
        if self.rate:
            self._steps = Steps(tensors["shown"], tensors["changed"])
            self._kernel = Kernel(*tensors["kernel"].tolist())

    @classmethod
    @one_thread()
    def learn(cls, samples: Iterable[tuple[str, Sample]], action_size: int) -> "ActionModel":
        """A model of sampled logs, by their names; the same for the same samples."""
        named = dict(samples)
        count = sum(len(sample.actions) for sample in named.values())
        nothing = {"told": torch.zeros(action_size), "evidence": torch.zeros(action_size), "rate": torch.zeros(())}
        if count < LEAST_STEPS or len({fold(name) for name in named}) < 2:
            return cls(nothing)
        most = MOST_STEPS // len(named) if count > MOST_STEPS else count
        steps = Steps.join([_cut(Steps.of(torch.from_numpy(s.pictures)), most) for s in named.values()])
        actions = [torch.from_numpy(sample.actions[:most]).float() for sample in named.values()]
        logs = torch.repeat_interleave(torch.arange(len(named)), torch.tensor([len(each) for each in actions]))
        folds = torch.tensor([fold(name) for name in named])[logs]
        kernel = Kernel.fit(steps)
        acted = torch.cat(actions)
        deviation = acted.std(0).clamp_min(1e-6)
        scaled = torch.where(deviation > 1e-6, (acted - acted.mean(0)) / deviation, 0)  # a fixed one tells nothing
        found = _learn(kernel(steps, steps), scaled, logs, folds)
        lengths = torch.tensor([kernel.shown, kernel.changed, kernel.height])
        found |= {"shown": steps.shown, "changed": steps.changed, "kernel": lengths}
        return cls(found | {"evidence": found["evidence"] / deviation})

    def judge(self, name: str, frames: np.ndarray, actions: np.ndarray) -> Answer | None:
        """How frames (n, H, W, 3) of the log ``name`` answer to its actions (n - 1, a); None if that cannot be told."""
        usual = self.rate * len(actions) ** 0.5
        if usual < LEAST_POWER:
            return None
        return compare(actions, self._estimate(name, small(frames)), self.evidence, usual)

    @one_thread()
    def _estimate(self, name: str, pictures: np.ndarray) -> np.ndarray:
        """(n - 1, a): the actions between these pictures (n, h, w) of a log, up to a factor and a shift of each."""
        steps = Steps.of(torch.from_numpy(pictures))
        found: np.ndarray = (self._kernel(steps, self._steps) @ self._tensors["weights"][fold(name)]).numpy()
        return found

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        write_tensors(path, self._tensors)

    @classmethod
    def load(cls, path: Path) -> "ActionModel":
        """What ``save`` wrote."""
        return cls(read_tensors(path, "delete it, and run the same command again"))


def fold(name: str) -> int:
    """Of which part of the logs a log is; the same in every process."""
    return zlib.crc32(name.encode()) % FOLDS


def _cut(steps: Steps, most: int) -> Steps:
    return Steps(steps.shown[:most], steps.changed[:most])


def _learn(likeness: Tensor, actions: Tensor, logs: Tensor, folds: Tensor) -> dict[str, Tensor]:
    """Weights of all steps, and how well their estimates tell actions (n, a), which have mean 0 and deviation 1.

    A log either answers to its actions or does not: how likely it does, by the estimates of other logs, is its say in
    the next round (expectation and maximization).
    """
    count = int(logs.max()) + 1
    say = torch.ones(count)
    for _ in range(ROUNDS + 1):
        weights = solve(likeness, NOISE / say.clamp_min(LEAST_SAY)[logs], actions, folds, FOLDS)
        found = torch.stack([likeness[i] @ weights[folds[i]] for i in range(len(logs))])
        told, scale = _told(actions, found, say[logs])
        odds = _log_odds(actions, found * told / scale, told)
        say = torch.sigmoid(torch.zeros(count).index_add(0, logs, odds))
    evidence = told / (1 - told.square()) / scale
    rates = [
        standing_out(actions[logs == log].numpy(), found[logs == log].numpy(), evidence.numpy())
        / float((logs == log).sum()) ** 0.5
        for log in range(count)
        if say[log] > 0.5 and (logs == log).sum() > 1
    ]
    rate = torch.tensor(float(np.median(rates)) if rates else 0.0).clamp_min(0)
    return {"weights": weights, "told": told, "evidence": evidence, "rate": rate}


def _told(actions: Tensor, found: Tensor, say: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation (a,) of actions and their estimates, 0 to less than 1, and the deviation of the latter, by say."""
    share = (say / say.sum().clamp_min(1e-9))[:, None]
    first, second = actions - (share * actions).sum(0), found - (share * found).sum(0)
    scale = (share * second.square()).sum(0).sqrt().clamp_min(1e-9)
    deviation = (share * first.square()).sum(0).sqrt().clamp_min(1e-9)
    return ((share * first * second).sum(0) / scale / deviation).clamp(0, 0.99), scale


def _log_odds(actions: Tensor, expected: Tensor, told: Tensor) -> Tensor:
    """(n,): by how much likelier actions are as answers, around what is expected of them, than by themselves."""
    left = 1 - told.square()
    return (actions.square() / 2 - (actions - expected).square() / (2 * left) - left.log() / 2).sum(1)
