"""Trust where no states were logged: the share of real moments that lie farther from the known ones."""

import pytest
import torch

from procosm.envs.trust.coverage import ANCHORS, STEPS, Coverage, fit
from procosm.world_model.errors import CheckpointError


def moments(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def test_trust_is_the_share_of_held_out_moments_that_lie_farther_out():
    known, held_out, asked = moments(300, 0), moments(500, 1), 1.5 * moments(200, 2)

    def distances(points: torch.Tensor) -> torch.Tensor:
        return torch.stack([(known - point).square().mean(1).sqrt().min() for point in points])

    trust = Coverage(fit(known, held_out)).begin(torch.arange(200), asked)
    farther = (distances(held_out)[None] > distances(asked)[:, None]).float().mean(1)
    assert (trust - farther).abs().max() <= 2 / STEPS
    assert trust.min() == 0 < 0.9 < trust.max(), "far out there is none, at a known moment all"


def test_what_is_known_is_kept_where_it_was_rare_too():
    crowd = 0.01 * moments(4 * ANCHORS, 0)
    crowd[17] = torch.tensor([5.0, 0.0, 0.0])
    tensors = fit(crowd, 0.01 * moments(100, 1))
    assert tensors["anchors"].shape == (ANCHORS, 3) and (tensors["anchors"] == crowd[17]).all(1).any()
    coverage = Coverage(tensors)
    assert coverage.resume(0, coverage.forecasts(0), crowd[17]) > 0.9 and coverage.trust(2 * crowd[17:18]) == 0


@pytest.mark.parametrize("damage", ["anchors", "distances", "shape"])
def test_damaged_tensors_are_named(damage):
    tensors = fit(moments(20, 0), moments(20, 1))
    tensors[damage if damage != "shape" else "distances"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"trust\.safetensors"):
        Coverage(tensors)
    del tensors["distances"]
    with pytest.raises(CheckpointError, match=r"trust\.safetensors"):
        Coverage(tensors)
