"""Do controllers that barely hold a pendulum fall in the dream as they do in MuJoCo?

    python -m procosm.benchmarks.dream.controllers --checkpoint envs/checkpoints/InvertedPendulum

A panel of trained policies either falls at once or stands; what creeps for hundreds of steps before it falls is rare in
it, and that is where dreams were found to err (LOG.md, "What creeps comes to rest"). Here the panel is made of it:
linear feedback from the optimal gains of the linearised task, each gain disturbed, and in three of four controllers the
feedback of the cart's place or speed taken out or reversed. Nothing is trained, so it takes minutes.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from procosm.agents.judge.ranking.agreement import Scores, agreement_rows
from procosm.agents.judge.ranking.paired import Dream, Rows, Truth, World, play
from procosm.agents.judge.ranking.regulator import disturbed, linearised, regulator
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.dreams.weights import find_checkpoint
from procosm.world_model import command
from procosm.world_model.checkpoint import load
from procosm.world_model.precision import has_bfloat16
from procosm.world_model.settings import Count, Seed

FIRST_SEED = 9_500_000
HORIZON = 100
SPREAD = 0.35
"""Standard deviation of the logarithm of a gain."""


@dataclass(frozen=True)
class ControllersConfig(OnDevice):
    """Which dream, and how many controllers."""

    checkpoint: Path
    """Checkpoint or run folder of a world model of InvertedPendulum."""
    controllers: Count = 48
    """Size of the panel."""
    episodes: Count = 4
    """Paired episodes of each controller."""
    slots: Count = 96
    """Dreams side by side."""
    seed: Seed = 5
    """Of the gains."""
    out: Path = RESULTS
    """Folder of the result."""
    quick: bool = False
    """Half a minute: 16 controllers, one episode of 200 steps; the result goes to runs/controllers."""


def controllers(config: ControllersConfig) -> Path:
    """Play the panel in both worlds and write ``controllers_invertedpendulum.json``."""
    model = load(find_checkpoint(config.checkpoint, None), config.device)
    model.task.require("this benchmark", "state", "reward", "twin")
    if config.quick:
        config = dataclasses.replace(config, out=Path("runs/controllers"), controllers=16, episodes=1)
        model = dataclasses.replace(model, task=dataclasses.replace(model.task, max_episode_steps=200))
    members = disturbed(regulator(*linearised(model.task)), config.controllers, SPREAD, config.seed)
    seeds = list(range(FIRST_SEED, FIRST_SEED + config.episodes))

    def played(world: World, label: str) -> list[Rows]:
        found: dict[str, Rows] = {}
        play(world, model.task, members, seeds, [HORIZON], lambda m, rows: found.update({m.name: rows}), label)
        return [found[member.name] for member in members]

    real = played(Truth(model.task, config.slots), "MuJoCo")
    dreamed = played(Dream(model, seeds, config.slots, has_bfloat16()), "dream")
    every = [Scores.of(key, real, dreamed) for key in ("return", f"return_{HORIZON}")]
    rows = [row for scores in every for row in agreement_rows(members, scores) if row.get("panel") == "all"]
    means = [scores.mean(axis=1).tolist() for scores in (every[0].real, every[0].dreamed)]
    pairs = zip(members, *means, strict=True)
    details = {
        "intervals": "95 % over controllers: jackknife; top-k and regret of another such panel",
        "first_seed": FIRST_SEED,
        "returns": [{"controller": m.name, "gains": m.gains, "mujoco": r, "dream": d} for m, r, d in pairs],
        "world_model": {key: model.provenance.get(key) for key in ("commit", "command", "date")},
    }
    rows = [{"task": model.task.id, **row} for row in rows]
    return record("controllers_invertedpendulum", rows, config.out, details)


if __name__ == "__main__":
    command.main(controllers, ControllersConfig)
