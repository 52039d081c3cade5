"""The published models as diffusers has them, tiny, every weight of which counts: the independent truth of parity."""

import copy
import types

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCosmos, AutoencoderKLWan, CosmosTransformer3DModel
from diffusers.models.transformers import transformer_cosmos
from torch import nn

TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "mlp_ratio": 2.0,
    "text_embed_dim": 16,
    "adaln_lora_dim": 4,
    "max_size": (4, 32, 32),
    "patch_size": (1, 2, 2),
    "rope_scale": (2.0, 1.0, 1.0),
    "concat_padding_mask": True,
    "extra_pos_embed_type": "learnable",
}
"""Of diffusers' own tests."""
VARIANTS = {
    "text2world": {},
    "video2world": {"in_channels": 5},
    "predict2": {"in_channels": 5, "extra_pos_embed_type": None, "rope_scale": (1.0, 3.0, 3.0)},
    "predict2.5": {
        "in_channels": 5,
        "extra_pos_embed_type": None,
        "rope_scale": (20 / 24, 2.0, 2.0),
        "use_crossattn_projection": True,
        "crossattn_proj_in_channels": 24,
        "encoder_hidden_states_channels": 16,
    },
}
COSMOS_VAE = {
    "latent_channels": 4,
    "encoder_block_out_channels": (8, 8, 8, 8),
    "decode_block_out_channels": (8, 8, 8, 8),
    "attention_resolutions": (8,),
    "resolution": 64,
    "num_layers": 2,
    "patch_size": 4,
    "patch_type": "haar",
    "spatial_compression_ratio": 4,
    "temporal_compression_ratio": 4,
    "latents_mean": None,
    "latents_std": None,
}
WAN_VAE = {
    "base_dim": 4,
    "z_dim": 4,
    "num_res_blocks": 1,
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [1.5, 0.5, 1.0, 2.0],
}
CLASSES = {each.__name__: each for each in (CosmosTransformer3DModel, AutoencoderKLCosmos, AutoencoderKLWan)}


def make_do() -> None:
    """What diffusers needs of packages that are not here: torchvision, to resize the padding mask to the nearest pixel,
    and accelerate, to open a model part of which stays in float32."""

    def resize(image: torch.Tensor, size: list[int], interpolation: object) -> torch.Tensor:
        return F.interpolate(image, size=size, mode="nearest")

    transformer_cosmos.transforms = types.SimpleNamespace(
        functional=types.SimpleNamespace(resize=resize), InterpolationMode=types.SimpleNamespace(NEAREST=None)
    )
    CosmosTransformer3DModel._keep_in_fp32_modules = None


def randomised(module: nn.Module, by: float = 0.1) -> nn.Module:
    """The same module, nothing of which is zero or one by construction."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.5 if "pos_emb" in name else by))
    return module.eval()


def vae(kind: str, **change: object) -> AutoencoderKLCosmos | AutoencoderKLWan:
    """``cosmos`` or ``wan``; its pixels are mostly within [-1, 1]."""
    torch.manual_seed(0)
    made = AutoencoderKLCosmos(**COSMOS_VAE | change) if kind == "cosmos" else AutoencoderKLWan(**WAN_VAE | change)
    return randomised(made, 0.02)


def transformer(variant: str, **change: object) -> CosmosTransformer3DModel:
    torch.manual_seed(0)
    return randomised(CosmosTransformer3DModel(**TRANSFORMER | VARIANTS[variant] | change))


def in_double(module: nn.Module) -> nn.Module:
    """A copy in float64, apart from the learned positions, whose norm diffusers takes in float32 alone."""
    double = copy.deepcopy(module).double()
    if getattr(double, "learnable_pos_embed", None) is not None:
        double.learnable_pos_embed.float()
    return double
