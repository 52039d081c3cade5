"""How far a dream drifts from held-out reality under the same actions, by horizon, beside what must be worse.

Axis letters: n window, t step, h w pixels, c channel, s true state, a action.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from procosm.agents.judge.intervals import estimate
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import DatasetError
from procosm.world_model.evaluation.open_loop import Recorded, Shown, compared, imagine, mean_square
from procosm.world_model.interface import Condition, Prediction

FrameScore = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(n,) scores of seen, true and last given (n, h, w, 3) uint8 frames."""
METHODS = ("dream", "shuffled actions", "copy last frame", "tokenizer")
"""What is scored; ``tokenizer`` encodes and decodes the true frame: the best the decoder allows."""


@dataclass(frozen=True)
class Windows:
    """Stretches of held-out episodes; a window shorter than the horizon is padded and masked.

    Attributes:
        frames: (n, context + horizon, h, w, 3) uint8. actions: (n, horizon, a) float32.
        signals: what else was logged: (n, 1 + horizon, …) from the last context frame on, such as ``state``, or
            (n, horizon, …), such as ``reward``.
        steps: (n,) int64, how many of the horizon's steps are real. ended: (n,) bool, whether the last of them ended
            the episode for good.
        texts: (n,) str, what was asked for in each window's episode.
    """

    frames: np.ndarray
    actions: np.ndarray
    signals: dict[str, np.ndarray]
    steps: np.ndarray
    ended: np.ndarray
    texts: np.ndarray

    @classmethod
    def stack(cls, windows: "Sequence[Windows]") -> "Windows":
        """Single windows, as ``window`` cuts them, side by side."""
        names = [field.name for field in fields(cls) if field.name != "signals"]
        signals = {name: np.stack([one.signals[name] for one in windows]) for name in windows[0].signals}
        return cls(**{name: np.stack([getattr(one, name) for one in windows]) for name in names}, signals=signals)


def window(episode: Episode, first: int, context: int, horizon: int) -> Windows:
    """One window without its axis n: the context begins at frame ``first``."""
    now = first + context - 1
    real = min(horizon, len(episode.actions) - now)
    pad = horizon - real
    return Windows(
        _padded(episode.frames[first : now + real + 1], pad),
        _padded(episode.actions[now : now + real], pad),
        {
            name: _padded(values[now : now + real + (len(values) > len(episode.actions))], pad)
            for name, values in episode.signals.items()
        },
        np.array(real),
        np.array(episode.terminated and now + real == len(episode.actions)),
        np.array(episode.text),
    )


def choose_windows(episodes: Sequence[Episode], context: int, horizon: int, count: int, seed: int) -> Windows:
    """Up to ``count`` windows, drawn without replacement from every possible start in ``episodes``.

    Raises:
        DatasetError: no episode outlasts the context.
    """
    starts = [(episode, first) for episode in episodes for first in range(len(episode.actions) - context + 1)]
    if not starts:
        raise DatasetError(
            f"no held-out episode has more than {context} frames, so nothing can be compared with it: collect again"
        )
    chosen = np.random.default_rng(seed).permutation(len(starts))[:count]
    return Windows.stack([window(episode, first, context, horizon) for episode, first in (starts[i] for i in chosen)])


def _padded(values: np.ndarray, pad: int) -> np.ndarray:
    """``values`` with its last entry repeated ``pad`` times along time."""
    return np.concatenate((values, np.repeat(values[-1:], pad, axis=0))) if pad else values


def predictions(
    model: WorldModel, context: Tensor, actions: np.ndarray, condition: Condition | None = None
) -> Iterator[Prediction]:
    """Dream under (n, t, a) actions from (n, context, c, h, w) latents: what each step leads to."""
    return imagine(model.dynamics, context, torch.from_numpy(actions).to(context.device), condition)


