"""Video files to files of latents and back: the same frames as from the tokenizer itself, whatever interrupts it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.world_model.data.video_stream import LOSSLESS, encode_part, frames_of, probe
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_tensors
from procosm.world_model.tokenizer import folder, transcode
from procosm.world_model.tokenizer.coded import read_about
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.rates import rate_config
from procosm.world_model.tokenizer.transcode import DecodeConfig, EncodeConfig, decode, encode

FRAMES, HEIGHT, WIDTH, DT_S = 71, 36, 28, 0.04


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """71 frames of 36 x 28: two windows of 33 at 4 frames a latent, and a part of a third."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    smooth = np.random.default_rng(0).integers(0, 256, (FRAMES, 9, 7, 3), np.uint8)
    path.write_bytes(encode_part(smooth.repeat(4, 1).repeat(4, 2), DT_S, LOSSLESS))
    return path


def tokenizer_folder(path: Path, rate: str, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = CausalTokenizer(rate_config(rate, 32, 32, channels=8, blocks=0))
    model.fit_latents(2 * torch.randn(4, model.spec.shape[0], 3, 4, 4))
    return folder.save(path, model, {}, {})


def by_hand(film: Path, tokenizer: Path) -> tuple[list[torch.Tensor], np.ndarray]:
    """Latents and decoded frames of each window, padded by hand."""
    model = folder.load(tokenizer, 40, 32)
    frames = np.stack(list(frames_of(film)))
    window = 1 + 8 * model.spec.frames_per_latent
    latents, decoded = [], []
    for first in range(0, FRAMES, window):
        part = frames[first : first + window]
        part = np.concatenate([part, part[-1:].repeat(window - len(part), 0)])
        part = np.pad(part, ((0, 0), (0, 4), (0, 4), (0, 0)), mode="edge")
        latents.append(model.encode(torch.from_numpy(part)[None]))
        decoded.append(model.decode(latents[-1].half().float() if model.spec.vocabulary is None else latents[-1])[0])
    return latents, torch.cat(decoded)[:FRAMES, :HEIGHT, :WIDTH].numpy()


@pytest.mark.parametrize("rate", ["CI8x8", "DV4x8x8", "CV8x8x8"])
def test_files_hold_what_the_tokenizer_makes_of_each_window_and_decode_to_its_frames(rate, film, tmp_path, capsys):
    tokenizer = tokenizer_folder(tmp_path / "tokenizer", rate)
    made = encode(EncodeConfig(film, tokenizer, tmp_path / "film.safetensors", "cpu"))
    assert "71 frames in" in capsys.readouterr().err
    latents, frames = by_hand(film, tokenizer)
    stored = read_tensors(made)
    if rate[0] == "D":
        tokens = folder.load(tokenizer, 40, 32).quantize(torch.cat(latents, dim=1))[0]
        assert stored["tokens"].dtype == torch.uint16 and torch.equal(stored["tokens"].long(), tokens)
    else:
        assert torch.equal(stored["latents"], torch.cat(latents, dim=1)[0].half())
    about = read_about(made)
    assert (about.frames, about.height, about.width, about.dt_s) == (FRAMES, HEIGHT, WIDTH, DT_S)
    shown = decode(DecodeConfig(made, tokenizer, tmp_path / "decoded.mp4", quality=0, device="cpu"))
    np.testing.assert_array_equal(np.stack(list(frames_of(shown))), frames)
    said = probe(shown)
    assert (said.frames, said.height, said.width, said.dt_s) == (FRAMES, HEIGHT, WIDTH, DT_S)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoded.mp4", "film.safetensors", "tokenizer"]


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_a_stopped_command_goes_on_with_the_window_it_was_at(verb, film, tmp_path, monkeypatch):
    tokenizer = tokenizer_folder(tmp_path / "tokenizer", "DV4x8x8")
    latents = encode(EncodeConfig(film, tokenizer, tmp_path / "film.safetensors", "cpu"))
    work = {
        "encode": lambda out: encode(EncodeConfig(film, tokenizer, out / "x.safetensors", "cpu")),
        "decode": lambda out: decode(DecodeConfig(latents, tokenizer, out / "x.mp4", 0, "cpu")),
    }[verb]
    writes = "write_tensors" if verb == "encode" else "write_bytes"
    made, write = [], getattr(transcode, writes)

    def stops_at_the_third(path, *content):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path)
        write(path, *content)

    whole = work(tmp_path / "whole").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(transcode, writes, stops_at_the_third)
        work(tmp_path / "stopped")
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(transcode, writes, lambda path, *content: (seen.append(path), write(path, *content)))
        assert work(tmp_path / "stopped").read_bytes() == whole
    assert len(made) == 2 and len([path for path in seen if path.parent.name.endswith(".parts")]) == 1


