"""Consistency distillation: on a way that is known, and of a network that draws one of two answers."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from procosm.world_model.data.batch import Batch
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.distillation import ConsistencyLoss
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.precondition import SIGMA_DATA
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.interface import Sampling
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.presets import preset

SHAPE, CONTEXT = (1, 2, 2), 2
CONFIG = DynamicsConfig(TransformerConfig(width=32, layers=2, heads=2, mlp_ratio=2, adaln_rank=8), CONTEXT, -0.5, 1.5)


def windows(count: int, seed: int) -> Batch:
    """Latents that go up or down by one, all places together, and nothing before says which."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.zeros(count, CONTEXT, *SHAPE)
    sign = torch.randint(2, (count, 1, 1, 1, 1), generator=generator) * 2.0 - 1
    return Batch(
        frames=torch.empty(0),
        latents=torch.cat([seen, sign.expand(-1, -1, *SHAPE)], dim=1),
        actions=torch.zeros(count, CONTEXT, 1),
        signals={"state": torch.zeros(count, CONTEXT + 1, 1), "reward": torch.zeros(count, 1)},
        ends=torch.zeros(count, 1),
        mask=torch.ones(count, 1),
    )


@pytest.fixture(scope="module")
def teacher() -> DiffusionDynamics:
    torch.manual_seed(0)
    model = DiffusionDynamics(CONFIG, SHAPE, action_size=1, state_size=1)
    optimizer = torch.optim.AdamW(model.net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(400):
        optimizer.zero_grad()
        model.diffusion_loss(windows(64, step), generator)[0].backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def student(teacher) -> DiffusionDynamics:
    model = copy.deepcopy(teacher)
    loss, generator = ConsistencyLoss(model, 20, 5), torch.Generator().manual_seed(2)
    optimizer = torch.optim.AdamW(model.net.parameters(), 1e-3)
    for step in range(200):
        optimizer.zero_grad()
        loss(windows(64, step), generator)[0].backward()
        optimizer.step()
    return model.eval()


def drawn(model: DiffusionDynamics, sampling: Sampling) -> torch.Tensor:
    """(256,) means over places of what is dreamed next."""
    draws = [np.random.default_rng(i) for i in range(256)]
    memory = model.begin(windows(256, 0).latents[:, :CONTEXT])
    return model.step(memory, torch.zeros(256, 1), draws, sampling)[1].latents.flatten(1).mean(1)


def far(values: torch.Tensor) -> float:
    """Mean distance to the nearer of both answers."""
    return (values.abs() - 1).abs().mean().item()


def test_the_student_draws_in_two_steps_what_its_teacher_needs_many_for(teacher, student):
    many = drawn(teacher, Sampling(24))
    two = drawn(student, Sampling(2, "consistency"))
    control = drawn(teacher, Sampling(2))
    assert far(many) < 0.25 and far(two) < 0.35 < far(control)
    assert 0.3 < (two > 0).float().mean() < 0.7  # both answers


def test_the_mean_stays_what_it_was(teacher, student):
    means = [drawn(model, Sampling()) for model in (teacher, student)]
    assert far(means[0]) > 0.7 and (means[0] - means[1]).abs().max() < 0.1


def test_the_loss_of_a_consistent_network_is_none():
    """For data N(0, s²) the way is known; the network that says where it ends is its own student and teacher."""
    torch.manual_seed(0)
    model = DiffusionDynamics(CONFIG, SHAPE, action_size=1, state_size=1)
    loss = ConsistencyLoss(model, 200, 5)

    def denoise(x, sigma, seen, actions, net=None, text=None, shown=None):
        s, variance = SIGMA_DATA, sigma.view(-1, 1, 1, 1, 1) ** 2
        return x * (s**2 / (s**2 + variance) if net is not None else s / (s**2 + variance).sqrt())

    model.denoise = denoise
    batch = windows(4096, 0)
    drawn = torch.randn(batch.latents.shape) * (torch.arange(CONTEXT + 1) == CONTEXT).view(1, -1, 1, 1, 1)
    batch = dataclasses.replace(batch, latents=drawn)
    found = loss(batch, torch.Generator().manual_seed(0))[1]["consistency"]
    model.denoise = lambda x, sigma, *rest, **told: denoise(x, sigma, *rest[:2], net=loss.teacher)  # the mean
    assert found < 1e-3 and loss(batch, torch.Generator().manual_seed(0))[1]["consistency"] > 20 * found


def test_it_is_a_stage_of_its_family_alone():
    assert list(preset("debug", further=("distill",)).stages)[-1] == "distill"
    assert "distill" not in preset("debug").stages
    with pytest.raises(SettingsError, match="autoregressive dynamics have no stage distill"):
        preset("debug", dynamics="autoregressive", further=("distill",))
