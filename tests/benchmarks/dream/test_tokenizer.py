"""The judges of the tokenizer benchmark, on clips whose scores can be known."""

import numpy as np
import pytest
import torch

from procosm.benchmarks.dream.tokenizer.codecs import best_within, h264, jpeg
from procosm.benchmarks.dream.tokenizer.frame_net import FrameNet, frame_distance
from procosm.benchmarks.dream.tokenizer.judging import (
    compared,
    judge_copies,
    judge_tokenizer,
    look_ahead,
    stored_bytes,
)
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.rates import rate_config


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    """A square that moves over a slope of grey, (2, 9, 32, 32, 3)."""
    found = np.empty((2, 9, 32, 32, 3), np.uint8)
    found[:] = np.linspace(20, 220, 32).astype(np.uint8)[:, None]
    for n in range(2):
        for t in range(9):
            found[n, t, 8 + 4 * n : 16 + 4 * n, 2 * t : 2 * t + 8] = (230, 40, 90)
    return found


@pytest.fixture(scope="module")
def net() -> FrameNet:
    torch.manual_seed(0)
    return FrameNet({}, 32)


@pytest.mark.parametrize("codec", [jpeg, h264])
def test_codecs_come_nearer_with_more_bytes_and_stay_within_them(codec, clips):
    errors = []
    for target in (60, 200, 900):
        decoded, size = best_within(codec, clips[0], target)
        assert decoded.shape == clips[0].shape and decoded.dtype == np.uint8 and size <= target
        errors.append(np.square(decoded.astype(float) - clips[0]).mean())
    assert errors[0] > errors[1] >= errors[2]
    assert best_within(codec, clips[0], 0.0)[0].shape == clips[0].shape  # the fewest bytes there are


def test_a_still_clip_costs_h264_hardly_more_than_one_frame(clips):
    still = clips[0][:1].repeat(9, axis=0)
    _, one = h264(still[:1], 60, "full")
    _, nine = h264(still, 60, "full")
    assert 9 * nine < 1.5 * one + 9 * 20


def test_scores_of_equal_and_of_brighter_clips(clips, net):
    same = compared(clips, clips, net)
    assert same["psnr_db"] == pytest.approx([68.13, 68.13], abs=0.01) and same["ssim"] == pytest.approx([1, 1])
    assert same["framenet_distance"].tolist() == [0, 0]
    brighter = compared(clips + np.uint8(5), clips, net)
    assert brighter["psnr_db"] == pytest.approx([10 * np.log10(255**2 / 25)] * 2)
    copies = judge_copies(clips, net)
    assert (copies["ssim"] < 1).all() and (copies["framenet_distance"] > 0).all() and "bytes_per_frame" not in copies
    assert (frame_distance(net, clips[0], clips[0]) == 0).all()


@pytest.mark.parametrize(
    ("name", "size"), [("CI8x8", 2 * 16 * 16), ("DV4x8x8", 2 * 16 * 3 / 9), ("CV8x16x16", 2 * 64 * 2 / 9)]
)
def test_bytes_are_those_of_the_stored_numbers_and_nothing_looks_ahead(name, size, clips, net):
    torch.manual_seed(0)
    model = CausalTokenizer(rate_config(name, 32, 32, channels=8, blocks=0))
    found = judge_tokenizer(model, clips, net)
    assert found.scores["bytes_per_frame"] == pytest.approx([size, size]) == [stored_bytes(model, clips)] * 2
    assert found.whole["causality_difference"] == 0 and found.whole["decode_ms_per_frame"] > 0


def test_a_tokenizer_that_looks_ahead_is_found_out(clips):
    class LooksAhead(CausalTokenizer):
        def encode(self, frames):
            return super().encode(frames.flip(1))

        def decode(self, latents):
            return super().decode(latents).flip(1)

    torch.manual_seed(0)
    model = LooksAhead(rate_config("CV4x8x8", 32, 32, channels=8, blocks=0))
    assert look_ahead(model, clips[0]) > 0