def open_loop(
    model: WorldModel,
    windows: Windows,
    state_scale: np.ndarray | None,
    seed: int,
    further: Mapping[str, FrameScore] | None = None,
) -> list[dict[str, object]]:
    """Error by horizon of the dream and its controls.

    ``pixel_mse`` counts colours from 0 to 1, ``psnr_db`` is its peak signal-to-noise ratio, ``latent_mse`` is between
    standardised latents, ``state_nrmse`` divides each number of the true state by its deviation in held-out data.
    Copying the last frame keeps the *true* last state, which no model is given.

    Args:
        state_scale: (s,) deviations; None where no state was logged or the model tells none: it is then not compared.
        seed: of the action shuffle and the intervals.
        further: scores of frames by name, beside those above; NaN where one is not defined.

    Returns:
        one row for each horizon, method and metric, with a 95 % interval over windows.
    """
    context, stated = model.dynamics.context, state_scale is not None and "state" in model.dynamics.readouts
    states = windows.signals["state"] if stated else None
    rows: list[dict[str, object]] = []
    for t, step in enumerate(compared(model.dynamics, _recorded(model, windows, states, seed))):
        there = step.there.cpu().numpy()
        if not there.any():
            break
        frames, last = windows.frames[:, context + t], windows.frames[:, context - 1]
        true = frames, step.true.latents, _numpy(step.true.reading)
        seen = {
            "dream": _seen(model, step.shown["dream"]),
            "shuffled actions": _seen(model, step.shown["shuffled"]),
            "copy last frame": (last, step.shown["copy"].latents, None if states is None else states[:, 0]),
            "tokenizer": (decode(model, step.true.latents), step.true.latents, None),
        }
        for method in METHODS:
            scores = errors(seen[method], true, state_scale)
            for name, score in (further or {}).items():
                scores[name] = score(seen[method][0], frames, last)
            for metric, values in scores.items():
                defined = there & ~np.isnan(values)
                if not defined.any():
                    continue
                scored = estimate(values[defined], seed, least=0.0)
                rows.append(
                    {"horizon": t + 1, "method": method, "metric": metric, "value": scored.mean}
                    | {"low": scored.low, "high": scored.high, "n": scored.n}
                )
    return rows


def _recorded(model: WorldModel, windows: Windows, states: np.ndarray | None, seed: int) -> Recorded:
    """Windows as the world model's own evaluator takes them, actions shuffled with ``seed``."""
    latents, (count, horizon) = model.encode(windows.frames), windows.actions.shape[:2]
    shuffle = np.random.default_rng(seed).permutation(count)
    parts = windows.actions, windows.steps[:, None] > np.arange(horizon), shuffle
    actions, there, order = (torch.from_numpy(each).to(latents.device) for each in parts)
    condition = model.text_condition(windows.texts.tolist())
    if states is None:
        return Recorded(latents, actions, there, order, condition)
    true = torch.from_numpy(states[:, 1:]).to(latents.device)
    return Recorded(latents, actions, there, order, condition, "state", true)


def _seen(model: WorldModel, shown: Shown) -> tuple[np.ndarray, Tensor, np.ndarray | None]:
    """Frames, latents, and what is read of it where that is compared, of one step of a dream."""
    return decode(model, shown.latents), shown.latents, _numpy(shown.reading)


def _numpy(reading: Tensor | None) -> np.ndarray | None:
    return None if reading is None else reading.cpu().numpy()


@torch.inference_mode()
def decode(model: WorldModel, latents: Tensor) -> np.ndarray:
    """(n, c, h', w') latents to (n, h, w, 3) uint8 frames."""
    return model.tokenizer.decode(latents[:, None])[:, -1].cpu().numpy()


def errors(
    seen: tuple[np.ndarray, Tensor, np.ndarray | None],
    truth: tuple[np.ndarray, Tensor, np.ndarray | None],
    state_scale: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """(n,) errors of frames, latents and (where it is told, and known) the state, by metric."""
    found = {
        "pixel_mse": pixel_mse(seen[0], truth[0]),
        "psnr_db": psnr_db(seen[0], truth[0]),
        "latent_mse": mean_square(seen[1] - truth[1]).double().cpu().numpy(),
    }
    if seen[2] is not None and truth[2] is not None and state_scale is not None:
        scaled = (seen[2].astype(np.float64) - truth[2]) / state_scale
        found["state_nrmse"] = np.sqrt(np.square(scaled).mean(axis=1))
    return found


def pixel_mse(seen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n,) mean squared difference of (n, h, w, 3) uint8 frames, colours counting from 0 to 1."""
    difference = (seen.astype(np.float32) - truth.astype(np.float32)) / 255.0
    return np.square(difference).mean(axis=(1, 2, 3), dtype=np.float64)


def psnr_db(seen: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n,) peak signal-to-noise ratio of (n, h, w, 3) uint8 frames, decibels."""
    # One grey level in one sample of the frame is the least error that 8-bit frames can show.
    return -10.0 * np.log10(np.maximum(pixel_mse(seen, truth), (1 / 255) ** 2 / truth[0].size))
