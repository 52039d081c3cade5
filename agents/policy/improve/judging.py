"""What a round's policy earns: in MuJoCo, and in the dream from the same first frames."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.evaluate import trained_player
from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.rollouts import play_dreams, play_truth
from procosm.agents.policy.improve.curve import read_judgement
from procosm.agents.stages import run_once
from procosm.world_model.files import sha256, write_json
from procosm.world_model.folders import check_out
from procosm.world_model.settings import Count, Device, Processes, Settings

ROUND_SEED = 8_000_000
"""Seed of the first episode that judges rounds: far from those of collecting, and from those of the last judgement."""
JUDGEMENT = "judgement.json"


@dataclass(frozen=True)
class JudgeConfig(Settings):
    """How a round is judged."""

    run: Path
    """Folder of the round, a run folder."""
    episodes: Count
    """MuJoCo episodes, the same ones in every round."""
    processes: Processes
    """Processes that step MuJoCo."""
    device: Device
    """Where the world model looks and dreams."""


def judge_stage(config: JudgeConfig) -> dict[str, Any]:
    """Judge a round, once."""
    folder = config.run / "judged"
    check_out(folder, {JUDGEMENT, "played"}.__contains__)
    inputs = {"policy": sha256(config.run / "policy" / "policy.zip")}
    run_once(folder, config, _judge, inputs, look=read_judgement)
    return read_judgement(folder)


def _judge(config: JudgeConfig) -> Path:
    folder, player = config.run / "judged", trained_player(config.run, config.device)
    seeds = list(range(ROUND_SEED, ROUND_SEED + config.episodes))
    played = play_truth(player, seeds, config.processes, folder / "played")
    dreamed = play_dreams(player, played)
    found = estimate(np.array([episode.total for episode in played]))
    promised = estimate(np.array([episode.total for episode in dreamed]))
    write_json(
        folder / JUDGEMENT,
        {
            "mean": found.mean,
            "low": found.low,
            "high": found.high,
            "n": found.n,
            "dream_mean": promised.mean,
            "real_steps": sum(episode.steps for episode in played),
        },
    )
    return folder
