"""One denoising step from zero, with everything that no dream changes worked out beforehand.

There the noisy latent is zero and the noise level is σ_max, so the first layer needs only its columns for the context,
and the timestep embedding is a constant. The modulation of all blocks becomes one product. The weights are held in the
dtype of the products, where autocast would convert them, and what flows between them, again at every call.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.diffusion.precondition import SIGMA_MAX, coefficients
from procosm.world_model.diffusion.transformer import DiffusionTransformer
from procosm.world_model.layers import fourier_features


class OneStep:
    """D(0; σ_max), the expected residual in units of σ_data, of a transformer as its weights are now."""

    @torch.inference_mode(False)  # or no gradient would go through it later
    @torch.no_grad()
    def __init__(self, net: DiffusionTransformer, dtype: torch.dtype) -> None:
        """Copy ``net`` for products in ``dtype``; its norms stay as they are."""
        _, self.c_out, _, c_noise = coefficients(net.patch_in.weight.new_full((1,), SIGMA_MAX))
        self.features = fourier_features(c_noise, net.config.width)  # (1, d)
        self.shared = net.time_out(F.silu(net.time_hidden(self.features))).to(dtype)  # (1, 3 d)
        self.net, self.dtype = copy.deepcopy(net), dtype
        for module in self.net.modules():
            if not isinstance(module, nn.RMSNorm):
                for name, parameter in module.named_parameters(recurse=False):
                    setattr(module, name, nn.Parameter(parameter.to(dtype), requires_grad=False))
        noisy = net.patch_out.weight.shape[0]  # values of a patch of one latent: the noisy one comes first
        self.patch_in = self.net.patch_in.weight[:, noisy:].contiguous()
        low_rank = self.net.modulations()
        self.down = torch.cat([m.down.weight for m in low_rank])
        widest = max(m.up.weight.shape[0] for m in low_rank)
        self.up = torch.stack([F.pad(m.up.weight.T, (0, widest - m.up.weight.shape[0])) for m in low_rank])
        self.parts = [m.parts for m in low_rank]

    def __call__(
        self,
        context: Tensor,
        action: Tensor,
        text: Tensor | None = None,
        motion: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Tensor:
        """(b, 1, c, h, w) of (b, context, c, h, w) past latents and the conditions of the transformer."""
        net, width = self.net, self.net.config.width
        tokens = F.linear(net.inputs(context.to(self.dtype), shown), self.patch_in)
        tokens, told = net.conditioned(tokens, action.to(self.dtype), text, motion)
        add_d, add_3d = net.embedded(action.to(self.dtype))
        low = F.linear(F.silu(net.embedding_norm(self.features + add_d)).to(self.dtype), self.down)
        low = low.unflatten(1, (len(self.parts), -1)).transpose(0, 1)  # (modulations, b, rank)
        modulation = (low @ self.up + (self.shared + add_3d))[:, :, None]  # (modulations, b, 1, 3 d)
        split = [each.split(width, dim=-1)[:parts] for each, parts in zip(modulation, self.parts, strict=True)]
        return self.c_out * net.run(tokens, split, told).to(context.dtype)
