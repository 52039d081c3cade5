"""What is looked for in generated video: frames that are no numbers, stand still, flicker, or were never seen.

Only what is looked at passes: a check that cannot be made is a reason to refuse.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from procosm.world_model.encoding import encode
from procosm.world_model.guardrails.prompts import Verdict
from procosm.world_model.interface import Tokenizer

BATCH = 16


@dataclass(frozen=True)
class FrameLimits:
    """Limits of generated video.

    Attributes:
        still_steps: equal frames in a row. still: mean difference, of 255, below which two frames are equal.
        flicker: how much a frame differs from both its neighbours, over how much these differ.
        jump: change of the whole picture's mean brightness from one frame to the next, of 255.
    """

    still_steps: int = 24
    still: float = 0.05
    flicker: float = 4.0
    jump: float = 40.0


LIMITS = FrameLimits()


def check_video(frames: np.ndarray, actions: np.ndarray | None = None, limits: FrameLimits = LIMITS) -> Verdict:
    """Whether a video is one that could have been filmed.

    Args:
        frames: (n, H, W, 3), uint8, or of floats 0 to 1.
        actions: (n - 1, a); a robot whose actions do not change may stand still. None: it may never.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        return Verdict(False, (f"its frames have the shape {frames.shape}, which is no video's",))
    finite = np.isfinite(frames).reshape(len(frames), -1).all(1)
    if not finite.all():
        return Verdict(False, (f"frame {int((~finite).argmax())} holds values that are no finite numbers",))
    scale = 1.0 if frames.dtype == np.uint8 else 255.0
    values = frames.astype(np.float32) * scale
    if values.min() < -1 or values.max() > 256:
        return Verdict(
            False, (f"its values run from {values.min():.3g} to {values.max():.3g}, outside those of pixels",)
        )
    change, skip = (np.abs(values[step:] - values[:-step]).mean((1, 2, 3)) for step in (1, 2))
    found = []
    still = _longest_still(change < limits.still, actions)
    if still >= limits.still_steps:
        found.append(f"it stands still for {still} steps")
    if len(skip):
        apart = np.minimum(change[:-1], change[1:]) / (skip + 1)
        if apart.max() > limits.flicker:
            found.append(f"it flickers at frame {int(apart.argmax()) + 1}")
    light = np.abs(np.diff(values.mean((1, 2, 3))))
    if len(light) and light.max() > limits.jump:
        found.append(f"its brightness jumps by {light.max():.0f} at frame {int(light.argmax()) + 1}")
    return Verdict(not found, tuple(found))


def _longest_still(still: np.ndarray, actions: np.ndarray | None) -> int:
    """Length of the longest run of still steps in which actions change, or are not known."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(int), [0]])))
    runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return max((b - a for a, b in runs if actions is None or np.ptp(actions[a:b], axis=0).max() > 1e-6), default=0)


class Familiarity:
    """Whether frames are like those that a tokenizer was trained on, by its own statistics.

    A frame is unlike them if the tokenizer cannot give it back as well as theirs, or codes it far outside their
    latents.

    Args:
        tokenizer: of the world model. reference: (n, H, W, 3) uint8, of its task, such as the start windows'.
        slack: by what factor both may be worse than the worst frame of the reference.
    """

    def __init__(self, tokenizer: Tokenizer, reference: np.ndarray, slack: float = 1.5) -> None:
        if len(reference) < 2:
            raise ValueError("two frames at least are needed to know what is usual")
        self._tokenizer = tokenizer
        latents, errors = self._look(reference)
        self._mean = latents.mean(0, keepdims=True)
        self._deviation = latents.std(0, keepdims=True) + 0.1 * latents.std() + 1e-6
        self.most_error = float(errors.max()) * slack
        self.most_distance = float(self._distance(latents).max()) * slack

    def check(self, frames: np.ndarray) -> Verdict:
        """Whether a video (n, H, W, 3) uint8 shows what the model knows."""
        latents, errors = self._look(frames)
        found = []
        if not np.isfinite(errors).all() or not np.isfinite(latents).all():
            return Verdict(False, ("the tokenizer makes no finite numbers of it",))
        if errors.max() > self.most_error:
            at = int(errors.argmax())
            found.append(
                f"frame {at} is not what the tokenizer knows: error {errors[at]:.1f}, usual {self.most_error:.1f}"
            )
        distances = self._distance(latents)
        if distances.max() > self.most_distance:
            at = int(distances.argmax())
            found.append(
                f"latents of frame {at} lie {distances[at]:.1f} deviations away, usual {self.most_distance:.1f}"
            )
        return Verdict(not found, tuple(found))

    def _distance(self, latents: np.ndarray) -> np.ndarray:
        """(n,): root mean square distance from the mean latent, in deviations."""
        found: np.ndarray = np.sqrt(np.square((latents - self._mean) / self._deviation).mean(1))
        return found

    @torch.inference_mode()
    def _look(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latents (n, k) and root mean square errors (n,), of 255, of frames coded one by one."""
        latents, errors = [], []
        for begin in range(0, len(frames), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(frames[begin : begin + BATCH]))
            coded = encode(self._tokenizer, batch, batch.device)
            back = self._tokenizer.decode(coded[:, None])[:, 0].float().cpu()
            latents.append(coded.flatten(1).float().cpu().numpy())
            errors.append((back - batch.float()).square().mean((1, 2, 3)).sqrt().numpy())
        return np.concatenate(latents), np.concatenate(errors)


def join(verdicts: Sequence[Verdict]) -> Verdict:
    """All of them: refused if one refuses."""
    reasons = tuple(reason for verdict in verdicts for reason in verdict.reasons)
    return Verdict(all(verdict.passed for verdict in verdicts), reasons)
