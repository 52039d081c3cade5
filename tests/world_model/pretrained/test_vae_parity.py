"""Both video tokenizers against diffusers', that they never look ahead, and what they cannot take."""

import dataclasses
import json

import pytest
import torch
from diffusers import AutoencoderKLCosmos, AutoencoderKLWan

from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.pretrained.convolution import FEWEST, convolve
from procosm.world_model.pretrained.cosmos_vae import CosmosVAE, CosmosVAEConfig
from procosm.world_model.pretrained.keys import nvidia_tokenizer_name
from procosm.world_model.pretrained.vae_files import load_nvidia_tokenizer, load_vae, save_vae
from procosm.world_model.pretrained.wan_vae import WanVAE, WanVAEConfig
from tests.world_model.pretrained import published

KINDS = {"cosmos": (CosmosVAE, CosmosVAEConfig), "wan": (WanVAE, WanVAEConfig)}
OTHERS = {
    "cosmos": [
        {
            "spatial_compression_ratio": 8,
            "temporal_compression_ratio": 8,
            "encoder_block_out_channels": (8, 16, 24, 8),
            "decode_block_out_channels": (16, 8, 8, 24),
            "attention_resolutions": (16, 8),
        },
        {"spatial_compression_ratio": 16, "temporal_compression_ratio": 8, "num_layers": 1},
        {"patch_size": 2, "spatial_compression_ratio": 8, "temporal_compression_ratio": 4},
    ],
    "wan": [
        {"num_res_blocks": 2, "decoder_base_dim": 8},
        {"dim_mult": [1, 2, 4], "temperal_downsample": [True, True]},
    ],
}
EVERY = [(kind, change) for kind in KINDS for change in ({}, *OTHERS[kind])]


