import pytest
import torch
from torch import Tensor

from procosm.world_model.diffusion.manifold import NARROW, Manifold
from procosm.world_model.training.presets import preset
from procosm.world_model.training.stage import run_stage

SHAPE = (2, 4, 4)


def curve(n: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """(n, c, h, w): waves of one angle, the fast ones small: a curve in six axes, two of them wide."""
    angle = torch.rand(n, generator=torch.Generator().manual_seed(seed)) * 2 * torch.pi
    waves = torch.cat(
        [size * torch.stack([(k * angle).sin(), (k * angle).cos()]) for k, size in ((1, 1.0), (2, 0.1), (3, 0.1))]
    )
    return curve_axes(waves, shape) + 0.3


def curve_axes(along: Tensor, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """(6, n) coordinates in the space that the curve lies in to (n, c, h, w)."""
    mix = torch.randn(6, *shape, generator=torch.Generator().manual_seed(9))
    return torch.einsum("kn,kchw->nchw", along, mix)


def gaussian(n: int, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """(n, c, h, w) of five axes whose spreads go from .02 to 1, and noise to draw them back from."""
    g = torch.Generator().manual_seed(1)
    mix = torch.randn(5, *shape, generator=g) * torch.logspace(-1.7, 0, 5).view(5, 1, 1, 1)
    return torch.einsum("nk,kchw->nchw", torch.randn(n, 5, generator=g), mix), torch.randn(n, *shape, generator=g)


def test_until_it_is_fitted_every_latent_stays_as_it_is():
    torch.manual_seed(0)
    manifold = Manifold(SHAPE)
    with torch.no_grad():
        for p in manifold.parameters():
            p.add_(torch.randn_like(p))
    latents = torch.randn(7, *SHAPE)
    assert torch.equal(manifold(latents), latents)


@pytest.mark.parametrize("shape", [SHAPE, (4, 9, 9)], ids=["all axes", "more numbers than axes"])
def test_before_training_it_is_the_posterior_mean_of_gaussian_latents(shape):
    latents, noise = gaussian(3000, shape)
    manifold = Manifold(shape)
    manifold.fit([latents])
    off = latents[:50] + NARROW * noise[:50]
    flat, mean = latents.flatten(1).double(), latents.flatten(1).double().mean(0)
    covariance = (flat - mean).T @ (flat - mean) / (len(flat) - 1)
    noisy = covariance + NARROW**2 * torch.eye(len(mean), dtype=torch.double)
    expected = mean + (off.flatten(1).double() - mean) @ torch.linalg.solve(noisy, covariance)
    assert torch.allclose(manifold(off).flatten(1).double(), expected, atol=2e-5)


def test_trained_it_leads_back_to_a_curve_and_leaves_who_is_on_it(tmp_path):
    torch.manual_seed(0)
    train, held_out = curve(4000, SHAPE, 0), curve(500, SHAPE, 1)
    manifold, stage = Manifold(SHAPE), preset("small").stages["manifold"]
    manifold.fit([train])

    def left(offset: Tensor) -> float:
        """Distance from the curve after an offset, over that before."""
        with torch.no_grad():
            return float((manifold(held_out + offset) - held_out).norm() / offset.norm())

    anywhere = 0.05 * torch.randn(held_out.shape, generator=torch.Generator().manual_seed(2))
    in_its_axes = 0.05 * curve_axes(torch.randn(6, len(held_out), generator=torch.Generator().manual_seed(3)))
    linear, flat = left(anywhere), left(in_its_axes)

    def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        g = torch.Generator().manual_seed(step)
        return manifold.loss(train[torch.randint(len(train), (stage.batch,), generator=g)], g)

    run_stage("manifold", manifold, losses, stage, tmp_path / "manifold.safetensors")
    with torch.no_grad():
        moved = float((manifold(held_out) - held_out).square().mean().sqrt())
    # Of 32 numbers a curve leaves one free, the six axes that it lies in leave six, and within these the plain filter
    # leaves nearly all. Trained, it must go a quarter of the way at least in all directions, and half in those axes.
    six, one = (6 / 32) ** 0.5, (1 / 32) ** 0.5
    assert linear == pytest.approx(six, rel=0.05)
    assert one < left(anywhere) < 0.75 * six + 0.25 * one
    assert flat > 0.9
    assert left(in_its_axes) < 0.5 + 0.5 * (1 / 6) ** 0.5
    assert moved < 0.01


def test_the_loss_depends_on_its_generator_alone():
    manifold, latents = Manifold(SHAPE), curve(16, SHAPE, 0)
    manifold.fit([latents])
    first, second, other = (manifold.loss(latents, torch.Generator().manual_seed(seed))[0].item() for seed in (4, 4, 5))
    assert first == second != other


@pytest.mark.parametrize("bend", [0.0, 0.02], ids=["before training", "with any curvature"])
def test_however_far_a_latent_is_thrust_it_stays_where_real_ones_are(bend):
    torch.manual_seed(0)
    manifold, latents = Manifold(SHAPE), curve(500, SHAPE, 0)
    manifold.fit([latents])
    manifold.net[-1].weight.data.normal_(std=bend)

    def along(z: Tensor) -> Tensor:
        return (z.flatten(1) - manifold.mean) @ manifold.axes

    reach = torch.maximum(along(latents).amax(0), -along(latents).amin(0))
    with torch.no_grad():
        # What the network sees is within reach, so what it adds has a bound: the norms of its layers.
        size = (1.1 * reach[: manifold.wide] / manifold.spread[: manifold.wide].clamp_min(NARROW)).norm()
        for layer in (module for module in manifold.net if isinstance(module, torch.nn.Linear)):
            size = torch.linalg.matrix_norm(layer.weight, 2) * size + layer.bias.norm()
        out = latents
        for _ in range(2000):  # outwards in every step, as of a model that has lost its way
            out = manifold(1.2 * out + 0.1)
    assert (along(out).abs() <= 1.1 * reach + size + 1e-4).all()
    assert bend or size == 0
