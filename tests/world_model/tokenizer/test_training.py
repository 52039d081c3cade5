import json
from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.world_model.data.clips import ClipSampler, load_clips
from procosm.world_model.data.video_stream import LOSSLESS, encode_part
from procosm.world_model.errors import DatasetError, ProcosmError
from procosm.world_model.files import read_tensors
from procosm.world_model.tokenizer import folder
from procosm.world_model.tokenizer.bottleneck import codebook_use
from procosm.world_model.tokenizer.training import TokenizerTrainConfig, train_tokenizer


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red square that swings over grey, 120 frames."""
    frames = np.full((120, 32, 40, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        left = round(16 + 14 * np.sin(index / 5))
        frame[10:20, left : left + 8] = (220, 60, 30)
    path = tmp_path_factory.mktemp("films") / "swing.mp4"
    path.write_bytes(encode_part(frames, 0.04, LOSSLESS))
    return path


def config(film: Path, out: Path, **kwargs) -> TokenizerTrainConfig:
    size = {"preset": "debug", "height": 32, "width": 32, "batch": 2, "steps": 20} | kwargs
    return TokenizerTrainConfig(data=(film,), out=out, device="cpu", **size)


@pytest.mark.parametrize("rate", ["DV4x8x8", "CI8x8"])
def test_a_tokenizer_learns_images_and_clips_together_and_opens_for_frames_of_any_size(rate, film, tmp_path):
    out = train_tokenizer(config(film, tmp_path / "tokenizer", rate=rate))
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"pixels", "perceptual", "gram"} <= set(metrics["stage 2"])
    video = {"flow", "image pixels"} & set(metrics["stage 2"])
    assert bool(video) == (rate[1] == "V") and "gram" not in metrics["stage 1"]
    judged = metrics["held out"]
    assert judged["psnr"] > 10 and judged["clips"] == 64
    assert ("codes used" in judged) == (rate[0] == "D")
    model = folder.load(out, 24, 24)
    frames = torch.randint(0, 256, (1, 1, 24, 24, 3), dtype=torch.uint8)
    assert model.decode(model.encode(frames)).shape == frames.shape


def test_the_same_seed_trains_the_same_weights_and_a_stopped_run_goes_on_to_them(film, tmp_path):
    whole = train_tokenizer(config(film, tmp_path / "whole", steps=6))
    again = tmp_path / "again"
    train_tokenizer(config(film, again, steps=6))
    saves = tmp_path / "again.training"
    (saves / "stage-1.safetensors").unlink()  # as if it had been killed between the stages
    train_tokenizer(config(film, again, steps=6))
    expected = read_tensors(whole / folder.WEIGHTS)
    found = read_tensors(again / folder.WEIGHTS)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_cuts_lie_in_their_videos_and_depend_on_seed_and_step_alone():
    clips = [np.arange(n * 20 * 30 * 3, dtype=np.int64).reshape(n, 20, 30, 3) for n in (3, 9, 40)]
    sampler = ClipSampler(clips, 5, 16, 16)
    drawn = sampler.draw(200, 0, 7)
    assert drawn.shape == (200, 5, 16, 16, 3) and torch.equal(drawn, sampler.draw(200, 0, 7))
    assert not torch.equal(drawn, sampler.draw(200, 0, 8)) and not torch.equal(drawn, sampler.draw(200, 1, 7))
    steps = drawn[:, 1:].long() - drawn[:, :-1].long()
    assert (steps == 20 * 30 * 3).all()  # frames that follow each other, cut at one place
    corners = drawn[:, 0, 0, 0, 0] % (20 * 30 * 3) // 3
    rows, columns = corners // 30, corners % 30
    assert rows.min() == 0 and rows.max() == 4 and columns.min() == 0 and columns.max() == 14


def test_what_nothing_can_be_learned_from_is_named(film, tmp_path):
    for data, said in (
        (tmp_path / "none", "there is no .*none"),
        (tmp_path, "neither a dataset nor a video"),
    ):
        with pytest.raises(DatasetError, match=said):
            load_clips([data], 9)
    with pytest.raises(DatasetError, match="no video has 9 frames of 64 x 64 pixels, the largest has"):
        train_tokenizer(config(film, tmp_path / "out", height=64, width=64))
    with pytest.raises(ProcosmError, match="multiples of 8"):
        config(film, tmp_path / "out", height=36, width=36)
    with pytest.raises(ProcosmError, match="lie one in the other"):
        train_tokenizer(config(film.parent, film.parent / "out"))


def test_codebook_use_against_counting():
    tokens = torch.tensor([0, 0, 5, 5, 7, 7])
    found = codebook_use(tokens, 10)
    assert found["codes used"] == 3 and found["share used"] == 0.3 and found["tokens"] == 6
    assert found["perplexity"] == pytest.approx(3)
