"""What a tokenizer for any video is trained on: four ways in which decoded frames may differ from real ones.

Source: the losses of Cosmos (arXiv 2501.03575, §4), in two stages: first pixels and features, then motion and texture
too. Its VGG-19 and its flow network are ``perceptual`` and ``flow`` here; there is no adversarial loss.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from procosm.world_model.settings import Settings, SettingsError
from procosm.world_model.tokenizer.bottleneck import FSQ
from procosm.world_model.tokenizer.flow import flicker
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.perceptual import GaborFeatures, feature_distance, gram_distance

Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class ReconstructionWeights(Settings):
    """Weight of each part of the loss; one of 0 is left out and costs nothing."""

    pixels: Weight = 1.0
    """Of the mean absolute difference of pixels, in a range of 2."""
    perceptual: Weight = 0.1
    """Of the difference of Gabor features."""
    flow: Weight = 0.0
    """Of errors that flicker against the optical flow of the real frames."""
    gram: Weight = 0.0
    """Of the difference of the Gram matrices of Gabor features."""
    uneven: Weight = 1.0
    """Of tokens being used unevenly; of discrete tokenizers alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixels + self.perceptual + self.gram == 0:
            raise SettingsError("a loss without --pixels, --perceptual and --gram says nothing of a picture")


class ReconstructionLoss(nn.Module):
    """``loss, metrics`` of decoding what was encoded."""

    def __init__(self, weights: ReconstructionWeights, tokenizer: CausalTokenizer) -> None:
        super().__init__()
        self.weights, self.tokenizer = weights, tokenizer
        self.features = GaborFeatures()

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of uint8 frames (b, t, h, w, 3); one frame has no flow."""
        x = self.tokenizer.pixels(frames)
        z, bottleneck = self.tokenizer.unrounded(x), self.tokenizer.bottleneck
        decoded = self.tokenizer.to_pixels(bottleneck(z)).to(x.dtype)
        parts = {"pixels": (decoded - x).abs().mean()}
        weights = self.weights
        if weights.uneven and isinstance(bottleneck, FSQ):
            parts["uneven"] = bottleneck.unevenness(z)
        if weights.perceptual or weights.gram:
            with torch.no_grad():
                wanted = self.features(x.transpose(1, 2).flatten(0, 1))
            found = self.features(decoded.transpose(1, 2).flatten(0, 1))
            if weights.perceptual:
                parts["perceptual"] = feature_distance(found, wanted).mean()
            if weights.gram:
                parts["gram"] = gram_distance(found, wanted).mean()
        if weights.flow and x.shape[2] > 1:
            parts["flow"] = flicker(decoded, x)
        loss = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
        error = (decoded.detach() - x).square().mean()
        return loss, {"loss": loss.detach(), "mse": error} | {name: part.detach() for name, part in parts.items()}
