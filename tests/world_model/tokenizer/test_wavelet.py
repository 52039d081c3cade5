import pytest
import torch

from procosm.world_model.tokenizer.wavelet import haar, inverse_haar


@pytest.mark.parametrize(
    ("levels", "temporal", "frames"), [(1, False, 3), (2, False, 1), (1, True, 5), (2, True, 9), (2, True, 1)]
)
def test_inverse_is_exact_and_shapes_are_as_documented(levels, temporal, frames):
    x = torch.randn(2, 3, frames, 16, 24, dtype=torch.float64)
    y = haar(x, levels, temporal)
    time = 1 + (frames - 1) // 2**levels if temporal else frames
    assert y.shape == (2, 3 * (8 if temporal else 4) ** levels, time, 16 >> levels, 24 >> levels)
    assert torch.allclose(inverse_haar(y, levels, temporal), x, atol=1e-14)


def test_spatial_transform_is_orthonormal():
    x = torch.randn(2, 3, 1, 16, 16, dtype=torch.float64)
    assert torch.allclose(haar(x, 2, False).square().sum(), x.square().sum())


def test_one_level_against_the_definition():
    x = torch.randn(1, 1, 1, 2, 2, dtype=torch.float64)
    (a, b), (c, d) = x[0, 0, 0]
    expected = torch.stack([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]) / 2
    got = haar(x, 1, False).flatten()
    assert torch.allclose(got.sort().values, expected.sort().values)
    assert torch.allclose(got[0], expected[0])  # the mean stands first


def test_no_coefficient_sees_a_later_group():
    x = torch.randn(1, 3, 9, 8, 8)
    y = haar(x, 2, True)
    for frame in range(9):
        changed = x.clone()
        changed[:, :, frame] += 1
        group = 0 if frame == 0 else 1 + (frame - 1) // 4
        assert torch.equal(haar(changed, 2, True)[:, :, :group], y[:, :, :group])
