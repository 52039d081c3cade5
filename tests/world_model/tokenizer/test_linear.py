"""The linear path against principal components from NumPy, found on pixels: the wavelet keeps distances."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.windows import tabulate
from procosm.world_model.errors import ProcosmError
from procosm.world_model.tokenizer.linear import LinearPath
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.tokenizer.rates import rate, rate_config
from procosm.world_model.tokenizer.recipe import Tokenize
from procosm.world_model.training.recipes import Training


def smooth(frames: int, count: int = 40) -> torch.Tensor:
    """(count, 3, frames, 32, 32) in [-1, 1]: noise without fine detail, that changes slowly."""
    rough = torch.randn(count, 3, frames, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(2)
    return torch.nn.functional.interpolate(rough, size=(frames, 32, 32), mode="trilinear").div(6).clamp(-1, 1)


def groups(x: torch.Tensor, k: int, side: int) -> np.ndarray:
    """(groups, numbers): pixels of the k frames and the patch behind each latent, the first frame k times."""
    whole = torch.cat([x[:, :, :1].expand(-1, -1, k - 1, -1, -1), x], dim=2)
    parts = whole.unflatten(2, (-1, k)).unflatten(4, (-1, side)).unflatten(6, (-1, side))
    return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(0, 3).double().numpy()


@pytest.mark.parametrize("name", ["CI8x8", "CV4x8x8", "CV8x8x8"])
def test_a_continuous_tokenizer_begins_with_the_error_of_principal_components(name):
    torch.manual_seed(0)
    model, asked = CausalTokenizer(rate_config(name, 32, 32, channels=8, blocks=0)), rate(name)
    x = smooth(1 + 2 * asked.frames, count=10) if asked.frames > 1 else smooth(1)
    model.fit_linear(x)
    seen = groups(x, asked.frames, asked.pixels)
    sizes = np.linalg.svd(seen - seen.mean(0), compute_uv=False)
    expected = np.square(sizes[16:]).sum()
    # Of the k copies of a first frame the tokenizer gives back the last, which stands for all of them here.
    decoded = groups(model.to_pixels(model.to_latents(x)).detach(), asked.frames, asked.pixels)
    np.testing.assert_allclose(np.square(decoded - seen).sum(), expected, rtol=0.05 if asked.frames > 1 else 1e-3)


def test_tokens_begin_near_their_components_and_at_all_levels():
    torch.manual_seed(0)
    model = CausalTokenizer(rate_config("DI8x8", 32, 32, channels=8, blocks=0))
    x = smooth(1, count=200)
    model.fit_linear(x)
    z = model.to_latents(x)
    error = (model.to_pixels(z) - x).square().mean()
    best = groups(x, 1, 8)
    sizes = np.linalg.svd(best - best.mean(0), compute_uv=False)
    lost, kept = np.square(sizes[6:]).sum() / best.size, np.square(sizes[:6]).sum() / best.size
    # The best 5 levels for a normal number leave 0.08 of its variance (Max 1960, table 1), the best 8 leave 0.035.
    assert lost < error < lost + 0.16 * kept
    tokens = model.quantize(model.encode(((x.movedim(1, -1) + 1) * 127.5).round().to(torch.uint8)))
    for level in model.config.levels:
        share = torch.bincount((tokens % level).flatten(), minlength=level) / tokens.numel()
        assert share.min() > 0.25 / level
        tokens = tokens // level


def test_fewer_groups_than_channels_are_still_fitted():
    path = LinearPath(3, 16, 1, 2)
    path.fit(torch.randn(1, 3, 1, 4, 4), torch.nn.Identity())
    assert all(p.isfinite().all() for p in path.parameters())


def test_who_has_no_linear_path_holds_nothing_of_it():
    model = CausalTokenizer(TokenizerConfig(frame_height=32, frame_width=32, latent_size=4, width=8))
    assert not [name for name in model.state_dict() if "linear" in name]
    with pytest.raises(ProcosmError, match="linear_path"):
        model.fit_linear(torch.zeros(1, 3, 1, 32, 32))


def test_a_trained_tokenizer_goes_on_from_its_own_weights_and_not_from_components_again(tmp_path):
    frames = (smooth(1, count=24)[:, :, 0].permute(0, 2, 3, 1) * 127 + 128).to(torch.uint8).numpy()
    episode = Episode(frames, np.zeros((23, 1), np.float32), False, "train", signals={})
    config = TokenizerConfig(frame_height=32, frame_width=32, width=8, blocks=0, latent_size=4, linear_path=True)
    model, tables = CausalTokenizer(config), {"train": tabulate([episode], "train", 3)}
    training = Training(model, SimpleNamespace(context=3), tables, 0, tmp_path / "first")
    stage = Tokenize(2, 4, 1e-3)
    assert not model.trained
    stage.run("tokenizer", training)
    assert model.trained and model.linear.down.weight.abs().sum() > 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    before = [parameter.clone() for parameter in model.parameters()]
    replace(stage, steps=1, learning_rate=1e-12).run("tokenizer", replace(training, work=tmp_path / "second"))
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(model.parameters(), before, strict=True))
