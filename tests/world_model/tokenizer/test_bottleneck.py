import itertools

import numpy as np
import pytest
import torch

from procosm.world_model.errors import ProcosmError
from procosm.world_model.tokenizer.bottleneck import COSMOS_LEVELS, FSQ, codebook_use, even_codes
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig


def bounded(z: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The soft part, in units of a level, as appendix A.1 of the paper has it; z is (…, channels)."""
    half_l = (levels - 1) * (1 - 1e-3) / 2
    offset = np.where(levels % 2 == 1, 0.0, 0.5)
    return np.tanh(z + np.tan(offset / half_l)) * half_l - offset


def last(codes: torch.Tensor) -> np.ndarray:
    """(b, c, t, h, w) as (…, c)."""
    return codes.movedim(1, -1).numpy()


@pytest.mark.parametrize("levels", [(3,), (2, 4), COSMOS_LEVELS])
def test_codes_and_tokens_against_the_papers_formula(levels):
    torch.manual_seed(0)
    z = 2 * torch.randn(3, len(levels), 2, 5, 7)
    counts = np.array(levels)
    rounded = np.round(bounded(last(z).astype(np.float64), counts))
    quantizer = FSQ(levels)
    codes = quantizer(z)
    np.testing.assert_allclose(last(codes), rounded / (counts // 2), atol=1e-6)
    basis = np.concatenate([[1], np.cumprod(counts[:-1])])
    np.testing.assert_array_equal(quantizer.tokens(codes).numpy(), ((rounded + counts // 2) * basis).sum(-1))


def test_every_code_is_reached_by_some_latent_and_no_other_is():
    counts = np.array(COSMOS_LEVELS)
    digits = np.array(list(itertools.product(*map(range, COSMOS_LEVELS)))) - counts // 2
    sweep = np.linspace(-6, 6, 20001)
    reaching = [
        {value: sweep[np.round(bounded(sweep[:, None], counts[i : i + 1]))[:, 0] == value].mean() for value in column}
        for i, column in enumerate(map(np.unique, digits.T))
    ]
    z = np.stack([np.vectorize(reaching[i].get)(digits[:, i]) for i in range(6)], axis=1)
    quantizer = FSQ(COSMOS_LEVELS)
    codes = quantizer(torch.from_numpy(z).float().T[None, :, None, None])
    tokens = quantizer.tokens(codes).flatten()
    assert quantizer.vocabulary == 64000 and torch.equal(tokens.sort().values, torch.arange(64000))
    torch.testing.assert_close(quantizer.codes(quantizer.tokens(codes)), codes, atol=1e-6, rtol=0)
    extreme = quantizer.tokens(quantizer(torch.tensor([-1e9, 1e9]).view(2, 1, 1, 1, 1).expand(2, 6, 1, 1, 1)))
    assert extreme.flatten().tolist() == [0, 63999]


def test_gradients_are_those_of_the_soft_part_as_finite_differences_have_them():
    torch.manual_seed(0)
    counts = np.array(COSMOS_LEVELS)
    z = torch.randn(2, 6, 1, 3, 3, requires_grad=True)
    upstream = torch.randn(2, 6, 1, 3, 3)
    (FSQ(COSMOS_LEVELS)(z) * upstream).sum().backward()
    at, step = last(z.detach()).astype(np.float64), 1e-5
    slope = (bounded(at + step, counts) - bounded(at - step, counts)) / (2 * step) / (counts // 2)
    np.testing.assert_allclose(last(z.grad), slope * last(upstream), rtol=1e-4, atol=1e-6)


def test_numbers_that_use_all_codes_alike_are_even_and_others_are_not():
    quantizer = FSQ(COSMOS_LEVELS)
    even = even_codes(COSMOS_LEVELS)
    assert even.shape == (512, 6)
    for column, level in zip((even * quantizer.half_width.flatten()).round().long().T, COSMOS_LEVELS, strict=True):
        share = torch.bincount(column + level // 2, minlength=level) / len(even)
        torch.testing.assert_close(share, torch.full((level,), 1 / level), atol=0.02, rtol=0)
    torch.manual_seed(0)

    def unevenness(z: torch.Tensor) -> float:
        return quantizer.unevenness(z.T[None, :, None, None]).item()

    spread = unevenness(torch.atanh(torch.rand(2000, 6) * 1.98 - 0.99))
    narrow, together = unevenness(0.1 * torch.randn(2000, 6)), unevenness(torch.randn(2000, 1).expand(-1, 6))
    assert 0 <= spread < 0.04 and narrow > 10 * spread and together > 3 * spread


def test_what_is_trained_to_be_even_uses_nearly_all_codes():
    """Numbers in a narrow bent cloud, moved by a network that minds nothing but their evenness."""
    torch.manual_seed(0)
    quantizer = FSQ((5, 5, 5))
    x = torch.randn(4000, 6) @ torch.randn(6, 3) * 0.1
    net = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 3))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)

    def used() -> float:
        codes = quantizer(net(x).detach().T[None, :, None, None])
        return codebook_use(quantizer.tokens(codes).flatten(), quantizer.vocabulary)["share used"]

    before = used()
    for step in range(150):
        optimizer.zero_grad()
        quantizer.unevenness(net(x[step % 8 :: 8]).T[None, :, None, None]).backward()
        optimizer.step()
    assert before < 0.2 and used() > 0.95


def discrete(**kwargs) -> CausalTokenizer:
    torch.manual_seed(0)
    model = CausalTokenizer(
        TokenizerConfig(
            frame_height=32, frame_width=32, latent_size=4, width=8, levels=COSMOS_LEVELS, latent_channels=6, **kwargs
        )
    )
    model.fit_latents(torch.randn(2, 6, 3, 4, 4))
    return model


@pytest.mark.parametrize("compression", [1, 4, 8])
def test_tokens_of_a_video_are_all_its_latents_hold(compression):
    model = discrete(temporal_compression=compression)
    assert (model.spec.vocabulary, model.spec.frames_per_latent) == (64000, compression)
    latents = model.encode(torch.randint(0, 256, (2, 1 + 2 * compression, 32, 32, 3), dtype=torch.uint8))
    tokens = model.quantize(latents)
    assert tokens.dtype == torch.int64 and tokens.shape == (2, 3, 4, 4) and len(tokens.unique()) > 1
    torch.testing.assert_close(model.dequantize(tokens), latents, atol=1e-6, rtol=0)
    noise = (torch.rand_like(latents) * 2 - 1) * 0.12 / model.std.transpose(0, 1)  # codes lie 0.25 apart and more
    assert torch.equal(model.quantize(model.dequantize(tokens) + noise), tokens)
    assert model.decode(model.dequantize(tokens)).shape == (2, 1 + 2 * compression, 32, 32, 3)


def test_what_is_no_token_and_who_has_none_is_said():
    for tokens in (torch.tensor([[[[64000]]]]), torch.tensor([[[[-1]]]]), torch.zeros(1, 1, 1, 1)):
        with pytest.raises(ProcosmError, match="from 0 to 63999"):
            discrete().dequantize(tokens)
    continuous = CausalTokenizer(TokenizerConfig(frame_height=32, frame_width=32, latent_size=4, width=8))
    assert continuous.spec.vocabulary is None
    with pytest.raises(ProcosmError, match="continuous"):
        continuous.quantize(torch.zeros(1, 1, 4, 4, 4))
    for wrong in ({"levels": (8, 8)}, {"levels": (64,) * 16, "latent_channels": 16}):
        with pytest.raises((ProcosmError, ValueError), match="levels"):
            TokenizerConfig(frame_height=32, frame_width=32, latent_size=4, **wrong)


@pytest.mark.parametrize("compression", [4, 8])
@pytest.mark.parametrize("frames", [0, 2, 3, 4, 8, 10])
def test_a_number_of_frames_that_is_not_1_plus_k_n_is_refused_by_name(compression, frames):
    model = discrete(temporal_compression=compression)
    with pytest.raises(ProcosmError, match=rf"^{frames} frames .* 1 \+ {compression} n frames"):
        model.encode(torch.zeros(1, frames, 32, 32, 3, dtype=torch.uint8))
