"""Judges a trained world model, scenario by scenario; each is written when it is done, and not made again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from procosm.benchmarks.dream.physics.colours import ColourClassifier, fit_colours
from procosm.benchmarks.dream.physics.data import draws
from procosm.benchmarks.dream.physics.dreams import SAMPLER_STEPS, SHOWN, held_out, score
from procosm.benchmarks.dream.physics.figure import physics_figure
from procosm.benchmarks.dream.physics.film import film
from procosm.benchmarks.dream.physics.rows import PAPER, reading, rows
from procosm.benchmarks.dream.physics.scenarios import SCENARIOS
from procosm.benchmarks.record import record
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.files import read_tensors, write_tensors
from procosm.world_model.precision import has_bfloat16

CLASSIFIER_FILMS, CLASSIFIER_EVERY = 2, 5
"""Training films of each scenario, and frames apart in them, that the colours are learned from."""


@dataclass(frozen=True)
class Judgement:
    """How closely a world model is judged."""

    films: int
    seeds: int
    seed: int


def judge(config: Judgement, out: Path, device: str = "cpu") -> Path:
    """Score OUT/world_model on films it has not seen; writes OUT/physics.json and .png.

    Returns:
        the folder of the scores, OUT/scores.
    """
    folder, model = out / "scores", load(out / "world_model", device)
    model.dynamics.mixed = model.tokenizer.mixed = has_bfloat16()
    files = {name: folder / f"{name.replace(' ', '_')}.safetensors" for name in SCENARIOS}
    missing = {name: path for name, path in files.items() if not path.exists()}
    if missing:
        _score(model, config, missing)
    stored = {name: {key: v.numpy() for key, v in read_tensors(path).items()} for name, path in files.items()}
    shown = {name: {kind: each.pop(f"frames/{kind}") for kind in SHOWN} for name, each in stored.items()}
    made = rows(stored, config.seed)
    details = {
        "reading": reading(made),
        "films": f"{config.films} a scenario, 4 cameras, 33 frames of .02 s scored after the 9th",
        "sampling": f"{config.seeds} seeds, {SAMPLER_STEPS} denoising steps from noise; 'mean' is one step from zero",
        "world model": {key: model.provenance[key] for key in ("commit", "date", "configs")},
        "paper": PAPER,
    }
    record("physics", made, out, details)
    physics_figure(shown, stored, out / "physics.png")
    return folder


def _score(model: WorldModel, config: Judgement, missing: dict[str, Path]) -> None:
    """Score these scenarios, each into its file."""
    classifier = real_colours(config.seed)
    for name, path in tqdm(missing.items(), desc="judging", unit="scenario"):
        trial = held_out(name, config.films, config.seed)
        found, shown = score(model, classifier, trial, list(range(config.seeds)))
        strips = {f"frames/{kind}": frames for kind, frames in shown.items()}
        write_tensors(path, {key: torch.from_numpy(values) for key, values in (found | strips).items()})


def real_colours(seed: int) -> ColourClassifier:
    """The classifier of pixels, fitted to training films of all scenarios."""
    taken = [
        film(name, draws(seed, "train", name, number), masks=True)
        for name in SCENARIOS
        for number in range(CLASSIFIER_FILMS)
    ]
    frames = np.stack([each.frames[:, ::CLASSIFIER_EVERY] for each in taken])
    classes = np.stack([each.classes[:, ::CLASSIFIER_EVERY] for each in taken])
    return fit_colours(frames, classes)
