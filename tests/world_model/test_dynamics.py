import dataclasses

import numpy as np
import pytest
import torch

from procosm.world_model.data.batch import Batch
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.one_step import OneStep
from procosm.world_model.diffusion.precondition import SIGMA_MAX, coefficients
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import Condition, Prediction, Sampling
from procosm.world_model.past import with_oldest_actions_unknown

TINY = DynamicsConfig(transformer=TransformerConfig(width=24, layers=1, heads=2, mlp_ratio=2, adaln_rank=4))
SHAPE = (2, 4, 4)


@pytest.fixture
def dynamics() -> DiffusionDynamics:
    torch.manual_seed(0)
    model = DiffusionDynamics(TINY, SHAPE, action_size=2, state_size=3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
        model.action_low.fill_(-2.0)
        model.action_high.fill_(4.0)
        model.residual_std.fill_(0.3)
    return model


def window(batch=5, horizon=3, seed=0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return Batch(
        frames=torch.empty(0),
        latents=torch.randn(batch, 3 + horizon, *SHAPE, generator=g),
        actions=torch.rand(batch, 2 + horizon, 2, generator=g) * 6 - 2,
        signals={
            "state": torch.randn(batch, 3 + horizon, 3, generator=g),
            "reward": torch.randn(batch, horizon, generator=g),
        },
        ends=torch.zeros(batch, horizon),
        mask=torch.ones(batch, horizon),
    )


def predict(dynamics: DiffusionDynamics, latents: torch.Tensor, action: torch.Tensor, *drawn: object) -> Prediction:
    """What one step leads to from latents without a past."""
    return dynamics.step(dynamics.begin(latents), action, *drawn)[1]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_actions_are_scaled_from_the_tasks_units(dynamics):
    got = dynamics.unit_action(torch.tensor([[-2.0, 4.0], [1.0, 1.0]]))
    assert torch.allclose(got, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))


def test_one_step_prediction_is_what_training_unrolls(dynamics):
    w, action = window(), torch.rand(5, 2)
    for past in (None, torch.rand(5, 2, 2), torch.tensor([torch.nan, 1.0]).view(1, 2, 1).expand(5, 2, 2)):
        memory = dynamics.begin(w.latents[:, :3], Condition(past))
        unrolled = dynamics.advance(w.latents[:, :3], dynamics.unit_action(memory.with_action(action)))
        assert torch.allclose(dynamics.step(memory, action)[1].latents, unrolled, atol=1e-6)


def test_a_dream_knows_what_was_done_since_it_began(dynamics):
    """Of each past action the network is told the value and that it is known; of one it does not know, neither."""
    memory, action = dynamics.begin(window().latents[:, :3]), torch.rand(5, 2)
    blind = dynamics.told(dynamics.unit_action(memory.with_action(action)))
    assert torch.equal(blind, torch.cat([torch.zeros(5, 4), dynamics.unit_action(action), torch.zeros(5, 2)], dim=1))
    memory, _ = dynamics.step(memory, action)
    assert torch.equal(memory.actions[:, 1], action) and memory.actions[:, 0].isnan().all()
    known = dynamics.begin(memory.latents, Condition(torch.stack([action - 0.2, action], dim=1)))
    told = dynamics.told(dynamics.unit_action(known.with_action(action + 0.1)))
    acted = [dynamics.unit_action(action + change) for change in (-0.2, 0.0, 0.1)]
    assert torch.allclose(told, torch.cat([*acted, torch.ones(5, 2)], dim=1))
    first, second = (dynamics.step(each, action)[1].latents for each in (memory, known))
    assert not torch.allclose(first, second, atol=1e-4)


def test_training_forgets_the_oldest_actions_of_some_windows():
    actions = torch.rand(7, 5, 2)
    lost = with_oldest_actions_unknown(actions, 3).isnan()
    assert lost.any(2).sum(1).tolist() == [0, 1, 2, 0, 1, 2, 0] and torch.equal(lost[..., 0], lost[..., 1])
    assert not lost[:, 2:].any() and not lost[1::3, 1].any()
    assert torch.equal(with_oldest_actions_unknown(actions, 3).nan_to_num(9.0), actions.masked_fill(lost, 9.0))


@pytest.mark.parametrize("noisy", [False, True], ids=["the mean", "sampled"])
def test_every_step_of_a_dream_ends_on_the_manifold(dynamics, noisy):
    """Real latents of one axis: whatever the network says, the next latent has nothing to speak of beside it."""
    line = torch.randn(SHAPE, generator=seeded())
    dynamics.manifold.fit([torch.linspace(-2, 2, 41).view(-1, 1, 1, 1) * line])
    dynamics.manifold.net[-1].requires_grad_(False).weight.zero_()
    dynamics.manifold.net[-1].bias.zero_()
    w, action, axis = window(), torch.rand(5, 2), line / line.norm()
    memory = dynamics.begin(w.latents[:, :3])

    def beside(latents: torch.Tensor) -> float:
        along = (latents * axis).sum((1, 2, 3), keepdim=True) * axis
        return float((latents - along).norm() / latents.norm())

    draws = [np.random.default_rng(slot) for slot in range(5)]
    latent = dynamics.step(memory, action, draws, Sampling(3 if noisy else 1))[1].latents
    assert beside(latent) < 1e-3 < 0.1 < beside(w.latents[:, 2])
    if not noisy:
        unit = dynamics.unit_action(memory.with_action(action))
        assert torch.allclose(latent, dynamics.advance(memory.latents, unit), atol=1e-5)


def test_one_step_prepared_equals_the_plain_network(dynamics):
    w, unit = window(), torch.rand(5, 8) * 2 - 1
    context = w.latents[:, :3]
    _, c_out, _, c_noise = coefficients(torch.full((5,), SIGMA_MAX))
    plain = c_out * dynamics.net(torch.zeros(5, 1, *SHAPE), c_noise, context, unit)
    assert torch.allclose(OneStep(dynamics.net, torch.float32)(context, unit), plain, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = c_out * dynamics.net(torch.zeros(5, 1, *SHAPE), c_noise, context, unit)
    error = (OneStep(dynamics.net, torch.bfloat16)(context, unit) - plain).square().mean()
    assert 0 < error < 2 * (coarse.float() - plain).square().mean()  # no coarser than autocast


def test_one_step_is_prepared_again_when_weights_change_and_only_then(dynamics):
    w, action = window(), torch.rand(5, 2)
    unit = dynamics.unit_action(dynamics.begin(w.latents[:, :3]).with_action(action))
    for mixed in (False, True):
        dynamics.mixed = mixed
        predict(dynamics, w.latents[:, :3], action)
        prepared = dynamics.one_step()
        predict(dynamics, w.latents[:, :3], action)
        assert dynamics.one_step() is prepared
    dynamics.mixed = False
    for change in (lambda p: p.mul_(1.5), lambda p: setattr(p, "data", p.data * 1.5)):
        with torch.no_grad():
            change(dynamics.net.blocks[0].mlp[0].weight)
        predicted = predict(dynamics, w.latents[:, :3], action).latents
        assert torch.allclose(predicted, dynamics.advance(w.latents[:, :3], unit), atol=1e-6)


@pytest.mark.parametrize("first", [False, True])
def test_a_step_with_gradient_is_the_step_and_its_gradient_that_of_differences(dynamics, first):
    """Whether or not a step without gradients has prepared the network before."""
    dynamics.double().requires_grad_(False)
    latents, action = window().latents[:, :3].double(), torch.rand(5, 2, dtype=torch.float64)
    slots = torch.arange(5)
    if first:
        dynamics.step(dynamics.begin(latents), action)
    memory = dynamics.begin(latents).take(slots)
    expected = dynamics.step(memory.take(slots), action)[1]

    def two_steps(action: torch.Tensor) -> tuple[torch.Tensor, ...]:
        after, told = dynamics.step_with_gradient(memory, action)
        _, later = dynamics.step_with_gradient(after, action.flip(1))
        return told.latents, told.readouts["state"], later.latents, later.readouts["reward"]

    told = dynamics.step_with_gradient(memory, action)[1]
    assert torch.equal(told.latents, expected.latents)
    assert all(torch.equal(told.readouts[name], expected.readouts[name]) for name in expected.readouts)
    assert torch.autograd.gradcheck(two_steps, action.requires_grad_(), fast_mode=True)


def test_the_state_is_read_once_a_step(dynamics):
    memory, action = dynamics.begin(window().latents[:, :3]), torch.rand(5, 2)
    looked = []
    dynamics.state_head.register_forward_hook(lambda *_: looked.append(1))
    dynamics.step(memory, action)
    assert len(looked) == 1


def test_prediction_of_a_slot_does_not_depend_on_its_batch(dynamics):
    w = window()
    whole = predict(dynamics, w.latents[:, :3], torch.ones(5, 2))
    alone = predict(dynamics, w.latents[2:3, :3], torch.ones(1, 2))
    assert torch.allclose(whole.latents[2], alone.latents[0], atol=1e-5)
    for name in ("reward", "termination", "state"):
        assert torch.allclose(whole.readouts[name][2], alone.readouts[name][0], atol=1e-5)
    ends = whole.readouts["termination"]
    assert ((ends >= 0) & (ends <= 1)).all()


def test_noise_starts_the_sampler_and_is_the_only_randomness(dynamics):
    w, runs = window(), []
    for seed in (0, 0, 1):
        draws = [np.random.default_rng([seed, slot]) for slot in range(5)]
        runs.append(predict(dynamics, w.latents[:, :3], torch.ones(5, 2), draws, Sampling(4)).latents)
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2], atol=1e-4)


