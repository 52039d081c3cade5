"""One dial for size: every preset is the same pipeline, longer and wider."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from procosm.world_model.diffusion.dynamics import DynamicsConfig
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.settings import Count, Positive, Settings, SettingsError
from procosm.world_model.tokenizer.loss import TokenizerLossConfig
from procosm.world_model.tokenizer.model import TokenizerConfig
from procosm.world_model.training.stage import StageConfig


@dataclass(frozen=True)
class Preset(Settings):
    """Everything that decides a training run but the data and the seed."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """The tokenizer's shape; its frame size follows the data."""
    tokenizer_loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    """The tokenizer's loss."""
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    """The dynamics' shape and loss."""
    tokenize: StageConfig = field(default_factory=lambda: StageConfig(800, 32, 1.5e-3))
    """First stage: the tokenizer and the state head."""
    read: StageConfig = field(default_factory=lambda: StageConfig(1500, 256, 1e-3))
    """Second stage: the state head alone, on the finished tokenizer's latents."""
    settle: StageConfig = field(default_factory=lambda: StageConfig(2000, 512, 4e-3))
    """Beside it: the manifold of these latents."""
    diffuse: StageConfig = field(default_factory=lambda: StageConfig(1200, 128, 1.5e-3))
    """Third stage: denoising one step ahead."""
    unroll: StageConfig = field(default_factory=lambda: StageConfig(300, 64, 4e-4))
    """Fourth stage: self-forced, the model living on its own predictions."""
    horizon: Count = 6
    """Steps of an unrolled window."""
    growth_gate: Positive | None = 0.5
    """Largest relative error of the constant-action growth test at any horizon; above it the unrolled stage runs again.
    None: nothing is tested."""
    extensions: Annotated[int, Ge(0)] = 2
    """How often the unrolled stage may run again before training stops and says that the gate was missed."""


_TINY = TransformerConfig(width=32, layers=1, heads=2, mlp_ratio=2, adaln_rank=4)

PRESETS = {
    "debug": Preset(
        tokenizer=TokenizerConfig(width=8, blocks=0),
        dynamics=DynamicsConfig(transformer=_TINY),
        tokenize=StageConfig(20, 4, 1e-3),
        read=StageConfig(20, 8, 1e-3),
        settle=StageConfig(20, 8, 1e-3),
        diffuse=StageConfig(20, 8, 1e-3),
        unroll=StageConfig(10, 4, 3e-4),
        horizon=2,
        growth_gate=None,
    ),
    "small": Preset(),
    "fast": Preset(
        dynamics=DynamicsConfig(transformer=TransformerConfig(patch=4)),
        diffuse=StageConfig(2000, 128, 1.5e-3),
        unroll=StageConfig(500, 64, 4e-4),
    ),
    "medium": Preset(
        tokenize=StageConfig(2400, 32, 1.5e-3),
        diffuse=StageConfig(2200, 128, 1.5e-3),
        unroll=StageConfig(500, 64, 4e-4),
        horizon=12,
    ),
    "base": Preset(
        dynamics=DynamicsConfig(transformer=TransformerConfig(width=192, layers=6, heads=6)),
        tokenize=StageConfig(6000, 64, 1e-3),
        diffuse=StageConfig(10000, 256, 1e-3),
        unroll=StageConfig(3000, 128, 3e-4),
        horizon=12,
    ),
    # Wide enough that most of a step is products of the kind that sparsity saves; few layers, to stay within an hour.
    "wide": Preset(
        dynamics=DynamicsConfig(transformer=TransformerConfig(width=1536, layers=2, heads=12)),
        diffuse=StageConfig(1200, 128, 3e-4),
        unroll=StageConfig(300, 64, 1e-4),
    ),
}


def preset(name: str) -> Preset:
    """The preset of this name."""
    if name not in PRESETS:
        raise SettingsError(f"no preset is called {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def check_frame_size(height: int, width: int, name: str | None = None) -> None:
    """Refuse frames that no model of a preset (by default: of any preset) learns from.

    Args:
        width: of all views together. name: the preset's.

    Raises:
        SettingsError: and the sizes that it can.
    """
    asked = list(PRESETS.values()) if name is None else [preset(name)]
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
    patch = sizes.dynamics.transformer.patch * height // sizes.tokenizer.latent_size
    return sizes.tokenizer.takes(height, width) and height % patch == 0 and width % patch == 0
