import pytest
import torch

from procosm.world_model.settings import SettingsError
from procosm.world_model.tokenizer.flow import flicker
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.perceptual import GaborFeatures, feature_distance, gram_distance
from procosm.world_model.tokenizer.rates import rate_config
from procosm.world_model.tokenizer.reconstruction import ReconstructionLoss, ReconstructionWeights

PARTS = ("pixels", "perceptual", "flow", "gram", "uneven")


@pytest.fixture(scope="module")
def tokenizer() -> CausalTokenizer:
    torch.manual_seed(0)
    return CausalTokenizer(rate_config("DV4x8x8", 32, 32, channels=8, blocks=0))


def clips(frames: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, frames, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("only", PARTS)
def test_each_part_alone_is_what_its_name_says_and_costs_nothing_where_its_weight_is_0(only, tokenizer):
    weights = dict.fromkeys(PARTS, 0.0) | {"pixels": float(only in ("flow", "uneven")), only: 0.7}
    frames = clips(5)
    loss, metrics = ReconstructionLoss(ReconstructionWeights(**weights), tokenizer)(frames)
    x = tokenizer.pixels(frames)
    decoded = tokenizer.to_pixels(tokenizer.to_latents(x))
    seen, wanted = (GaborFeatures()(part.transpose(1, 2).flatten(0, 1)) for part in (decoded, x))
    parts = {
        "pixels": (decoded - x).abs().mean(),
        "perceptual": feature_distance(seen, wanted).mean(),
        "gram": gram_distance(seen, wanted).mean(),
        "flow": flicker(decoded, x),
        "uneven": tokenizer.bottleneck.unevenness(tokenizer.unrounded(x)),
    }
    torch.testing.assert_close(loss, sum(weights[name] * part for name, part in parts.items()))
    assert set(metrics) == {"loss", "mse", "pixels", only}
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tokenizer.parameters())


def test_an_image_has_no_flow(tokenizer):
    loss, metrics = ReconstructionLoss(ReconstructionWeights(flow=1.0), tokenizer)(clips(1))
    assert loss.isfinite() and "flow" not in metrics


def test_a_loss_that_says_nothing_of_a_picture_is_refused():
    with pytest.raises(SettingsError, match="--pixels"):
        ReconstructionWeights(pixels=0.0, perceptual=0.0, flow=1.0)
    with pytest.raises(SettingsError, match="--gram"):
        ReconstructionWeights(gram=-1.0)
