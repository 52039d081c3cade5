"""Trust without states: how common it is for a real moment to lie as far from the known ones as this one does.

Where no states were logged, nothing tells how far a dream is from the truth; but where the log has never been, the
dream cannot know better. So a dream's features are compared with those of real moments of the training episodes,
spread over all that were reached, and the distance with that of held-out moments, which are real and were not trained
on either.

Axis letters: m known moment, n dream, f feature.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from procosm.world_model.errors import CheckpointError

ANCHORS = 1024
"""Known moments that are kept, at most."""
STEPS = 100
"""Quantiles of the held-out moments' distances that are kept, beside the least."""


class Coverage:
    """The known moments, beside a batch of dreams; all tensors are on one device."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Args: tensors: ``anchors`` (m, f) and ``distances``, ascending quantiles, as a checkpoint holds them.

        Raises:
            CheckpointError: they are not what this version writes.
        """
        anchors, distances = tensors.get("anchors"), tensors.get("distances")
        if anchors is None or distances is None or anchors.dim() != 2 or distances.shape != (STEPS + 1,):
            raise CheckpointError(
                "trust.safetensors of the checkpoint is damaged or of another version: make it again with "
                "`python -m procosm.envs.trust.calibrate`, or delete it"
            )
        self._anchors, self._distances = anchors, distances

    def begin(self, slots: Tensor, features: Tensor) -> Tensor:
        """New dreams begin in (k,) slots with (k, f) features; returns their trust (k,)."""
        return self.trust(features)

    def advance(self, actions: Tensor, features: Tensor) -> Tensor:
        """Every dream took (n, a) actions and shows (n, f) features now; returns its trust (n,)."""
        return self.trust(features)

    def forecasts(self, slot: int) -> Tensor:
        """Nothing is remembered of a dream."""
        return self._anchors.new_zeros(0)

    def resume(self, slot: int, forecasts: Tensor, features: Tensor) -> float:
        """The trust of a dream with (f,) features."""
        return float(self.trust(features[None])[0])

    def trust(self, features: Tensor) -> Tensor:
        """(n,), the share of held-out real moments that lie farther from the known ones than (n, f) features."""
        nearest = nearest_distance(features, self._anchors)
        within = torch.searchsorted(self._distances, nearest.contiguous(), right=True)
        return 1 - within.float() / (STEPS + 1)


def nearest_distance(features: Tensor, anchors: Tensor) -> Tensor:
    """(n,) root mean square distance of (n, f) features from the nearest of (m, f) anchors."""
    return torch.cdist(features, anchors).amin(1) / features.shape[1] ** 0.5


def fit(known: Tensor, held_out: Tensor) -> dict[str, Tensor]:
    """Tensors of :class:`Coverage`, from (n, f) features of training moments and (k, f) of held-out ones.

    Anchors are spread over all that was reached: each is the moment farthest from those chosen before (Gonzalez 1985).
    """
    near, chosen = torch.full((len(known),), torch.inf), [0]
    while len(chosen) < min(ANCHORS, len(known)):
        near = torch.minimum(near, (known - known[chosen[-1]]).square().sum(1))
        chosen.append(int(near.argmax()))
    anchors = known[torch.tensor(chosen)]
    distances = nearest_distance(held_out, anchors)
    return {"anchors": anchors, "distances": torch.quantile(distances, torch.linspace(0, 1, STEPS + 1))}
