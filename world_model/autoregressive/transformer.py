"""The network that predicts the next token: Llama-style blocks over a window of frames (Cosmos §5.2, arXiv 2501.03575).

Axis letters beside those of ``interface``: n tokens of a frame · q tokens of one pass · v vocabulary.

Token p is place p mod n of frame p // n, and its output predicts token p + 1. It sees the tokens up to itself in the
frame of the token that it predicts and in the ``context`` frames before that one; each query sees a window of its own,
so that one pass over a long video and one token after another with a cache are the same computation.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.autoregressive.cache import Cache
from procosm.world_model.errors import ProcosmError
from procosm.world_model.rope import axis_dims, frequencies, rotate, turns, yarn, yarn_temperature

Turn = tuple[Tensor, Tensor]
KeysAndValues = tuple[Tensor, Tensor]
Held = Callable[[Tensor, Tensor], KeysAndValues]


@dataclass(frozen=True)
class TransformerConfig:
    """Size of an autoregressive transformer."""

    width: Annotated[int, Field(ge=2, le=16384)] = 128
    """Model width d; an even multiple of heads, whose channels turn in pairs."""
    layers: Annotated[int, Field(ge=1, le=128)] = 4
    """Blocks."""
    heads: Annotated[int, Field(ge=1, le=256)] = 4
    """Attention heads."""
    kv_heads: Annotated[int, Field(ge=1, le=256)] = 4
    """Heads of keys and values; each serves heads / kv_heads heads."""
    hidden: Annotated[int, Field(ge=1, le=65536)] = 384
    """Hidden width of the SwiGLU MLPs."""
    medusa_heads: Annotated[int, Field(ge=0, le=12)] = 9
    """Heads that draft the tokens after the next one, see ``medusa``."""
    rope_theta: Annotated[float, Field(ge=1, le=1e9)] = 10000.0
    """Base of the rotary frequencies."""
    yarn_scale: Annotated[float, Field(ge=1, le=1024)] = 1.0
    """How many times as many frames the window has as it had when the weights were trained (YaRN, on time only)."""
    text_tokens: Annotated[int, Field(ge=0, le=4096)] = 0
    """Tokens of the text that may be given; 0: none."""
    text_size: Annotated[int, Field(ge=1, le=65536)] = 1024
    """Numbers of each of them."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ProcosmError(f"width {self.width} is no even multiple of {self.heads} heads")
        if self.heads % self.kv_heads:
            raise ProcosmError(f"{self.heads} heads cannot share {self.kv_heads} heads of keys and values")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


