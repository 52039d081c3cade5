"""One dial for size: every preset is a recipe for each part of a world model, see ``recipes``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from procosm.world_model import registry
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.recipes import Stage

Family = Literal["diffusion", "autoregressive"]
"""How the next frame is predicted: by denoising it, or token by token."""


@dataclass(frozen=True)
class Preset:
    """Everything that decides a training run but the data and the seed.

    Attributes:
        tokenizer, dynamics: configs of both parts; what follows from the data is put in when they are built.
        stages: by name, in order.
    """

    tokenizer: Any
    dynamics: Any
    stages: Mapping[str, Stage]

    def with_stage(self, stage: str, **settings: Any) -> "Preset":
        """The same with other settings of a stage."""
        return replace(self, stages={**self.stages, stage: replace(self.stages[stage], **settings)})

    def scaled(self, effort: float) -> "Preset":
        """The same with ``effort`` times as many steps in every stage, one at least."""
        steps = {name: max(1, round(effort * stage.steps)) for name, stage in self.stages.items()}
        return replace(self, stages={name: replace(each, steps=steps[name]) for name, each in self.stages.items()})


PRESETS = list(registry.KINDS["tokenizer"]["causal"].recipes)
"""Names of sizes."""


def preset(name: str, tokenizer: str = "causal", dynamics: str = "diffusion", further: Sequence[str] = ()) -> Preset:
    """The preset of this name, for these kinds of both parts.

    Args:
        further: names of stages that are run beside its own, after them.

    Raises:
        SettingsError: there is none, or it has no such stage.
    """
    parts = [registry.kind("tokenizer", tokenizer), registry.kind("dynamics", dynamics)]
    names = [each for each in parts[0].recipes if each in parts[1].recipes]
    if name not in names:
        raise SettingsError(f"no preset is called {name!r}: choose one of {', '.join(names)}")
    frames, steps = (part.recipes[name] for part in parts)
    if missing := [each for each in further if each not in steps.further]:
        raise SettingsError(f"{dynamics} dynamics have no stage {', '.join(missing)}: leave it out, or take diffusion")
    added = {each: steps.further[each] for each in further}
    return Preset(replace(frames.config, **steps.tokenizer), steps.config, {**frames.stages, **steps.stages, **added})


def check_frame_size(height: int, width: int, name: str | None = None, family: Family = "diffusion") -> None:
    """Refuse frames that no model of a preset (by default: of any preset of a family) learns from.

    Args:
        width: of all views together. name: the preset's.

    Raises:
        SettingsError: and the sizes that it can; or the family has no such preset.
    """
    asked = [preset(each, dynamics=family) for each in (PRESETS if name is None else [name])]
    if any(_takes(each, height, width) for each in asked):
        return
    whose = f"preset {name}" if name else "any preset"
    heights = sorted({size for each in asked for size in range(32, 257) if _takes(each, size, size)})
    widths = [side for side in range(32, 1025) if any(_takes(each, height, side) for each in asked)]
    asked_for = height if height == width else f"{height}x{width}"
    raise SettingsError(
        f"--frame-size {asked_for}: no world model of {whose} learns from such frames; "
        f"give {', '.join(map(str, heights))}"
        + (f", or {height}x{widths[0]} and so on by {widths[1] - widths[0]}" if widths else "")
    )


def _takes(sizes: Preset, height: int, width: int) -> bool:
    """Whether frames can become latents, and these tokens."""
    patch = sizes.dynamics.patch * height // sizes.tokenizer.latent_size
    return sizes.tokenizer.takes(height, width) and height % patch == 0 and width % patch == 0