def both(kind: str, change: dict):
    theirs = published.vae(kind, **change)
    module, config = KINDS[kind]
    fields = {key: value for key, value in theirs.config.items() if key in config.__dataclass_fields__}
    ours = module(config(**{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours.eval()


def video(frames: int) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 32, generator=torch.Generator().manual_seed(frames)) * 2 - 1


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["float32", "float64"])
@pytest.mark.parametrize(("kind", "change"), EVERY)
def test_the_same_numbers_as_diffusers(kind, change, dtype, most):
    theirs, ours = (module.to(dtype) for module in both(kind, change))
    for frames in (1, 17):
        x = video(frames).to(dtype)
        with torch.no_grad():
            latents = theirs.encode(x).latent_dist.mode()
            pixels = theirs.decode(latents).sample
            assert pixels.std() > 0.01 and (ours.encode(x) - latents).abs().max() <= most
            assert (ours.decode(latents) - pixels).abs().max() <= most


@pytest.mark.parametrize(("kind", "change"), EVERY)
def test_no_latent_and_no_frame_knows_of_later_ones(kind, change):
    _, ours = both(kind, change)
    k = ours.config.frames_per_latent
    x, other = video(1 + 2 * k), video(1 + 2 * k)
    other[:, :, 1 + k :] += 1.0
    with torch.no_grad():
        latents, changed = ours.encode(x), ours.encode(other)
        assert (latents[:, :, :2] - changed[:, :, :2]).abs().max() == 0
        assert (latents[:, :, 2] - changed[:, :, 2]).abs().max() > 1e-4
        z = latents.clone()
        z[:, :, 2] += 1.0
        frames, after = ours.decode(latents), ours.decode(z)
        assert (frames[:, :, : 1 + k] - after[:, :, : 1 + k]).abs().max() == 0
        assert (frames[:, :, 1 + k :] - after[:, :, 1 + k :]).abs().max() > 1e-3


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 1, 1), (1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_of_frames_are_those_of_videos(kernel, stride):
    """Layers of few channels, as in the tiny models here, are left to torch; those of the published ones are not."""
    strides = tuple(stride if k > 1 else 1 for k in kernel)
    layer = torch.nn.Conv3d(FEWEST, FEWEST + 8, kernel, strides, (0, kernel[1] // 2, kernel[2] // 2)).double()
    x = torch.randn(2, FEWEST, 7, 6, 8, dtype=torch.float64, requires_grad=True)
    ours, expected = convolve(layer, x), layer(x)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((each * weight).sum(), (x, layer.weight)) for each in (ours, expected)]
    assert torch.allclose(ours, expected, rtol=0, atol=1e-12)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(*gradients, strict=True))
    changed = x.detach().clone()
    changed[:, :, -1] += 1
    with torch.no_grad():
        assert torch.equal(convolve(layer, changed)[:, :, 0], convolve(layer, x)[:, :, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_published_sizes_have_the_names_and_shapes_of_diffusers(kind):
    module, config = KINDS[kind]
    with torch.device("meta"):
        theirs = (AutoencoderKLCosmos if kind == "cosmos" else AutoencoderKLWan)()
        ours = module(config()).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    told = {k: tuple(v) if isinstance(v, list) else v for k, v in theirs.config.items() if not k.startswith("_")}
    without = {"latents_mean", "latents_std"} if kind == "cosmos" else set()  # a file always tells them
    assert {k: v for k, v in dataclasses.asdict(config()).items() if k not in without} == {
        k: v for k, v in told.items() if k not in without
    }


@pytest.mark.parametrize("kind", KINDS)
def test_folders_go_both_ways_to_the_bit(kind, tmp_path):
    theirs = published.vae(kind)
    theirs.save_pretrained(tmp_path / "published")
    ours = load_vae(tmp_path / "published")
    back = type(theirs).from_pretrained(save_vae(ours, tmp_path / "again"), low_cpu_mem_usage=False)
    weights, expected = back.state_dict(), theirs.state_dict()
    assert weights.keys() == expected.keys() and all(torch.equal(weights[k], expected[k]) for k in expected)
    told = [{k: v for k, v in each.config.items() if not k.startswith("_")} for each in (back, theirs)]
    assert json.dumps(told[0]) == json.dumps(told[1])


def test_nvidias_names_of_a_tokenizer():
    known = {
        "encoder.conv_in.0.conv3d.weight": "encoder.conv_in.conv_s.weight",
        "encoder.down.1.block.0.conv1.1.conv3d.bias": "encoder.down_blocks.1.resnets.0.conv1.conv_t.bias",
        "encoder.down.0.block.1.norm2.norm.weight": "encoder.down_blocks.0.resnets.1.norm2.norm.weight",
        "encoder.down.0.downsample.conv3.conv3d.weight": "encoder.down_blocks.0.downsamplers.0.conv3.weight",
        "encoder.mid.attn_1.1.proj_out.conv3d.bias": "encoder.mid_block.temp_attentions.0.to_out.0.bias",
        "decoder.up.0.block.2.nin_shortcut.conv3d.weight": "decoder.up_blocks.2.resnets.2.conv_shortcut.weight",
        "decoder.up.2.upsample.conv1.conv3d.weight": "decoder.up_blocks.0.upsamplers.0.conv1.weight",
        "decoder.mid.block_2.conv2.0.conv3d.weight": "decoder.mid_block.resnets.1.conv2.conv_s.weight",
        "decoder.mid.attn_1.0.q.conv3d.weight": "decoder.mid_block.attentions.0.to_q.weight",
        "post_quant_conv.conv3d.weight": "post_quant_conv.weight",
    }
    assert {name: nvidia_tokenizer_name(name) for name in known} == known


def test_nvidias_own_tokenizer_is_read(tmp_path):
    _, ours = both("cosmos", {"attention_resolutions": (32,)})
    state = ours.state_dict()
    theirs = {in_nvidias_words(name): value for name, value in state.items()}
    torch.save(theirs | {"encoder.patcher3d.wavelets": torch.ones(2)}, tmp_path / "autoencoder.pt")
    found = load_nvidia_tokenizer(tmp_path / "autoencoder.pt", ours.config).state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def in_nvidias_words(name: str) -> str:
    """A parameter of ours as NVIDIA calls it."""
    words = {"mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2"}
    words |= {"mid_block.attentions.0": "mid.attn_1.0", "mid_block.temp_attentions.0": "mid.attn_1.1"}
    words |= {f"up_blocks.{i}": f"up.{2 - i}" for i in range(3)} | {"down_blocks": "down", ".resnets.": ".block."}
    words |= {"downsamplers.0": "downsample", "upsamplers.0": "upsample", "conv_shortcut": "nin_shortcut.conv3d"}
    words |= {".conv_s.": ".0.conv3d.", ".conv_t.": ".1.conv3d.", "to_out.0.": "proj_out.conv3d."}
    words |= {f".to_{each}.": f".{each}.conv3d." for each in "qkv"} | {"quant_conv.": "quant_conv.conv3d."}
    words |= {f"sample.conv{i}.": f"sample.conv{i}.conv3d." for i in (1, 2, 3)}
    for ours, theirs in words.items():
        name = name.replace(ours, theirs)
    return name.replace(".attentions.", ".attn.")


@pytest.mark.parametrize("kind", KINDS)
def test_what_they_cannot_take_is_named(kind, tmp_path):
    theirs, ours = both(kind, {})
    with pytest.raises(ProcosmError, match=r"10 frames: .* so give 1 \+ 4 T frames, such as 9 or 13"):
        ours.encode(video(10))
    with pytest.raises(ProcosmError, match="16 by 29 pixels: each side must be a multiple of"):
        ours.encode(video(9)[..., :29])
    theirs.save_pretrained(tmp_path / "published")
    path = tmp_path / "published" / "config.json"
    config = json.loads(path.read_text())
    wrong = {"patch_type": "fourier"} if kind == "cosmos" else {"is_residual": True}
    for change, told in (
        (wrong, next(iter(wrong))),
        ({"z_dims": 4}, "z_dims"),
        ({"_class_name": "VQModel"}, "VQModel"),
    ):
        path.write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=told):
            load_vae(tmp_path / "published")