class Attention(nn.Module):
    """Attention with RMS-normalised, rotated queries and keys; keys and values have fewer heads where asked for."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        d, head_dim = config.width, config.head_dim
        self.head_dim = head_dim
        self.q, self.out = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.kv = nn.Linear(d, 2 * config.kv_heads * head_dim, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(head_dim, eps=1e-6), nn.RMSNorm(head_dim, eps=1e-6)
        self.scale = yarn_temperature(config.yarn_scale) * head_dim**-0.5

    def keys_and_values(self, x: Tensor, turn: Turn) -> KeysAndValues:
        """(b, t, d) to keys, rotated by (b or 1, 1, t, head_dim) turns, and values; each (b, kv heads, t, head_dim)."""
        k, v = self.kv(x).unflatten(-1, (2, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        k = self.norm_k(k.to(self.norm_k.weight.dtype))
        return rotate(k, *turn), v

    def forward(self, x: Tensor, turn: Turn, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """(b, q, d) to the same.

        Args:
            turn: of the queries, (b or 1, 1, q, head_dim). mask: (b or 1, 1, q, t), where they may look.
        """
        q = rotate(self.norm_q(self.q(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2).to(x.dtype)), *turn)
        mixed = F.scaled_dot_product_attention(
            q.to(values.dtype), keys.to(values.dtype), values, mask, scale=self.scale,
            enable_gqa=q.shape[1] != keys.shape[1],
        )  # fmt: skip
        return self.out(mixed.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    """silu(A x) · B x, and back (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_and_up, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_and_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Self-attention, cross-attention to what is done and said, and MLP; each with its norm before it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        d = config.width
        self.norm_self, self.norm_cross, self.norm_mlp = (nn.RMSNorm(d, eps=1e-6) for _ in range(3))
        self.attention, self.cross = Attention(config), Attention(config)
        self.mlp = SwiGLU(d, config.hidden)

    def forward(self, x: Tensor, held: Held, acted: KeysAndValues, looks: "Looks") -> Tensor:
        """(b, q, d) to the same.

        Args:
            held: takes the keys and values of these tokens, gives those of all that there are. acted: of actions, text.
        """
        y = self.norm_self(x)
        keys, values = held(*self.attention.keys_and_values(y, looks.turn))
        x = x + self.attention(y, looks.turn, keys, values, looks.mask)
        x = x + self.cross(self.norm_cross(x), looks.frame_turn, *acted, looks.frame_mask)
        return x + self.mlp(self.norm_mlp(x))


@dataclass(frozen=True)
class Looks:
    """How the tokens of a pass look at others: rotations, (b or 1, 1, q, head_dim) twice, and masks, (b or 1, 1, q, t).

    Attributes:
        turn, mask: at tokens. frame_turn, frame_mask: at what is done before frames, and at text.
    """

    turn: Turn
    mask: Tensor
    frame_turn: Turn
    frame_mask: Tensor


class AutoregressiveTransformer(nn.Module):
    """Hidden states, and from them logits of the next token, from tokens, actions and text.

    Time is relative, by rotation alone, for a dream has no end; places have a learned absolute position too.
    """

    time_frequency: Tensor
    frame_frequency: Tensor
    space_angle: Tensor

    def __init__(
        self, config: TransformerConfig, grid: tuple[int, int], vocabulary: int, context: int, action_size: int
    ) -> None:
        super().__init__()
        d = config.width
        self.config, self.context, self.frame_tokens = config, context, grid[0] * grid[1]
        self.embed = nn.Embedding(vocabulary, d)
        self.place = nn.Parameter(0.1 * torch.randn(self.frame_tokens, d))
        nn.init.normal_(self.embed.weight, std=0.1)
        self.action = nn.Sequential(nn.Linear(action_size, d), nn.GELU(), nn.Linear(d, d))
        self.no_action = nn.Parameter(torch.zeros(d))
        if config.text_tokens:
            self.text = nn.Linear(config.text_size, d, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(d, eps=1e-6)
        self.unembed = nn.Linear(d, vocabulary, bias=False)
        if config.medusa_heads:
            self.medusa, self.medusa_before = nn.Linear(d, config.medusa_heads * d), nn.Linear(d, d, bias=False)
            for weight in (*self.medusa.parameters(), self.medusa_before.weight):
                nn.init.zeros_(weight)
        dims, theta, (height, width) = axis_dims(config.head_dim), config.rope_theta, grid
        rows = torch.arange(height)[:, None] * frequencies(dims[1], theta)
        columns = torch.arange(width)[:, None] * frequencies(dims[2], theta)
        angle = torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], dim=1)
        self.register_buffer("space_angle", angle, persistent=False)  # (n, (dim_h + dim_w) / 2)
        for name, dim in (("time_frequency", dims[0]), ("frame_frequency", config.head_dim)):
            stretched = yarn(frequencies(dim, theta), config.yarn_scale, context / config.yarn_scale)
            self.register_buffer(name, stretched, persistent=False)

    def conditioning(self, actions: Tensor) -> Tensor:
        """(b, t, a) actions in [-1, 1], NaN where nobody knows, to (b, t, d)."""
        known = ~actions[..., :1].isnan()
        return torch.where(known, self.action(actions.nan_to_num(0.0)), self.no_action)

    def forward(self, tokens: Tensor, actions: Tensor, text: Tensor | None = None) -> Tensor:
        """One pass over whole videos.

        Args:
            tokens: (b, t n), those of t frames. actions: (b, t, a), what is done before each frame.
            text: (b, text_tokens, text_size).

        Returns:
            (b, t n, d), normalised hidden states; the one of a token tells of the next.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        frames = torch.arange(actions.shape[1], device=tokens.device)[None]
        given = self._with_text(self.conditioning(actions), text)
        turn = self.frame_turn(F.pad(frames, (0, self.config.text_tokens)))
        looks = self._looks(positions, positions, frames)
        x = self._embedded(tokens, positions)
        for block in self._blocks():
            x = block(x, lambda *own: own, block.cross.keys_and_values(given, turn), looks)
        return self.norm(x)

    def empty_cache(self, batch: int, text: Tensor | None = None) -> Cache:
        """The cache of dreams in which nothing has been seen yet, but their text."""
        config, frames = self.config, self.context + 1
        # A pass may write as many drafts behind the end of a frame; the oldest frame still seen must not be there.
        capacity = frames * self.frame_tokens + config.medusa_heads
        cache = Cache.empty(
            config.layers, batch, config.kv_heads, capacity, frames, config.text_tokens, self.place, config.head_dim
        )
        if text is not None:
            at = torch.arange(frames, frames + config.text_tokens, device=text.device).expand(batch, -1)
            self._act(cache, at, self.text(text), self.frame_turn(torch.zeros_like(at)))
        return cache

    def act(self, cache: Cache, actions: Tensor, frames: Tensor) -> None:
        """Tell what is done before frames (b, t): (b, t, a) as in :meth:`conditioning`."""
        self._act(cache, cache.place_frames(frames), self.conditioning(actions), self.frame_turn(frames))

    def _act(self, cache: Cache, at: Tensor, given: Tensor, turn: Turn) -> None:
        for layer, block in enumerate(self._blocks()):
            cache.write_frames(layer, at, *block.cross.keys_and_values(given, turn))

    def advance(self, cache: Cache, tokens: Tensor, positions: Tensor) -> Tensor:
        """(b, q, d) hidden states of tokens (b, q) at positions (b, q), which every dream's cache now holds too."""
        at = cache.place(positions)
        looks = self._looks(positions, cache.positions, cache.frame_positions)
        x = self._embedded(tokens, positions)
        for layer, block in enumerate(self._blocks()):
            x = block(x, partial(cache.write, layer, at), cache.frames_of(layer), looks)
        return self.norm(x)

    def _blocks(self) -> Iterable[Block]:
        return cast(Iterable[Block], self.blocks)  # to torch, a list of modules of any kind

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.embed(tokens) + self.place[positions % self.frame_tokens]

    def _looks(self, positions: Tensor, seen: Tensor, frames: Tensor) -> Looks:
        """Of queries at (b or 1, q), at keys (b or 1, k) and at what is done before frames (b or 1, t)."""
        predicted = (positions + 1) // self.frame_tokens  # frame of the token that each query predicts
        mask = self._window(seen // self.frame_tokens, predicted) & (seen[:, None] <= positions[..., None])
        frame_mask = F.pad(self._window(frames, predicted), (0, self.config.text_tokens), value=True)
        return Looks(self.token_turn(positions), mask[:, None], self.frame_turn(predicted), frame_mask[:, None])

    def _window(self, frames: Tensor, predicted: Tensor) -> Tensor:
        """(b, q, k): whether frames (b, k) are there and within the window of those that are predicted, (b, q)."""
        frames, predicted = frames[:, None], predicted[..., None]
        return (frames >= 0) & (frames <= predicted) & (frames >= predicted - self.context)

    def _with_text(self, given: Tensor, text: Tensor | None) -> Tensor:
        """(b, t, d) and the text's embeddings behind them; no text is a text of zeros."""
        missing = given.new_zeros(len(given), self.config.text_tokens, given.shape[2])
        return torch.cat([given, missing if text is None else self.text(text)], dim=1)

    def token_turn(self, positions: Tensor) -> Turn:
        """Rotations of tokens (b, q); each (b, 1, q, head_dim). In double precision: a dream may be long."""
        time = (positions // self.frame_tokens).double()[..., None] * self.time_frequency
        return self._turns(torch.cat([time, self.space_angle[positions % self.frame_tokens]], dim=-1))

    def frame_turn(self, frames: Tensor) -> Turn:
        """Rotations of whole frames (b, q), by all channels of a head; each (b, 1, q, head_dim)."""
        return self._turns(frames.double()[..., None] * self.frame_frequency)

    def _turns(self, angle: Tensor) -> Turn:
        cos, sin = turns(angle[:, None])
        return cos.to(self.place.dtype), sin.to(self.place.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, d) to (…, v): the next token."""
        return self.unembed(hidden)

    def drafts(self, hidden: Tensor, before: Tensor) -> Tensor:
        """(…, d) to (…, medusa heads, v): the tokens after the next one, by a residual layer each (Cosmos §5.2.3).

        Args:
            before: (…, medusa heads), the tokens at those places in the frame before: most of a scene stands still.
        """
        ahead = self.medusa(hidden).unflatten(-1, (self.config.medusa_heads, -1))
        return self.unembed(hidden[..., None, :] + F.silu(ahead) + self.medusa_before(self.embed(before)))
