"""How actions steer the transformer: the Cosmos-Predict2 form (reference code of arXiv 2511.00062).

Two MLPs read the same action. One adds to the timestep embedding, before its norm; the other to the low-rank AdaLN
branch that every block shares. Predict1 bound the first one too late, so that it never reached the blocks.
"""

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
