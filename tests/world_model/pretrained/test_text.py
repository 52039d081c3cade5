"""Prompts, encoded as the published pipelines do, by a tiny T5 of random weights."""

import json
import types
from pathlib import Path

import pytest
import torch
from diffusers import CosmosVideoToWorldPipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from procosm.world_model.checkpoint import load
from procosm.world_model.errors import CheckpointError
from procosm.world_model.pretrained.text import T5
from tests.world_model.pretrained.test_world import USE, write_published

PROMPT = "push the red cube"
TOLD = USE | {"actions": "none", "prompt": PROMPT, "negative_prompt": "blurred", "guidance": 2.0}


def write_t5(folder: Path) -> None:
    torch.manual_seed(0)
    T5EncoderModel(
        T5Config(vocab_size=16, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    ).save_pretrained(folder / "text_encoder")
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<unk>", *PROMPT.split()])}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        folder / "tokenizer"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = write_published(tmp_path_factory.mktemp("text") / "model", use=TOLD)
    write_t5(made)
    return made


def test_prompts_are_encoded_as_the_published_pipeline_does(folder):
    ours = T5(folder, tokens=9)
    theirs = types.SimpleNamespace(
        text_encoder=ours._model, tokenizer=ours._tokenizer, _execution_device=torch.device("cpu")
    )
    with torch.no_grad():
        expected = CosmosVideoToWorldPipeline._get_t5_prompt_embeds(theirs, [PROMPT, "push"], 9, dtype=torch.float32)
    found = ours([PROMPT, "push"])
    assert found.shape == (2, 9, 16) and torch.equal(found, expected)
    assert not found[1, 1:].any() and found[0, :4].any()


def test_a_model_is_told_its_prompt(folder):
    model = load(folder)
    text, negative = T5(folder)([PROMPT, "blurred"])
    assert torch.equal(model.dynamics.text, text) and torch.equal(model.dynamics.negative, negative)
    assert model.dynamics.config.text_tokens == 512


def test_what_is_missing_or_cannot_be_is_named(folder, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="a prompt of 12 tokens: give at most 9"):
        T5(folder, tokens=9)(["push " * 12])
    bare = write_published(tmp_path / "bare", use=TOLD)
    with pytest.raises(CheckpointError, match=r"text_encoder is missing, and a prompt needs it"):
        load(bare)
    write_t5(bare)
    config = bare / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "qwen2_5_vl"}))
    with pytest.raises(CheckpointError, match="is of a qwen2_5_vl, and T5 alone encodes prompts here"):
        load(bare)
    (bare / "text.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="both say what it is told: leave out one"):
        load(bare)
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"pip install 'procosm\[text\]'"):
        T5(folder)
