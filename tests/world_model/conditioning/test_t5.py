"""A T5 encoder from a local folder, against transformers itself; a tiny random one, for none is downloaded."""

import pytest
import torch

from procosm.world_model.conditioning.text import TextConfig, embedded
from procosm.world_model.errors import ProcosmError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = ["<pad>", "</s>", "<unk>", "push", "the", "red", "ball", "left"]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    path = tmp_path_factory.mktemp("t5")
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    transformers.T5EncoderModel(config).save_pretrained(path)
    return path


def test_tokens_are_those_of_the_encoder_then_zeros(folder):
    from transformers import T5EncoderModel

    found = embedded(TextConfig(f"t5:{folder}", tokens=6, size=16), ["push the red", ""])
    with torch.no_grad():
        own = T5EncoderModel.from_pretrained(folder).eval()(input_ids=torch.tensor([[3, 4, 5]])).last_hidden_state[0]
    assert torch.allclose(found[0, :3], own, atol=1e-6) and not found[0, 3:].any() and not found[1].any()


def test_what_does_not_fit_is_named(folder, tmp_path):
    with pytest.raises(ProcosmError, match="makes 16 numbers of a token, not 8"):
        embedded(TextConfig(f"t5:{folder}", tokens=6, size=8), ["push"])
    with pytest.raises(ProcosmError, match="there is no T5 encoder in"):
        embedded(TextConfig(f"t5:{tmp_path / 'none'}", tokens=6, size=8), ["push"])
