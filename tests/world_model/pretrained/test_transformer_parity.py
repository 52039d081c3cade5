"""Our transformer against diffusers' on its own tiny configurations, and the layouts of the large ones."""

import dataclasses

import pytest
import torch
from diffusers import CosmosTransformer3DModel

from procosm.world_model.errors import ProcosmError
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.keys import transformer_names
from procosm.world_model.pretrained.transformer import CosmosTransformer
from tests.world_model.pretrained import published

published.make_do()


def ours_like(theirs: CosmosTransformer3DModel, variant: str) -> CosmosTransformer:
    ours = CosmosTransformer(CosmosTransformerConfig(**published.TRANSFORMER | published.VARIANTS[variant]))
    names, weights = transformer_names(ours.state_dict(), "diffusers"), theirs.state_dict()
    assert names.keys() == weights.keys()
    ours.load_state_dict({names[name]: weights[name] for name in names})
    return ours.eval()


def inputs(variant: str, dtype: torch.dtype, per_frame: bool) -> dict[str, torch.Tensor | None]:
    """Of a batch of two with as many latents up and down as not across, a text of which one is shorter, and padding."""
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)  # noqa: E731
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    given = (torch.arange(3) < 1).to(dtype).view(1, 1, 3, 1, 1).expand(2, 1, 3, 16, 12)
    return {
        "latents": draw(2, 4, 3, 16, 12),
        "timestep": draw(2, 3) if per_frame else draw(2),
        "text": draw(2, 12, 24 if variant == "predict2.5" else 16),
        "text_mask": mask,
        "condition_mask": None if variant == "text2world" else given,
        "padding_mask": (torch.rand(1, 1, 32, 24, generator=generator) > 0.5).to(dtype),
    }


def theirs_of(model: CosmosTransformer3DModel, given: dict, fps: float | None) -> torch.Tensor:
    timestep = given["timestep"] if given["timestep"].ndim == 1 else given["timestep"][:, None, :, None, None]
    return model(
        given["latents"],
        timestep,
        given["text"],
        attention_mask=given["text_mask"],
        fps=fps,
        condition_mask=given["condition_mask"],
        padding_mask=given["padding_mask"],
        return_dict=False,
    )[0]


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["float32", "float64"])
@pytest.mark.parametrize("variant", published.VARIANTS)
def test_the_same_numbers_as_diffusers(variant, dtype, most):
    theirs = published.transformer(variant)
    ours = ours_like(theirs, variant).to(dtype)
    theirs = theirs if dtype == torch.float32 else published.in_double(theirs)
    for per_frame in (False, True):
        for fps in (None, 30, 7.5):
            given = inputs(variant, dtype, per_frame)
            with torch.no_grad():
                expected = theirs_of(theirs, given, fps)
                found = ours(**given, fps=fps)
            assert expected.std() > 0.1 and (found - expected).abs().max() <= most


def test_the_same_gradients_as_diffusers():
    theirs = published.transformer("video2world")
    ours, given = ours_like(theirs, "video2world"), inputs("video2world", torch.float32, per_frame=False)
    weight = torch.randn(2, 4, 3, 16, 12)
    (theirs_of(theirs, given, 30) * weight).sum().backward()
    (ours(**given, fps=30) * weight).sum().backward()
    own = dict(ours.named_parameters())
    for name, mine in transformer_names(own, "diffusers").items():
        expected = theirs.get_parameter(name).grad
        assert torch.allclose(own[mine].grad, expected, atol=1e-5 * max(1.0, expected.abs().max().item())), name


def test_in_bfloat16_as_near_to_float32_as_diffusers():
    theirs, given = published.transformer("video2world"), inputs("video2world", torch.float32, per_frame=False)
    ours = ours_like(theirs, "video2world").bfloat16()
    half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in given.items()}
    with torch.no_grad():
        exact = theirs_of(theirs, given, 30)
        positions = theirs.learnable_pos_embed
        theirs.bfloat16()
        positions.float()  # as from_pretrained keeps them
        error = (theirs_of(theirs, half, 30) - exact).square().mean().sqrt()
        assert (ours(**half, fps=30) - exact).square().mean().sqrt() <= 1.2 * error


BIG = {
    "7B text2world": {"num_attention_heads": 32},
    "7B video2world": {"num_attention_heads": 32, "in_channels": 17},
    "14B": {"num_attention_heads": 40, "num_layers": 36, "in_channels": 17, "rope_scale": (2.0, 2.0, 2.0)},
    "Predict2 2B": {
        "num_attention_heads": 16,
        "in_channels": 17,
        "extra_pos_embed_type": None,
        "rope_scale": (1.0, 3.0, 3.0),
    },
    "Predict2.5 2B": {
        "num_attention_heads": 16,
        "in_channels": 17,
        "extra_pos_embed_type": None,
        "use_crossattn_projection": True,
        "crossattn_proj_in_channels": 100352,
    },
}


@pytest.mark.parametrize("name", BIG)
def test_published_sizes_have_the_names_and_shapes_of_diffusers(name):
    with torch.device("meta"):
        theirs = CosmosTransformer3DModel(**BIG[name]).state_dict()
        ours = CosmosTransformer(CosmosTransformerConfig(**BIG[name])).state_dict()
    names = transformer_names(ours, "diffusers")
    assert {theirs: ours[mine].shape for theirs, mine in names.items()} == {k: v.shape for k, v in theirs.items()}


def test_the_defaults_are_those_of_diffusers():
    with torch.device("meta"):
        theirs = dict(CosmosTransformer3DModel().config)
    assert dataclasses.asdict(CosmosTransformerConfig()) == {k: v for k, v in theirs.items() if not k.startswith("_")}


def test_what_it_cannot_take_is_named():
    theirs = published.transformer("video2world")
    ours, given = ours_like(theirs, "video2world"), inputs("video2world", torch.float32, per_frame=False)
    with pytest.raises(ProcosmError, match="4 channels, where this transformer takes 5"):
        ours(**given | {"condition_mask": None})
    odd = {name: given[name][..., :15] for name in ("latents", "condition_mask")}
    with pytest.raises(ProcosmError, match=r"\(3, 16, 11\) cannot be cut into patches of \(1, 2, 2\)"):
        ours(**given | {name: value[..., :11] for name, value in odd.items()})
    long = {name: given[name].repeat(1, 1, 2, 1, 1) for name in ("latents", "condition_mask")}
    with pytest.raises(ProcosmError, match=r"\(6, 8, 6\) tokens .* positions for \(4, 16, 16\)"):
        ours(**given | long)
    with pytest.raises(ProcosmError, match="Transfer model"):
        CosmosTransformerConfig(img_context_dim_in=8)
