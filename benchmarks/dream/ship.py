"""Make the weights that ship in the package from a finished run: half precision, a few start windows, at most 8 MB.

python -m procosm.benchmarks.dream.ship --run runs/bench/InvertedPendulum/seed0 --name InvertedPendulum
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from procosm.benchmarks.record import RESULTS
from procosm.world_model import command
from procosm.world_model.checkpoint import load, save
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Settings

CHECKPOINTS = RESULTS.parent.parent / "envs" / "checkpoints"
MOST_BYTES = 8_000_000


@dataclass(frozen=True)
class ShipConfig(Settings):
    """Which run ships, and as what."""

    run: Path
    """A finished run folder."""
    name: str
    """Name of the id: InvertedPendulum for Procosm/InvertedPendulum-v0."""
    starts: Count = 64
    """Held-out windows to start dreams from."""


def ship(config: ShipConfig) -> Path:
    """Write ``envs/checkpoints/NAME``; returns it.

    Raises:
        ProcosmError: it came out larger than 8 MB.
    """
    model = load(config.run / "world_model")
    for module in (cast(nn.Module, model.tokenizer), cast(nn.Module, model.dynamics)):
        for parameter in module.parameters():
            parameter.data = parameter.data.half()  # opening a checkpoint makes them float32 again
    chosen = torch.linspace(0, len(model.starts) - 1, min(config.starts, len(model.starts))).long()
    origin = model.provenance | {"shipped": "weights in float16, fewer start windows"}
    small = dataclasses.replace(
        model,
        start_frames=model.start_frames[chosen],
        start_states=None if model.start_states is None else model.start_states[chosen],
        start_actions=None if model.start_actions is None else model.start_actions[chosen],
        starts=model.starts[chosen],
        practice=None,
        provenance=json.loads(json.dumps(origin).replace(f"{Path.cwd()}/", "")),  # a reader has other folders
    )
    CHECKPOINTS.mkdir(exist_ok=True)
    folder = save(CHECKPOINTS / config.name, small)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > MOST_BYTES:
        raise ProcosmError(f"{folder} has {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}: give fewer --starts")
    print(f"wrote {folder}, {size / 1e6:.1f} MB", file=sys.stderr)
    return folder


if __name__ == "__main__":
    command.main(ship, ShipConfig)
