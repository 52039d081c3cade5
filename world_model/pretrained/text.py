"""Words that a published model is told, as the embeddings that it takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from procosm.world_model.errors import CheckpointError
from procosm.world_model.files import read_json
from procosm.world_model.pretrained.config import RESTORE

TOKENS = 512
"""Of a text, those behind its end zeros: what Predict1 and Predict2 were trained with (arXiv 2501.03575, §5.1)."""


class T5:
    """The encoder of a T5 in ``text_encoder/`` and ``tokenizer/`` of a published folder, by transformers."""

    def __init__(self, folder: Path, tokens: int = TOKENS) -> None:
        """Open both from the disk; nothing is downloaded.

        Raises:
            CheckpointError: a folder is missing, damaged or of another kind, or transformers is not installed.
        """
        for part in ("text_encoder", "tokenizer"):
            if not (folder / part).is_dir():
                raise CheckpointError(
                    f"{folder / part} is missing, and a prompt needs it: download it, too, or put embeddings into "
                    f"{folder / 'text.safetensors'} and leave out the prompt"
                )
        config = folder / "text_encoder" / "config.json"
        found = read_json(config, RESTORE)
        kind = found.get("model_type") if isinstance(found, dict) else None
        if kind != "t5":
            raise CheckpointError(
                f"{config} is of a {kind!s:.40}, and T5 alone encodes prompts here: put embeddings of its own into "
                f"{folder / 'text.safetensors'} and leave out the prompt"
            )
        try:
            from transformers import AutoTokenizer, T5EncoderModel
        except ImportError as error:
            raise CheckpointError("a prompt needs transformers: pip install 'procosm[text]'") from error
        self.tokens = tokens
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            model: Any = T5EncoderModel.from_pretrained(folder / "text_encoder", local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"the text encoder in {folder} cannot be opened ({error!s:.300}): {RESTORE}"
            ) from error
        self._model = model.eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(b, s, width) of b texts, zeros behind the end of each.

        Raises:
            CheckpointError: a text that is too long.
        """
        asked = self._tokenizer(list(texts), padding="max_length", max_length=self.tokens, return_tensors="pt")
        ids, there = asked.input_ids, asked.attention_mask
        if ids.shape[1] > self.tokens:
            raise CheckpointError(f"a prompt of {ids.shape[1]} tokens: give at most {self.tokens}")
        embedded = self._model(ids, attention_mask=there).last_hidden_state
        return embedded * there[..., None].to(embedded.dtype)