def test_what_cannot_be_done_is_said_before_it_is_begun(film, tmp_path):
    tokenizer = tokenizer_folder(tmp_path / "tokenizer", "DV4x8x8")
    other = tokenizer_folder(tmp_path / "other", "DV4x8x8", seed=1)
    latents = encode(EncodeConfig(film, tokenizer, tmp_path / "film.safetensors", "cpu"))
    assert encode(EncodeConfig(film, tokenizer, latents, "cpu")) == latents  # finished
    (tmp_path / "text.mp4").write_text("no video")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(latents.read_bytes()[:-9])
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(film.read_bytes()[:900])
    out, mp4 = tmp_path / "out.safetensors", tmp_path / "out.mp4"
    for begun, said in (
        (lambda: encode(EncodeConfig(film, other, latents, "cpu")), "holds the latents of something else"),
        (lambda: encode(EncodeConfig(film, tokenizer, tmp_path / "out.bin", "cpu")), "ends in .safetensors"),
        (lambda: encode(EncodeConfig(tmp_path / "none.mp4", tokenizer, out, "cpu")), "there is no .*none.mp4"),
        (lambda: encode(EncodeConfig(tmp_path / "text.mp4", tokenizer, out, "cpu")), "text.mp4 is no video"),
        (lambda: encode(EncodeConfig(cut, tokenizer, out, "cpu")), "cut.mp4 is no video, or a damaged one"),
        (lambda: encode(EncodeConfig(film, tmp_path / "none", out, "cpu")), "procosm train-tokenizer"),
        (lambda: decode(DecodeConfig(latents, other, mp4, device="cpu")), "by another tokenizer"),
        (lambda: decode(DecodeConfig(damaged, tokenizer, mp4, device="cpu")), "damaged.safetensors"),
        (lambda: decode(DecodeConfig(tokenizer / "tokenizer.safetensors", tokenizer, mp4)), "no file of latents"),
        (lambda: decode(DecodeConfig(latents, tokenizer, tmp_path / "out.avi", device="cpu")), "ends in .mp4"),
        (lambda: decode(DecodeConfig(latents, tokenizer, film, device="cpu")), "is there already"),
    ):
        with pytest.raises(ProcosmError, match=said):
            begun()
    assert not out.exists() and not mp4.exists()


def test_parts_of_another_work_are_not_gone_on_with(film, tmp_path, monkeypatch):
    tokenizer = tokenizer_folder(tmp_path / "tokenizer", "DV4x8x8")
    out = tmp_path / "x.safetensors"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(transcode, "write_tensors", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        encode(EncodeConfig(film, tokenizer, out, "cpu"))
    with pytest.raises(ProcosmError, match=r"another work \(other tokenizer\)"):
        encode(EncodeConfig(film, tokenizer_folder(tmp_path / "other", "DV4x8x8", seed=1), out, "cpu"))


def test_a_world_models_tokenizer_codes_frames_of_its_own_size(tiny_checkpoint, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    film = tmp_path / "film.mp4"
    film.write_bytes(encode_part(frames, DT_S, LOSSLESS))
    made = encode(EncodeConfig(film, tiny_checkpoint, tmp_path / "x.safetensors", "cpu"))
    shown = decode(DecodeConfig(made, tiny_checkpoint, tmp_path / "x.mp4", device="cpu"))
    assert [frame.shape for frame in frames_of(shown)] == 20 * [(64, 64, 3)]
    film.write_bytes(encode_part(frames[:, :32, :32], DT_S, LOSSLESS))
    with pytest.raises(ProcosmError, match="64 x 64 pixels alone"):
        encode(EncodeConfig(film, tiny_checkpoint, tmp_path / "y.safetensors", "cpu"))
