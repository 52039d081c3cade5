"""How videos are drawn, against the loops of diffusers' pipelines around its own schedulers and transformer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import LatentSpec, Sampling
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.dynamics import PretrainedDynamics, PretrainedDynamicsConfig
from procosm.world_model.pretrained.keys import transformer_names
from procosm.world_model.pretrained.sampling import NoiseConfig, sigmas
from procosm.world_model.pretrained.tokenizer import PretrainedTokenizerConfig
from tests.world_model.pretrained import published

published.make_do()
STEPS, SHAPE = 4, (4, 8, 8)
LATENTS = SimpleNamespace(spec=LatentSpec(SHAPE))
"""All that dynamics whose steps are one frame ask of a tokenizer."""
STATISTICS = {"latents_mean": (0.0,) * 4, "latents_std": (1.0,) * 4}
FLOW = NoiseConfig(family="flow", sigma_data=1.0, given_sigma=1e-4)


def dynamics_of(theirs, variant: str, noise: NoiseConfig, **settings) -> PretrainedDynamics:
    net = CosmosTransformerConfig(**published.TRANSFORMER | published.VARIANTS[variant])
    dynamics = PretrainedDynamics(PretrainedDynamicsConfig(net, noise, **settings), LATENTS, 2)
    names, weights = transformer_names(dynamics.net.state_dict(), "diffusers"), theirs.state_dict()
    dynamics.net.load_state_dict({mine: weights[name] for name, mine in names.items()})
    generator = torch.Generator().manual_seed(8)
    for text in (dynamics.text, dynamics.negative):
        text.copy_(torch.randn(text.shape, generator=generator))
    return dynamics.requires_grad_(False).eval()


class Recorded:
    """The numbers that two slots draw, in their order, for a loop that is written otherwise."""

    def __init__(self) -> None:
        self.generators = [np.random.default_rng(seed) for seed in (3, 5)]

    def __call__(self, *shape: int) -> torch.Tensor:
        drawn = [torch.from_numpy(each.standard_normal(shape, dtype=np.float32)) for each in self.generators]
        return torch.stack(drawn)


@torch.no_grad()
def edm_loop(theirs, dynamics: PretrainedDynamics, past: torch.Tensor) -> torch.Tensor:
    """``CosmosVideoToWorldPipeline``, from given latents in units of 1 to latents in units of 1."""
    scheduler = EDMEulerScheduler(final_sigmas_type="sigma_min")
    scheduler.set_timesteps(STEPS)
    draw, given = Recorded(), past.transpose(1, 2) * 0.5
    n, frames = given.shape[2], given.shape[2] + dynamics.config.drawn
    x = draw(4, frames, 8, 8) * scheduler.config.sigma_max
    indicator = (torch.arange(frames) < n).float().view(1, 1, -1, 1, 1)
    mask = indicator.expand(2, 1, frames, 8, 8)
    padded = torch.nn.functional.pad(given, (0, 0, 0, 0, 0, frames - n))
    for i, t in enumerate(scheduler.timesteps):
        noise = torch.nn.functional.pad(draw(4, n, 8, 8), (0, 0, 0, 0, 0, frames - n))
        sigma = scheduler.sigmas[i]
        known = indicator * 0 if sigma <= 0.001 else indicator
        shown = (padded + noise * 0.001) * scheduler._get_conditioning_c_in(torch.tensor(0.001))
        shown = known * (shown / scheduler._get_conditioning_c_in(sigma)) + (1 - known) * x
        scaled = scheduler.scale_model_input(shown, t)
        told = {"fps": 7.5, "condition_mask": mask, "padding_mask": torch.zeros(1, 1, 64, 64), "return_dict": False}
        texts = [dynamics.text.expand(2, -1, -1), dynamics.negative.expand(2, -1, -1)]
        cleans = []
        for text in texts:
            out = theirs(scaled, t.expand(2), text, **told)[0]
            clean = scheduler.step(out, t, x, return_dict=False)[1]
            scheduler._step_index -= 1
            cleans.append(known * padded + (1 - known) * clean)
        clean = cleans[0] + dynamics.config.guidance * (cleans[0] - cleans[1])
        x = scheduler.step(clean, t, x, return_dict=False, pred_original_sample=clean)[0]
    return (x[:, :, n:] / 0.5).transpose(1, 2)


@torch.no_grad()
def flow_loop(theirs, dynamics: PretrainedDynamics, past: torch.Tensor) -> torch.Tensor:
    """``Cosmos2VideoToWorldPipeline`` in the same way."""
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.register_to_config(sigma_max=80.0, sigma_min=0.002, sigma_data=1.0, final_sigmas_type="sigma_min")
    scheduler.set_timesteps(sigmas=np.linspace(0, 1, STEPS).tolist())
    scheduler.sigmas[-1] = scheduler.sigmas[-2]
    draw, given = Recorded(), past.transpose(1, 2)
    n, frames = given.shape[2], given.shape[2] + dynamics.config.drawn
    x = draw(4, frames, 8, 8) * 80.0
    indicator = (torch.arange(frames) < n).float().view(1, 1, -1, 1, 1)
    padded = torch.nn.functional.pad(given, (0, 0, 0, 0, 0, frames - n))
    text = dynamics.text.expand(2, -1, -1)
    for i, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i]
        level = sigma / (sigma + 1)
        scaled = indicator * padded + (1 - indicator) * x * (1 - level)
        levels = (indicator * (1e-4 / (1 + 1e-4)) + (1 - indicator) * level).expand(2, -1, -1, -1, -1)
        told = {"condition_mask": indicator.expand(2, 1, frames, 8, 8), "padding_mask": torch.zeros(1, 1, 64, 64)}
        out = theirs(scaled, levels, text, fps=7.5, return_dict=False, **told)[0]
        clean = indicator * padded + (1 - indicator) * ((1 - level) * x - level * out)
        x = scheduler.step((x - clean) / sigma, t, x, return_dict=False)[0]
    return x[:, :, n:].transpose(1, 2)


@pytest.mark.parametrize(("given", "drawn"), [(1, 1), (2, 1)])
@pytest.mark.parametrize(
    ("variant", "noise", "loop", "guidance"),
    [("video2world", NoiseConfig(), edm_loop, 3.0), ("predict2", FLOW, flow_loop, 0.0)],
    ids=["edm", "flow"],
)
def test_a_step_draws_what_the_pipeline_does(variant, noise, loop, guidance, given, drawn):
    theirs = published.transformer(variant)
    dynamics = dynamics_of(theirs, variant, noise, given=given, guidance=guidance, fps=7.5, text_tokens=6)
    past = torch.randn(2, given, *SHAPE)
    draws = [np.random.default_rng(seed) for seed in (3, 5)]
    memory, prediction = dynamics.step(dynamics.begin(past), torch.zeros(2, 2), draws, Sampling(STEPS))
    expected = loop(theirs, dynamics, past)
    assert expected.std() > 0.1 and torch.allclose(prediction.latents, expected[:, -1], atol=2e-4)
    assert torch.equal(memory.latents[:, -1], prediction.latents) and memory.latents.shape == past.shape
    assert torch.equal(memory.latents[:, :-1], past[:, 1:])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
def test_noise_levels_are_those_of_the_published_schedules():
    edm = EDMEulerScheduler(final_sigmas_type="sigma_min")
    edm.set_timesteps(36)
    assert torch.allclose(sigmas(NoiseConfig(), 36), edm.sigmas, rtol=1e-6)
    multi = UniPCMultistepScheduler(
        use_karras_sigmas=True, use_flow_sigmas=True, prediction_type="flow_prediction", sigma_max=200.0, sigma_min=0.01
    )
    multi.set_timesteps(36)
    ours = sigmas(NoiseConfig(family="flow", sigma_min=0.01, sigma_max=200.0, ends_clean=True), 36)
    assert torch.allclose(ours / (1 + ours), multi.sigmas, rtol=1e-4)


def test_actions_reach_what_is_drawn_and_not_what_is_given():
    config = CosmosTransformerConfig(**published.TRANSFORMER | published.VARIANTS["predict2"])
    for actions in ("together", "each"):
        made = PretrainedDynamicsConfig(config, FLOW, actions=actions)
        dynamics = published.randomised(PretrainedDynamics(made, LATENTS, 3))
        dynamics.action_scale.copy_(torch.tensor([20.0, 20.0, 1.0]))
        past = torch.randn(2, 1, *SHAPE)
        one, other = (
            dynamics.step(dynamics.begin(past), action)[1].latents
            for action in (torch.zeros(2, 3), torch.tensor([[0.0, 0, 0], [0, 0, 0.5]]))
        )
        assert torch.equal(one[0], other[0]) and (one[1] - other[1]).abs().max() > 1e-4
    # An embedding of the actions of each latent leaves the given ones as they are.
    net = published.randomised(dynamics.net)
    level, action = torch.zeros(1, 2), torch.randn(1, 1, 3)
    with torch.no_grad():
        acted = net._embedded(level, action, torch.zeros(1), 2)
        idle = net._embedded(level, None, torch.zeros(1), 2)
    for with_action, without in zip(acted, idle, strict=True):
        assert torch.allclose(with_action[:, 0], without[:, 0]) and not torch.allclose(with_action[:, 1], without[:, 1])


def test_what_cannot_be_joined_is_named():
    net = CosmosTransformerConfig(**published.TRANSFORMER)
    with pytest.raises(ProcosmError, match="4 channels in and 4 out makes a world of text alone"):
        PretrainedDynamicsConfig(net)
    net = CosmosTransformerConfig(**published.TRANSFORMER | published.VARIANTS["video2world"])
    with pytest.raises(ProcosmError, match="3 latents of 1 frames for a step: a step of several frames takes a pub"):
        PretrainedDynamics(PretrainedDynamicsConfig(net, drawn=3), LATENTS, 1)
    with pytest.raises(ProcosmError, match=r"latents of \(16, 8, 8\) for a transformer of 4 channels"):
        PretrainedDynamics(PretrainedDynamicsConfig(net), SimpleNamespace(spec=LatentSpec((16, 8, 8))), 1)
    with pytest.raises(ProcosmError, match="sigma_min 90"):
        NoiseConfig(sigma_min=90.0)
    with pytest.raises(ProcosmError, match="60 by 64 pixels for a tokenizer of 8"):
        PretrainedTokenizerConfig(height=60, width=64)