def test_slow_motion_survives_half_precision(dynamics):
    still = window().latents[:, :1].expand(-1, 3, *SHAPE)
    creeping = still + 1e-3 * torch.arange(3).view(1, 3, 1, 1, 1)
    changes = dynamics.moved(creeping)[:, :-1].bfloat16()
    assert torch.allclose(changes.float() * 0.3, torch.full_like(still[:, :2], 1e-3), rtol=1e-2)
    assert (creeping.bfloat16() == still.bfloat16()).float().mean() > 0.5  # as latents, most of it is lost
    assert torch.equal(dynamics.moved(creeping)[:, -1], creeping[:, -1])


def test_what_moves_evenly_goes_on_by_itself(dynamics):
    first, step = torch.randn(50, 1, *SHAPE), torch.randn(50, 1, *SHAPE)
    even = first + step * torch.arange(4).view(1, 4, 1, 1, 1)
    dynamics.fit_residual([(even[:, :3], even[:, 3])])
    assert torch.allclose(dynamics.inertia, torch.ones(2, 1, 1), atol=1e-5)
    assert torch.allclose(dynamics.carried(even[:, :3]), even[:, 3], atol=1e-5)
    dynamics.net.patch_out.weight.data.zero_()
    assert torch.allclose(predict(dynamics, even[:, :3], torch.ones(50, 2)).latents, even[:, 3], atol=0.01)


