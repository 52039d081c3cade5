"""Floating-point operations of the transformer, by formula; a product of m by n and n by k takes 2 m n k.

Every token is compared with every key that is there, seen or not: masks save nothing.
"""

from procosm.world_model.autoregressive.loss import STRIDE
from procosm.world_model.autoregressive.transformer import TransformerConfig


def video_flops(config: TransformerConfig, frames: int, frame_tokens: int, vocabulary: int, action_size: int) -> int:
    """Of one pass over a video, and of the logits of every frame but the first, Medusa heads left out."""
    tokens, given, d = frames * frame_tokens, frames + config.text_tokens, config.width
    by_layer = _tokens(config, tokens, tokens, given) + given * _given(config)
    embeddings = frames * (action_size * d + d * d) + config.text_tokens * config.text_size * d
    return 2 * (config.layers * by_layer + embeddings + (tokens - frame_tokens) * d * vocabulary)


def frame_flops(config: TransformerConfig, context: int, frame_tokens: int, vocabulary: int, action_size: int) -> int:
    """Of one frame of a dream: what is done before it, and a pass with the cache for each of its tokens, no drafts."""
    frames, d = context + 1, config.width
    keys = frames * frame_tokens + config.medusa_heads  # room of the cache, see ``AutoregressiveTransformer``
    by_layer = _tokens(config, frame_tokens, keys, frames + config.text_tokens) + _given(config)
    return 2 * (config.layers * by_layer + action_size * d + d * d + frame_tokens * d * vocabulary)


def draft_flops(config: TransformerConfig, tokens: int, vocabulary: int) -> int:
    """Of Medusa heads in training, on so many tokens, of which each ``STRIDE``-th counts."""
    return 2 * (-(-tokens // STRIDE)) * config.medusa_heads * config.width * (2 * config.width + vocabulary)


def _tokens(config: TransformerConfig, tokens: int, keys: int, given: int) -> int:
    """Multiplications of so many tokens in a block: attention to ``keys``, cross-attention to ``given``, MLP."""
    d, narrow = config.width, config.kv_heads * config.head_dim
    weights = 2 * d * d + 2 * d * narrow + 2 * d * d + 3 * d * config.hidden
    return tokens * (weights + 2 * (keys + given) * d)


def _given(config: TransformerConfig) -> int:
    """Multiplications that make keys and values of one thing that is done or said."""
    return config.width * 2 * config.kv_heads * config.head_dim
