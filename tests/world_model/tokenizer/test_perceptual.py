import math

import pytest
import torch
import torch.nn.functional as F

from procosm.world_model.tokenizer.perceptual import (
    ORIENTATIONS,
    WAVELENGTH,
    GaborFeatures,
    feature_distance,
    gabor_filters,
    gram_distance,
)


def grating(orientation: int, phase: float, side: int = 32) -> torch.Tensor:
    """(1, 3, side, side): a grey wave across one of the filters' orientations."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angle = math.pi * orientation / ORIENTATIONS
    wave = (2 * math.pi / WAVELENGTH * (x * math.cos(angle) + y * math.sin(angle)) + phase).cos()
    return (0.5 * wave).expand(1, 3, -1, -1)


def textured(seed: int, side: int = 64) -> torch.Tensor:
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise, 5, 1, 2).mul(2).clamp(-1, 1)


def test_filters_see_no_brightness():
    torch.testing.assert_close(gabor_filters().sum((1, 2, 3)), torch.zeros(2 * ORIENTATIONS), atol=1e-6, rtol=0)


@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_energies_tell_the_orientation_of_a_wave_and_not_its_phase(orientation):
    features = GaborFeatures()
    inside = slice(8, -8)
    energies = [
        features(grating(orientation, phase))[0][0, :ORIENTATIONS, inside, inside].mean((1, 2))
        for phase in (0.0, 0.7, 1.9, 3.0)
    ]
    assert all(each.argmax() == orientation for each in energies)
    assert torch.stack(energies).std(0).max() < 0.02 * energies[0].max()


def test_equal_pictures_are_no_distance_apart_and_blur_is_further_than_as_much_brightness():
    features, picture = GaborFeatures(), textured(0)
    blurred = F.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    brighter = picture + (blurred - picture).square().mean().sqrt()
    seen = {name: features(x) for name, x in (("real", picture), ("blurred", blurred), ("brighter", brighter))}
    assert feature_distance(seen["real"], seen["real"]).item() == gram_distance(seen["real"], seen["real"]).item() == 0
    assert feature_distance(seen["blurred"], seen["real"]) > 10 * feature_distance(seen["brighter"], seen["real"])
    assert gram_distance(seen["blurred"], seen["real"]) > 10 * gram_distance(seen["brighter"], seen["real"])


def test_texture_stays_when_a_picture_is_moved_and_its_features_do_not():
    features = GaborFeatures()
    picture, other = textured(0), grating(0, 0.0, 64)
    seen, moved = features(picture), features(picture.roll((16, 16), dims=(2, 3)))
    assert gram_distance(seen, moved) < 0.1 * gram_distance(seen, features(other))
    assert feature_distance(seen, moved) > 0.5 * feature_distance(seen, features(other))


def test_gradients_lead_back_to_the_picture():
    features, picture = GaborFeatures(), textured(0)
    wanted = features(picture)
    x = (picture + 0.1 * torch.randn_like(picture)).requires_grad_()
    optimizer = torch.optim.Adam([x], 0.01)
    found = []
    for _ in range(30):
        loss = feature_distance(features(x), wanted).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.5 * found[0]


def test_pictures_too_small_for_a_scale_have_fewer():
    assert [f.shape[2] for f in GaborFeatures()(torch.zeros(1, 3, 64, 64))] == [64, 32, 16]
    assert [f.shape[2] for f in GaborFeatures()(torch.zeros(1, 3, 12, 12))] == [12, 6]