def test_inertia_and_residual_are_the_regression_of_each_channel(dynamics):
    past, after = torch.randn(300, 3, *SHAPE), torch.randn(300, *SHAPE)
    after[:, 0] += 1.4 * past[:, 2, 0] - 0.4 * past[:, 1, 0]
    dynamics.fit_residual([(past, after)])
    for channel in range(2):
        x = (past[:, 2, channel] - past[:, 1, channel]).flatten().numpy()
        y = (after[:, channel] - past[:, 2, channel]).flatten().numpy()
        slope = max(0.0, np.linalg.lstsq(x[:, None], y, rcond=None)[0][0])  # against the motion there is no inertia
        assert dynamics.inertia[channel].item() == pytest.approx(slope, abs=1e-5)
        assert dynamics.residual_std[channel].item() == pytest.approx((y - slope * x).std(ddof=1), rel=1e-4)


def test_slow_windows_weigh_more_and_what_follows_the_end_does_not_matter(dynamics):
    speed = torch.tensor([0.0, 0.3, 30.0]).view(3, 1, 1, 1, 1)  # a change in a step, residual_std being .3
    change, mask = speed.expand(3, 3, *SHAPE), torch.ones(3, 3)
    weight = dynamics.weight(change, mask)
    assert weight.mean().item() == pytest.approx(1.0, abs=1e-6)
    slowest = dynamics.config.slowest
    expected = [((1 + slowest) / slowest) ** 0.5, 1.0, ((1 + slowest) / (1e4 + slowest)) ** 0.5]
    assert (weight / weight[1]).tolist() == pytest.approx(expected, rel=1e-4)
    mask[:, 1:] = 0
    garbage = change.index_fill(1, torch.tensor([1, 2]), 1e3)
    assert torch.allclose(dynamics.weight(garbage, mask), weight)


