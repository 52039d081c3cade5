"""One scenario's held-out films, dreamed on from nine frames and from one, and every control beside them.

Axis letters: n film, v camera, r seed of the sampler, t frame, c h w latent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from procosm.agents.judge.open_loop import decode, psnr_db
from procosm.benchmarks.dream.fidelity.ssim import ssim
from procosm.benchmarks.dream.physics.colours import ColourClassifier, object_iou
from procosm.benchmarks.dream.physics.data import CLIP, CONDITION, draws, first_frame
from procosm.benchmarks.dream.physics.film import film
from procosm.benchmarks.dream.physics.sharpness import sharpness
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.interface import Sampling

UNITS = {"psnr_db": "dB", "ssim": "1", "sharpness": "1", "iou": "1"}
ARMS = {"9 frames": CONDITION, "1 frame": 1}
MEAN, SAMPLED = "mean", "sampled"
"""One denoising step from zero, as environments dream unless asked; or ``SAMPLER_STEPS`` from drawn noise."""
SAMPLER_STEPS = 4
SHOWN = ("truth", *(f"{arm}, {MEAN}" for arm in ARMS))


@dataclass(frozen=True)
class Trial:
    """Held-out films of one scenario.

    Attributes:
        frames: (n, v, t, H, W, 3) uint8, nine to start from and thirty-three to be compared with.
        classes: (n, v, t, H, W), which object is where; 0 for none.
    """

    frames: np.ndarray
    classes: np.ndarray


def held_out(name: str, count: int, seed: int) -> Trial:
    """Films of one scenario with parameters that no training film has."""
    frames, classes = [], []
    for number in range(count):
        drawn = draws(seed, "test", name, number)
        first = first_frame(drawn)
        taken = film(name, drawn, first + CLIP, masks=True)
        frames.append(taken.frames[:, first:])
        classes.append(taken.classes[:, first:])
    return Trial(np.stack(frames), np.stack(classes))


@torch.inference_mode()
def dream(model: WorldModel, begun: Tensor, steps: int, seed: int | None) -> Tensor:
    """(b, steps, c, h, w) latents that follow (b, context, c, h, w), nobody acting.

    Args:
        seed: of the noise that every step of a sampled dream starts from; None takes one step from zero, the mean.
    """
    draws = None if seed is None else [np.random.default_rng([seed, slot]) for slot in range(len(begun))]
    sampling = Sampling(1 if seed is None else SAMPLER_STEPS)
    nothing = begun.new_zeros(len(begun), len(model.task.action_low))
    memory, dreamed = model.dynamics.begin(begun), []
    for _ in range(steps):
        memory, after = model.dynamics.step(memory, nothing, draws, sampling)
        dreamed.append(after.latents)
    return torch.stack(dreamed, dim=1)


def conditioned(real: Tensor, frames: int) -> Tensor:
    """(b, context, c, h, w): the last few of a clip's first latents, the earliest of them repeated before itself.

    So every dream begins, and so did a part of all training windows: a frame without a past stands for it.
    """
    seen = real[:, CONDITION - frames : CONDITION]
    return torch.cat([seen[:, :1].expand(-1, CONDITION - frames, *seen.shape[2:]), seen], dim=1)


def score(
    model: WorldModel, classifier: ColourClassifier, trial: Trial, seeds: list[int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every metric of every method, (n, v, r, t), by ``method/metric``; and the first film's frames, (t, H, W, 3).

    ``iou`` holds objects as colours show them against objects as MuJoCo's segmentation shows them. ``real frames`` is
    the colours' own mistake, ``tokenizer`` that of a perfect dream. Copying the last frame is spared the tokenizer's
    mistakes: where nothing moves, its PSNR has no bound.
    """
    n, v = trial.frames.shape[:2]
    clips, classes = trial.frames.reshape(n * v, *trial.frames.shape[2:]), trial.classes[:, :, CONDITION:]
    true, real = clips[:, CONDITION:], model.encode(clips)
    judged = _Judged(classifier, true, classes.reshape(n * v, *classes.shape[2:]))
    found: dict[str, np.ndarray] = {}
    shown = {"truth": true[0]}
    for method, runs in _methods(model, real, seeds).items():
        scored: list[dict[str, np.ndarray]] = []
        for latents in runs:
            frames = _decoded(model, latents)
            shown.setdefault(method, frames[0])
            scored.append(judged.compare(frames))
        for metric in UNITS:
            found[f"{method}/{metric}"] = np.stack([each[metric] for each in scored], axis=1)
    still = np.repeat(clips[:, CONDITION - 1 : CONDITION], true.shape[1], axis=1)
    found |= {f"copy last frame/{metric}": values[:, None] for metric, values in judged.compare(still).items()}
    found["real frames/iou"] = judged.iou(true)[:, None]
    return (
        {key: values.reshape(n, v, *values.shape[1:]) for key, values in found.items()},
        {name: shown[name] for name in SHOWN},
    )


def _methods(model: WorldModel, real: Tensor, seeds: list[int]) -> dict[str, Iterator[Tensor]]:
    """The latents (b, t, c, h, w) of every method, one run for each of its seeds."""
    scored = real.shape[1] - CONDITION
    methods: dict[str, Iterator[Tensor]] = {}
    for arm, frames in ARMS.items():
        follow = partial(dream, model, conditioned(real, frames), scored)
        methods[f"{arm}, {MEAN}"] = map(follow, [None])
        methods[f"{arm}, {SAMPLED}"] = map(follow, seeds)
    methods["tokenizer"] = iter([real[:, CONDITION:]])
    return methods


def _decoded(model: WorldModel, latents: Tensor) -> np.ndarray:
    """(b, t, H, W, 3) uint8 frames of (b, t, c, h, w) latents."""
    return np.stack([decode(model, each) for each in latents.unbind(1)], axis=1)


@dataclass(frozen=True)
class _Judged:
    """What frames are compared with: true frames (b, t, H, W, 3) and the objects in them (b, t, H, W)."""

    classifier: ColourClassifier
    true: np.ndarray
    classes: np.ndarray

    def compare(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """(b, t) of each metric of (b, t, H, W, 3) frames."""
        seen, true = _flat(frames), _flat(self.true)
        alike = {"psnr_db": psnr_db(seen, true), "ssim": ssim(seen, true), "sharpness": sharpness(seen, true)}
        return {key: values.reshape(frames.shape[:2]) for key, values in alike.items()} | {"iou": self.iou(frames)}

    def iou(self, frames: np.ndarray) -> np.ndarray:
        """(b, t) mean intersection over union of the objects in view; nan where there is none."""
        return object_iou(self.classifier(_flat(frames)), _flat(self.classes)).reshape(frames.shape[:2])


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *values.shape[2:])
