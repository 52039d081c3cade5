"""How actions steer the transformer: the Cosmos-Predict2 form (reference code of arXiv 2511.00062).

Two MLPs read the same action. One adds to the timestep embedding, before its norm; the other to the low-rank AdaLN
branch that every block shares. Predict1 bound the first one too late, so that it never reached the blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ActionEmbedding(nn.Module):
    """Actions in [-1, 1] to additions to the timestep embedding (d) and to the AdaLN-LoRA branch (3 d)."""

    def __init__(self, action_size: int, width: int, expansion: int = 1, approximate: str = "none") -> None:
        """``expansion``: hidden width over d. ``approximate``: which GELU; published models have 4 and ``tanh``."""
        super().__init__()
        hidden, self.approximate = expansion * width, approximate
        self.hidden_d, self.out_d = nn.Linear(action_size, hidden), nn.Linear(hidden, width)
        self.hidden_3d, self.out_3d = nn.Linear(action_size, hidden), nn.Linear(hidden, 3 * width)

    def forward(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """(…, a) to (…, d) and (…, 3 d)."""
        d, wide = (F.gelu(each(action), approximate=self.approximate) for each in (self.hidden_d, self.hidden_3d))
        return self.out_d(d), self.out_3d(wide)

    @torch.no_grad()
    def silence(self) -> None:
        """Add nothing until it is trained: a model that this is added to stays as it was."""
        for layer in (self.out_d, self.out_3d):
            layer.weight.zero_()
            layer.bias.zero_()


def resized_columns(weight: Tensor, before: int, after: int, slots: int) -> Tensor:
    """The first layer's weight for actions of another size: number i of each action stays number i, new ones add 0.

    Args:
        weight: (out, slots * before + other), its columns those of ``slots`` actions, one after another, then others.
        before, after: numbers of an action.

    Returns:
        (out, slots * after + other).
    """
    actions, other = weight[:, : slots * before].unflatten(1, (slots, before)), weight[:, slots * before :]
    kept = actions[..., : min(before, after)]
    return torch.cat([F.pad(kept, (0, after - kept.shape[2])).flatten(1), other], dim=1)