def test_unrolled_loss_over_one_step_is_the_one_step_error(dynamics):
    w = window(horizon=1)
    _, metrics = dynamics.unrolled_loss(w)
    error = (
        dynamics.advance(w.latents[:, :3], with_oldest_actions_unknown(dynamics.unit_action(w.actions), 3))
        - w.latents[:, 3]
    ) / 0.3
    assert metrics["latent"].item() == pytest.approx(error.square().mean().item(), rel=1e-5)


def test_steps_after_the_end_carry_no_loss(dynamics):
    w = window()
    mask = torch.ones(5, 3)
    mask[:, 1:] = 0
    cut = dataclasses.replace(w, mask=mask)
    garbage = dataclasses.replace(
        cut,
        signals={
            "state": torch.cat([w.signals["state"][:, :4], torch.full((5, 2, 3), 1e3)], dim=1),
            "reward": torch.where(mask > 0, w.signals["reward"], 1e3),
        },
        latents=torch.cat([w.latents[:, :4], w.latents[:, 4:] * 1e3], dim=1),
    )
    assert dynamics.unrolled_loss(cut)[0] == dynamics.unrolled_loss(garbage)[0]


def test_gradient_of_the_unrolled_loss_by_finite_differences(dynamics):
    model, w = dynamics.double(), window()
    moved = {name: getattr(w, name).double() for name in ("frames", "latents", "actions", "ends", "mask")}
    w = Batch(signals={name: value.double() for name, value in w.signals.items()}, **moved)
    p = model.net.patch_in.weight
    model.unrolled_loss(w)[0].backward()
    direction, eps = torch.randn_like(p), 1e-6
    with torch.no_grad():
        p.add_(eps * direction)
        up = model.unrolled_loss(w)[0]
        p.sub_(2 * eps * direction)
        down = model.unrolled_loss(w)[0]
    assert ((up - down) / (2 * eps)).item() == pytest.approx((p.grad * direction).sum().item(), rel=1e-4)


def test_diffusion_loss_is_repeatable_and_reaches_every_trained_weight(dynamics):
    w = window(batch=32, horizon=1)
    losses = [dynamics.diffusion_loss(w, seeded())[0] for _ in range(2)]
    assert torch.equal(losses[0], losses[1])
    losses[0].backward()
    without = {name for name, p in dynamics.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == {f"manifold.{name}" for name, _ in dynamics.manifold.named_parameters()}  # has a stage of its own


def test_guidance_moves_away_from_what_happens_whatever_is_done():
    torch.manual_seed(0)
    hidden = dataclasses.replace(TINY, hidden_actions=0.3)
    dynamics = DiffusionDynamics(hidden, SHAPE, action_size=2, state_size=3)
    with torch.no_grad():
        for p in dynamics.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    latents, action = window().latents[:, :3], torch.tensor([[0.5, -1.0]]).expand(5, 2)

    def dreamed(guidance: float | None) -> torch.Tensor:
        draws = [np.random.default_rng(i) for i in range(5)]
        return predict(dynamics, latents, action, draws, Sampling(2, guidance=guidance)).latents

    # Of two steps the last is at σ_min, where what is given is kept: the first, at σ_max, is linear in the guidance.
    plain, once, twice = (dreamed(g) for g in (None, 1.0, 2.0))
    assert torch.equal(plain, dreamed(0.0)) and (once - plain).abs().max() > 1e-3
    assert torch.allclose(twice - plain, 2 * (once - plain), atol=1e-3)
    unknown = dynamics.told(torch.full((1, 3, 2), torch.nan))
    assert unknown.shape == (1, 9) and not unknown.any()
    losses = [dynamics.diffusion_loss(window(batch=64), seeded())[0] for _ in range(2)]
    assert losses[0] == losses[1] and torch.isfinite(losses[0])


def test_guidance_is_refused_where_no_action_was_ever_hidden(dynamics):
    draws = [np.random.default_rng(i) for i in range(5)]
    with pytest.raises(ProcosmError, match="hidden_actions"):
        predict(dynamics, window().latents[:, :3], torch.zeros(5, 2), draws, Sampling(2, guidance=1.0))
