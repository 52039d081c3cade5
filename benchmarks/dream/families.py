"""How far do dreams of different families drift from the same held-out frames under the same actions?

    python -m procosm.benchmarks.dream.families --data RUN/data --world-models A/world_model B/world_model

Each checkpoint dreams on from the same windows of held-out episodes; scores by horizon stand beside copying the last
frame, dreaming under shuffled actions, and what the checkpoint's own tokenizer allows. ``low`` and ``high`` are 95 %
bootstrap intervals over windows. ``moved_iou`` is the intersection over union of the pixels that changed since the last
given frame, in the dream and in truth, of windows where any did. How long each was trained stands in its provenance,
which is kept in ``details``; checkpoints of a family may be of several seeds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.open_loop import choose_windows, open_loop
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.fidelity.ssim import ssim
from procosm.benchmarks.record import RESULTS, record
from procosm.world_model import command
from procosm.world_model.checkpoint import load, read_config
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Seed
from procosm.world_model.threads import one_thread

UNITS = {
    "psnr_db": "dB", "pixel_mse": "1", "latent_mse": "standardised latent²", "ssim": "1", "moved_iou": "1"
}  # fmt: skip
CHANGED = 25
"""Levels of a colour, of 255, beyond which a pixel has changed."""


def moved_iou(seen: np.ndarray, true: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(n,) intersection over union of the pixels that changed since the last given frame; NaN where none truly did."""
    dreamed, really = (np.abs(each.astype(int) - last).max(axis=3) > CHANGED for each in (seen, true))
    shared, either = ((dreamed & really).sum(axis=(1, 2)), (dreamed | really).sum(axis=(1, 2)))
    return np.where(really.any(axis=(1, 2)), shared / np.maximum(either, 1), np.nan)


SCORES = {"ssim": lambda seen, true, last: ssim(seen, true), "moved_iou": moved_iou}


@dataclass(frozen=True)
class FamiliesConfig(OnDevice):
    """Which world models to compare, and on what."""

    data: Path
    """Folder of the dataset whose held-out episodes judge; none of the world models was trained on these."""
    world_models: tuple[Path, ...]
    """Folders of checkpoints of that task."""
    out: Path = RESULTS / "families.json"
    """Where the result goes."""
    windows: Count = 100
    """Held-out windows."""
    horizon: Count = 16
    """Steps of each dream."""
    seed: Seed = 0
    """Of the windows, the shuffled actions and the intervals."""


@one_thread()
def compare(config: FamiliesConfig) -> Path:
    """Dream with each world model, and write what came of it.

    Raises:
        ProcosmError: world models of another task, or with contexts that differ.
    """
    models = [load(folder, config.device) for folder in config.world_models]
    task, contexts = load_task(config.data), {model.dynamics.context for model in models}
    if any(model.task.id != task.id for model in models) or len(contexts) != 1:
        raise ProcosmError(f"all world models must be of {task.id} and begin with as many frames as each other")
    held_out = [episode for episode in load_episodes(config.data) if episode.kind == "holdout"]
    windows = choose_windows(held_out, contexts.pop(), config.horizon, config.windows, config.seed)
    rows: list[dict[str, Any]] = []
    details = {}
    for folder, model in zip(config.world_models, models, strict=True):
        family = read_config(folder).kinds.dynamics
        trained = model.provenance["configs"]
        details[str(folder)] = {"commit": model.provenance["commit"], "family": family, **trained}
        for row in open_loop(model, windows, None, config.seed, SCORES):
            told = {"task": task.id, "family": family, "seed": trained["train"]["seed"]}
            rows.append({**told, **row, "unit": UNITS[str(row["metric"])]})
    return record(config.out.stem, rows, config.out.parent, details)


if __name__ == "__main__":
    command.main(compare, FamiliesConfig)
