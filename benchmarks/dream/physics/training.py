"""The world model of all eight scenarios together: its sizes, and how long it learns."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from procosm.agents.stages import fingerprint, run_once
from procosm.benchmarks.dream.physics.data import CONDITION, write_films
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig, train

_SMALL, _DEBUG = preset("small"), preset("debug")
SIZES = (
    dataclasses.replace(
        _SMALL,
        tokenizer=dataclasses.replace(_SMALL.tokenizer, latent_channels=8),
        dynamics=dataclasses.replace(_SMALL.dynamics, context=CONDITION),
    )
    .with_stage("tokenizer", steps=1500, batch=8)
    .with_stage("diffusion", steps=2000)
    .with_stage("unroll", steps=250, batch=32, horizon=8, growth_gate=None)
)
"""The preset small with a long memory, more latent channels for six colours and thirty-two views, and more steps."""

QUICK = dataclasses.replace(_DEBUG, dynamics=dataclasses.replace(_DEBUG.dynamics, context=CONDITION))
"""Goes through every part in seconds, and dreams of nothing recognisable."""


@dataclass(frozen=True)
class Lesson:
    """What decides the world model: films of each scenario, the seed of films and weights, and whether it is QUICK."""

    films: int
    seed: int
    quick: bool


def world_model(lesson: Lesson, out: Path, device: str = "cpu") -> Path:
    """Make the films OUT/data and train OUT/world_model on them, each once; killed, it goes on where it was."""
    data = run_once(out / "data", lesson, lambda lesson: write_films(out / "data", lesson.films, lesson.seed))
    config = TrainConfig(data=data, out=out / "world_model", preset="physics", seed=lesson.seed, device=device)
    inputs = {"dataset": fingerprint(data, (".hdf5", ".json"))}
    return run_once(config.out, config, lambda config: train(config, QUICK if lesson.quick else SIZES), inputs)
