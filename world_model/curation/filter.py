"""Which clips are left out, and why: what is measured of each, and the limits that a user may move."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from procosm.world_model.curation import quality
from procosm.world_model.curation.consistency import Answer, clock_drift, longest_still
from procosm.world_model.curation.motion import Motion, measure_motion
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.task import Task
from procosm.world_model.settings import Settings

Part = Annotated[float, Interval(ge=0, le=1)]
Amount = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class FilterConfig(Settings):
    """Limits beyond which a clip is left out."""

    static: Amount = 0.02
    """Least mean change of brightness between frames, of 255: below it nothing moves."""
    frozen: Part = 0.2
    """Largest share of steps in one run of equal frames while the actions change."""
    shake: Amount = 0.04
    """Largest jitter of the camera, root mean square, as a share of the picture."""
    glitch: Amount = 5.0
    """Largest ratio of what sets a frame apart from both its neighbours to what sets these apart."""
    blur: Part = 0.25
    """Largest blur, 0 sharp to 1."""
    dark: Part = 0.22
    """Least brightness of the brightest tenth of the pixels, 0 to 1."""
    blank: Part = 0.08
    """Least contrast, 0 to 1."""
    text: Part = 0.15
    """Largest share of the width that a line of still text may take."""
    agreement: Annotated[float, Interval(ge=-1, le=1)] = 0.5
    """Least agreement of logged actions with those that the frames suggest: 1 as other logs, 0 as shuffled actions."""
    skew: Part = 0.15
    """Largest gain in that agreement from moving the actions in time."""
    drift: Amount = 0.75
    """Largest distance of a timestamp from the log's clock, in steps."""


def measure_pictures(episode: Episode, task: Task) -> tuple[dict[str, float], list[str]]:
    """What a clip's pictures show, and what its cameras do; of several views, the worst counts."""
    found: dict[str, list[float]] = {}
    tags = []
    for name, frames in task.split(episode.frames).items():
        motion: Motion = measure_motion(frames)
        prefix = f"{name}: " if len(task.views) > 1 else ""
        tags += [f"{prefix}{tag}" for tag in motion.tags()]
        for score, value in {
            "change": float(motion.change.mean()),
            "activity": float(motion.activity.mean()),
            "frozen": longest_still(motion.change, episode.actions),
            "shake": motion.shake,
            "glitch": motion.glitch,
            "blur": quality.blur(frames),
            "brightness": quality.brightness(frames),
            "contrast": quality.contrast(frames),
            "text": quality.overlay_text(frames),
        }.items():
            found.setdefault(score, []).append(value)
    best = {"brightness": min, "contrast": min, "change": max, "activity": max}
    return {name: float(best.get(name, max)(values)) for name, values in found.items()}, tags


def measure_actions(answer: Answer | None, times_s: np.ndarray, dt_s: float) -> dict[str, float]:
    """How a clip's actions and its clock fit its frames."""
    found = {"drift": clock_drift(times_s, dt_s)}
    if answer is not None:
        found |= {"agreement": answer.agreement, "lag": float(answer.lag), "skew": answer.gain}
    return found


def reasons(scores: Mapping[str, float], limits: FilterConfig) -> list[str]:
    """Why a clip is left out, in words, the first reason first; nothing for one that is kept."""
    above = {
        "frozen": ("frozen", limits.frozen),
        "shake": ("shaky camera", limits.shake),
        "glitch": ("foreign frame", limits.glitch),
        "blur": ("blurred", limits.blur),
        "text": ("overlay text", limits.text),
        "drift": ("dropped or late frames", limits.drift),
    }
    below = {
        "change": ("static", limits.static),
        "brightness": ("dark", limits.dark),
        "contrast": ("blank", limits.blank),
    }
    found = [f"{word} ({scores[name]:.3g})" for name, (word, limit) in above.items() if scores.get(name, 0) > limit]
    found += [f"{word} ({scores[name]:.3g})" for name, (word, limit) in below.items() if scores.get(name, 1) < limit]
    if "agreement" in scores:
        if scores["lag"] and scores["skew"] > limits.skew:
            found.append(f"time skew ({scores['lag']:+.0f} steps)")
        elif scores["agreement"] < limits.agreement:
            found.append(f"frames do not answer to actions ({scores['agreement']:.2f})")
    return found
