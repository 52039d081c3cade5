"""Floating-point operations of the denoising network, by formula; a product of m by n and n by k takes 2 m n k."""

from procosm.world_model.diffusion.transformer import TransformerConfig


def pass_flops(
    config: TransformerConfig, latent_shape: tuple[int, int, int], context: int, told: int, masks: int = 0
) -> int:
    """Of one pass for one frame.

    Args:
        latent_shape: (c, h, w). context: past latents that the network sees. told: numbers that it is told of actions.
        masks: latents of which it is told whether they are shown.
    """
    (c, h, w), p, d, rank = latent_shape, config.patch, config.width, config.adaln_rank
    n = (h // p) * (w // p)
    block = (4 + 2 * config.mlp_ratio) * d * d  # queries, keys, values, out; MLP
    by_token = ((1 + context) * c * p * p + masks) * d + config.layers * block + d * c * p * p
    modulation = 2 * (d * rank + rank * 3 * d)
    embeddings = d * d + 3 * d * d + 2 * told * d + d * d + 3 * d * d  # of the noise level, and of actions
    by_frame = embeddings + config.layers * modulation + d * rank + rank * 2 * d
    attention = config.layers * 2 * n * n * d
    return 2 * (n * by_token + by_frame + attention)
