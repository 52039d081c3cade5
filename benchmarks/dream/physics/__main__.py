"""Physics alignment (Cosmos §5.3, arXiv 2501.03575) in one command: films, a world model of them, dreams beside truth.

    python -m procosm.benchmarks.dream.physics --quick      # two minutes
    python -m procosm.benchmarks.dream.physics --publish

Eight scenarios, their parameters drawn anew for every film, four cameras each. A world model is trained on some films;
others are dreamed on from nine frames and from one, and 33 frames are held against the truth: PSNR, SSIM, and the
overlap of objects, found by their colours, with MuJoCo's segmentation. Beside it stand the last frame kept still, the
true frames through the tokenizer, and the colours' own mistakes on true frames. Killed at any moment, the same command
goes on.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from procosm.agents.stages import fingerprint, run_once
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.physics.judging import Judgement, judge
from procosm.benchmarks.dream.physics.training import Lesson, world_model
from procosm.benchmarks.record import RESULTS
from procosm.world_model import command
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Seed


@dataclass(frozen=True)
class PhysicsConfig(OnDevice):
    """How much is filmed, and how closely it is judged."""

    out: Path = Path("runs/physics")
    """Folder of films, world model and scores (--quick: its subfolder quick)."""
    films: Count = 24
    """Training films of each scenario, each seen by four cameras."""
    held_out: Count = 8
    """Films of each scenario that are dreamed on and scored."""
    seeds: Count = 4
    """Sampled dreams of each."""
    seed: Seed = 0
    """Of films, weights and intervals."""
    quick: bool = False
    """Two films of each, two seeds and a world model of the debug size: everything runs, nothing is learned."""
    publish: bool = False
    """Copy the result and its figure to benchmarks/results too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quick and self.publish:
            raise ProcosmError("a quick result says nothing of the model: publish one without --quick")


def physics(config: PhysicsConfig) -> Path:
    """Film, train and judge, or go on with it; writes OUT/physics.json and .png (--quick: OUT/quick/…).

    Returns:
        the JSON file.

    Raises:
        ProcosmError: OUT was begun with other settings.
    """
    out = config.out / "quick" if config.quick else config.out
    films, held_out, seeds = (2, 2, 2) if config.quick else (config.films, config.held_out, config.seeds)
    model = world_model(Lesson(films, config.seed, config.quick), out, config.device)
    inputs = {"world model": fingerprint(model, (".safetensors", "config.json"))}
    asked = Judgement(held_out, seeds, config.seed)
    run_once(out / "scores", asked, lambda asked: judge(asked, out, config.device), inputs)
    result = out / "physics.json"
    if config.publish:
        shutil.copyfile(result, RESULTS / result.name)
        shutil.copyfile(result.with_suffix(".png"), RESULTS / "figures" / "physics.png")
    return result


if __name__ == "__main__":
    command.main(physics, PhysicsConfig)
