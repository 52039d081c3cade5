"""A vision-language model on disk captions clips; one that cannot be opened is refused before any work."""

from pathlib import Path

import pytest
import torch

from procosm.world_model.curation.curate import CurateConfig, curate
from procosm.world_model.curation.records import Manifest
from procosm.world_model.curation.vision_language import QUESTION, VisionLanguageCaptioner
from procosm.world_model.data.episodes import write_dataset
from procosm.world_model.errors import ProcosmError
from tests.world_model.curation import scenes

transformers = pytest.importorskip("transformers")
WORDS = ["a", "robot", "pushes", "square", "the", "red", "left", "right"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny BLIP, drawn and not trained: its words mean nothing, and are always the same."""
    made = tmp_path_factory.mktemp("model")
    (made / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = transformers.BertTokenizer(str(made / "vocab.txt"))
    pictures = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "bos_token_id": 2, "eos_token_id": 3,
            "sep_token_id": 3, "pad_token_id": 0, "projection_dim": 16}  # fmt: skip
    vision = {**small, "image_size": 32, "patch_size": 16, "projection_dim": 16}
    torch.manual_seed(0)
    config = transformers.BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.BlipForConditionalGeneration(config).save_pretrained(made)
    transformers.BlipProcessor(pictures, tokenizer).save_pretrained(made)
    return made


def test_the_model_is_asked_about_the_frames(folder):
    captioner = VisionLanguageCaptioner(folder)
    episode = scenes.episode(0, 20)
    said = captioner.caption(episode.frames, scenes.TASK, episode.text, [])
    assert said and said == captioner.caption(episode.frames, scenes.TASK, episode.text, [])
    assert QUESTION.lower() not in said.lower()
    assert set(said.split()) <= {*WORDS, "[UNK]"}


def test_curate_captions_with_it(folder, tmp_path):
    logs = ((scenes.episode(seed, 20), None) for seed in range(2))
    write_dataset(tmp_path / "logs", scenes.TASK, logs, {}, None)
    out = curate(CurateConfig(data=tmp_path / "logs", out=tmp_path / "out", action_logs=0, captioner=folder))
    clips = [clip for record in Manifest(out / "manifest" / "logs.jsonl").done.values() for clip in record.clips]
    frames = scenes.episode(0, 20)
    expected = VisionLanguageCaptioner(folder).caption(frames.frames, scenes.TASK, frames.text, [])
    assert expected in {clip.caption for clip in clips} and len(clips) == 2


def test_a_folder_without_a_model_is_refused(tmp_path):
    write_dataset(tmp_path / "logs", scenes.TASK, iter([(scenes.episode(0, 20), None)]), {}, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProcosmError, match=r"empty holds no vision-language model"):
        curate(CurateConfig(data=tmp_path / "logs", out=tmp_path / "out", action_logs=0, captioner=tmp_path / "empty"))
    assert not list((tmp_path / "out").rglob("*.tar"))
