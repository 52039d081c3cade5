"""The manifold on a surface whose nearest points are known, and as a part of a checkpoint."""

import gymnasium as gym
import pytest
import torch

import procosm.envs  # noqa: F401
from procosm.world_model import fit_manifold
from procosm.world_model.checkpoint import load, save
from procosm.world_model.interface import State, TaskError
from procosm.world_model.manifold import Manifold

SHAPE = (1, 4, 4)


def on_a_cylinder(n: int, seed: int) -> torch.Tensor:
    """(n, 1, 4, 4) latents: two numbers lie on a circle of radius 2, a third between -1 and 1, the others are 0."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(n, generator=generator)
    height = 2 * torch.rand(n, generator=generator) - 1
    rest = torch.zeros(n, 13)
    return torch.cat([2 * angle.cos()[:, None], 2 * angle.sin()[:, None], height[:, None], rest], 1).view(n, *SHAPE)


def from_the_cylinder(latents: torch.Tensor) -> torch.Tensor:
    """(n,) true distance from that surface."""
    x = latents.flatten(1)
    over = (x[:, 2].abs() - 1).clamp_min(0)
    return (x[:, 3:].square().sum(1) + (x[:, :2].norm(dim=1) - 2).square() + over.square()).sqrt()


@pytest.fixture(scope="module")
def cylinder() -> Manifold:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_manifold, "STEPS", 600)  # enough for so simple a surface
        return fit_manifold.fit(on_a_cylinder(4000, 0), on_a_cylinder(500, 1), codes=4)


def test_real_latents_stay_what_they_are(cylinder):
    real = on_a_cylinder(500, 2)
    same = (cylinder(real) == real).flatten(1).all(dim=1)
    assert same.float().mean() > 0.95


def test_what_has_left_the_surface_comes_back_to_it(cylinder):
    generator = torch.Generator().manual_seed(3)
    real = on_a_cylinder(500, 4)
    off = real + 0.3 * torch.randn(real.shape, generator=generator)
    assert from_the_cylinder(cylinder(off)).mean() < from_the_cylinder(off).mean() / 3
    # It comes back to where it left, not to just any real latent: the step along the surface stays small.
    slightly = real + 0.1 * torch.randn(real.shape, generator=generator)
    assert (cylinder(slightly) - real).flatten(1).norm(dim=1).mean() < 0.3


def test_nothing_is_ever_far_away(cylinder):
    wild = 1e4 * torch.randn(200, *SHAPE, generator=torch.Generator().manual_seed(5))
    assert cylinder(wild).abs().max() < 10


def test_a_checkpoint_keeps_it_and_its_dreams_obey(tiny_checkpoint, tmp_path):
    model = load(tiny_checkpoint)
    real = model.starts.flatten(0, 1)
    action = torch.tensor([[0.5]]).expand(len(model.starts), 1)
    free = model.dynamics.predict(State(model.starts), action).latent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_manifold, "STEPS", 20)
        model.dynamics.manifold = fit_manifold.fit(real, real, codes=8)
    unasked = model.dynamics.predict(State(model.starts), action)
    assert torch.equal(unasked.latent, free)
    kept = model.dynamics.predict(State(model.starts), action, near_real=True)
    manifold = model.dynamics.manifold
    away = (free.flatten(1) - manifold.nearest(free.flatten(1))).norm(dim=1)
    assert (away > manifold.radius).any(), "an untrained model leaves real latents at once"
    assert torch.equal(kept.latent, manifold(free))
    again = load(save(tmp_path / "world_model", model)).dynamics.predict(State(model.starts), action, near_real=True)
    assert torch.equal(again.latent, kept.latent) and torch.equal(again.state, kept.state)
    env = gym.make_vec("Procosm/World-v0", num_envs=3, checkpoint=model, observation="latent", near_real=True)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(30):
        newest = torch.from_numpy(env.step(env.action_space.sample())[0][:, -1]).flatten(1)
        assert ((newest - manifold.nearest(newest)).norm(dim=1) < 3 * manifold.radius).all()


def test_a_checkpoint_without_one_says_so(tiny_checkpoint):
    with pytest.raises(TaskError, match="fit_manifold"):
        gym.make("Procosm/World-v0", checkpoint=tiny_checkpoint, near_real=True)
