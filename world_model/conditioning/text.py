"""What is asked for in words: a frozen encoder, and cross-attention to what it makes of them (Cosmos §6.2).

Cosmos takes T5-XXL, whose 4.7 billion weights are more than most world models here have. The encoder that is always
there knows no language: each word is a sum of fixed random vectors, one for each run of letters in it, so that words
that share letters are alike. That tells a few hundred commands apart, and not that two of them mean the same.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import Condition

LETTERS = (3, 4, 5)
"""Lengths of the runs of letters that a word's vector is the sum of, with the word itself; ends of words count."""

LONGEST = 2000
"""Characters of a text."""
UNTOLD = 1 / 8
"""Part of a batch that is told nothing."""
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class TextConfig:
    """How words become numbers."""

    encoder: Annotated[str, Field(pattern=r"^(letters|t5:.+)$")] = "letters"
    """``letters``: runs of letters, by hashing. ``t5:FOLDER``: a T5 encoder in a local folder, by ``transformers``."""
    tokens: Annotated[int, Field(ge=1, le=4096)] = 8
    """Of a text, which is cut or padded with zeros."""
    size: Annotated[int, Field(ge=2, le=65536)] = 64
    """Numbers of each token; those of the encoder itself where it is T5."""


def embedded(config: TextConfig, texts: Sequence[str]) -> Tensor:
    """(b, tokens, size) float32 of b texts; "" is all zeros, which is to be told nothing.

    Raises:
        ProcosmError: the encoder that the config names is not there, or a text is too long for a checkpoint to keep.
    """
    if long := [text for text in texts if len(text) > LONGEST]:
        raise ProcosmError(f"a text has {len(long[0])} characters, from {long[0][:40]!r} on: give {LONGEST} or fewer")
    encode = _letters if config.encoder == "letters" else _t5
    found = torch.zeros(len(texts), config.tokens, config.size)
    for row, text in enumerate(texts):
        if text:
            values = encode(config, text)[: config.tokens]
            found[row, : len(values)] = values
    return found


def _letters(config: TextConfig, text: str) -> Tensor:
    """(words, size): the mean square of a token is about 1, its place told by what is added to half of its numbers."""
    words = re.findall(r"\w+", text.lower())[: config.tokens]
    found = [_word(word, config.size) + _place(at, config.size) for at, word in enumerate(words)]
    return torch.stack(found) if found else torch.zeros(0, config.size)  # "?" says nothing


@lru_cache(maxsize=4096)
def _word(word: str, size: int) -> Tensor:
    marked = f"<{word}>"
    runs = [marked, *(marked[i : i + n] for n in LETTERS for i in range(len(marked) - n + 1))]
    total = np.sum([_signs(run, size) for run in runs], axis=0)
    return torch.from_numpy(total / np.sqrt(len(runs))).float()


def _signs(run: str, size: int) -> np.ndarray:
    """(size,) of -1 and 1, the same in every process: bits of a hash of the letters."""
    bits = hashlib.shake_128(run.encode()).digest(-(-size // 8))
    return np.unpackbits(np.frombuffer(bits, np.uint8))[:size] * 2.0 - 1.0


def _place(at: int, size: int) -> Tensor:
    phase = at / 100.0 ** (torch.arange(size // 2) / (size // 2))
    return F.pad(torch.cat([phase.sin(), phase.cos()]), (0, size % 2)) * 0.5


def _t5(config: TextConfig, text: str) -> Tensor:
    tokenizer, encoder = _t5_model(config.encoder.removeprefix("t5:"))
    if encoder.config.d_model != config.size:
        raise ProcosmError(f"{config.encoder} makes {encoder.config.d_model} numbers of a token, not {config.size}")
    with torch.no_grad():
        ids = tokenizer(text, truncation=True, max_length=config.tokens, return_tensors="pt").input_ids
        return encoder(input_ids=ids).last_hidden_state[0].float()


@lru_cache(maxsize=2)
def _t5_model(folder: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, T5EncoderModel
    except ImportError as error:
        raise ProcosmError(f"a T5 encoder needs transformers: pip install 'procosm[text]' ({error})") from error
    if not Path(folder).is_dir():
        raise ProcosmError(f"there is no T5 encoder in {folder}: give the folder of one, or the encoder letters")
    return AutoTokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder).eval()


def checked_text(config: TextConfig | None, condition: Condition | None, latents: Tensor) -> Tensor:
    """(b, l, e): what a condition says to b dreams; zeros where it says nothing, l 0 where a model takes no words.

    Raises:
        ProcosmError: a text for a model that takes none, or of another shape.
    """
    shape = (0, 0) if config is None else (config.tokens, config.size)
    if condition is None or condition.text is None:
        return latents.new_zeros(len(latents), *shape)
    if tuple(condition.text.shape[1:]) != shape:
        takes = "no text" if config is None else f"texts of shape {shape}"
        raise ProcosmError(f"a text of shape {tuple(condition.text.shape[1:])} was given, and this model takes {takes}")
    return condition.text.to(latents)


def some_untold(text: Tensor | None, rows: slice) -> Tensor | None:
    """Some rows of a batch's text, of which an eighth of the rows of the batch says nothing: so a model learns both,
    which guidance needs.

    Which rows goes by the golden ratio, for what else is done to some rows, such as ``frames.shown_counts``, goes by
    whole numbers: else no picture would be told anything.
    """
    if text is None:
        return None
    told = torch.arange(len(text), dtype=torch.float64) * GOLDEN % 1 >= UNTOLD
    return (text * told.to(text.device)[:, None, None])[rows]


class TextAttention(nn.Module):
    """Cross-attention of frames to a text, added to them; nothing is added before it is trained, or for no text.

    Keys and values are of the text alone. There is no bias anywhere, so that a text of zeros has values of zero.
    """

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.q, self.kv = nn.Linear(width, width, bias=False), nn.Linear(size, 2 * width, bias=False)
        self.norm_q, self.norm_k = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.out = nn.Linear(width, width, bias=False)
        self.silence()

    @torch.no_grad()
    def silence(self) -> None:
        """Add nothing until it is trained."""
        self.out.weight.zero_()

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """(b, q, d) frames and (b, l, e) text to (b, q, d)."""
        q = self.norm_q(self.q(self.norm(x)).unflatten(-1, (self.heads, -1)).to(self.norm_q.weight.dtype))
        k, v = self.kv(text.to(self.kv.weight.dtype)).unflatten(-1, (2, self.heads, -1)).unbind(2)
        k = self.norm_k(k.to(self.norm_k.weight.dtype))
        q, k, v = (each.to(v.dtype).transpose(1, 2) for each in (q, k, v))  # each (b, k, q or l, head_dim)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
