"""Does the growth test tell a right dream from a wrong one where features are read with noise?

    python -m procosm.benchmarks.dream.growth --run runs/without_states/Reacher/seed0

Of a run without states: the growth test of its held-out episodes as training takes it, and without subtracting the
noise of reading, at each horizon. Beside the dream stand what must fail: dreams under another episode's actions, half
of every dreamed change, and standing still. ``noise`` is the share of the recorded change that is noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.episodes import Episode, load_episodes
from procosm.world_model.data.windows import Table, tabulate
from procosm.world_model.errors import ProcosmError
from procosm.world_model.evaluation.growth import agreement, changes, reading_noise
from procosm.world_model.evaluation.open_loop import readings
from procosm.world_model.settings import Count, Seed
from procosm.world_model.training.growth import GROWTH_HORIZON

GATE = 0.5
"""That of the presets."""


@dataclass(frozen=True)
class GrowthConfig(OnDevice):
    """Which run."""

    run: Path
    """Run folder, with data/ and world_model/ in it, of a log without states."""
    episodes: Count = 70
    """Training episodes that the noise is measured on."""
    seed: Seed = 0
    """Of their choice, and of the shuffled actions."""
    out: Path = RESULTS
    """Folder of the result."""


def encoded(model: WorldModel, episodes: list[Episode]) -> tuple[Table, Tensor]:
    """Episodes as a table, and the latents of their frames."""
    inside = [replace(each, frames=each.frames[:]) for each in episodes]  # from disk, where they are there
    latents = model.encode(np.concatenate([each.frames for each in inside]))
    return tabulate(inside, inside[0].kind, model.dynamics.context).to(latents.device), latents


def shuffled(table: Table, generator: np.random.Generator) -> Table:
    """The table, each episode with the actions of another, as far as both last."""
    first, actions = torch.unique(table.first).tolist(), table.actions.clone()
    for mine, other in zip(first, np.roll(generator.permutation(first), 1).tolist(), strict=True):
        steps = int(min(table.last[mine] - mine, table.last[other] - other))
        actions[mine : mine + steps] = table.actions[other : other + steps]
    return replace(table, actions=actions)


def rows_of(model: WorldModel, train: list[Episode], held_out: list[Episode], seed: int) -> Iterator[dict[str, Any]]:
    """A row for each method, horizon, and way to count."""
    dynamics, (table, latents), (judged, seen) = model.dynamics, encoded(model, train), encoded(model, held_out)
    deviation = readings(dynamics, "features", table, latents, table.steps).std(0)
    noise = reading_noise(dynamics, "features", table, latents) / deviation.square()
    told = (1 - noise).clamp_min(0)
    ways = {"as read": (1 / deviation, 0.0), "noise subtracted": (told.sqrt() / deviation, float((told * noise).sum()))}
    found = changes(dynamics, "features", judged, seen, GROWTH_HORIZON)
    wrong = changes(dynamics, "features", shuffled(judged, np.random.default_rng(seed)), seen, GROWTH_HORIZON)
    if found is None or wrong is None:
        raise ProcosmError("no held-out episode outlasts the context: collect more steps")
    methods = {"dream": found.dreamed, "shuffled actions": wrong.dreamed, "half of each change": found.dreamed / 2}
    for method, dreamed in (methods | {"standing still": torch.zeros_like(found.dreamed)}).items():
        for way, (weight, variance) in ways.items():
            errors = []
            for each in agreement(found.true * weight, dreamed * weight, found.there, variance):
                place = {"method": method, "counted": way, "horizon": each.horizon, "n": len(each.true), "unit": "1"}
                yield {**place, "metric": "growth error", "value": each.error, "slope": each.slope, "noise": each.noise}
                errors.append(each.error)
            passed = float(max(errors, default=np.inf) <= GATE)
            yield {"method": method, "counted": way, "metric": "gate passed", "value": passed, "unit": "1"}


@torch.no_grad()
def main(config: GrowthConfig) -> Path:
    """Judge, and write ``growth_<task>.json``.

    Raises:
        ProcosmError: a run with states.
    """
    model = load(config.run / "world_model", config.device)
    if "features" not in model.capabilities:
        raise ProcosmError(f"the world model of {config.run} reads no features: give a run without states")
    episodes = load_episodes(config.run / "data", frames_on_disk=True)
    train, held_out = ([each for each in episodes if each.kind == kind] for kind in ("train", "holdout"))
    chosen = np.random.default_rng(config.seed).permutation(len(train))[: config.episodes]
    found = rows_of(model, [train[i] for i in chosen], held_out, config.seed)
    rows = [{"task": model.task.id, "seed": config.seed, **row} for row in found]
    for row in rows:
        if row["metric"] == "gate passed":
            print(f"{row['method']:22} {row['counted']:18} {'passes' if row['value'] else 'fails'}")
    details = {
        "gate": GATE,
        "world_model": {key: model.provenance.get(key) for key in ("commit", "date")},
    }
    return record(f"growth_{in_files(model.task.id)}", rows, config.out, details)


if __name__ == "__main__":
    command.main(main, GrowthConfig)
