"""Rounds of collecting with what was learned, learning from all of it, practising in the new dream, and judging.

Each round is a run folder of its own, OUT/round_00 and so on, made by the same stages as any run's; what a round adds
to the data lies in its ``fresh/data``. So the same command goes on after a kill, and ``procosm play OUT/round_02`` or
``procosm evaluate --run OUT/round_02`` take a round for what it is.
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from procosm.agents.judge.evaluate import trained_player
from procosm.agents.policy.improve.curve import told, write_curve
from procosm.agents.policy.improve.judging import JudgeConfig, judge_stage
from procosm.agents.road import (
    RunConfig,
    Stages,
    collect_stage,
    evaluate_stage,
    policy_stage,
    report_stage,
    train_stage,
)
from procosm.agents.stages import fingerprint, run_once
from procosm.envs.collect.collect import LEAST_STEPS
from procosm.envs.collect.policies import policy_of_run
from procosm.envs.truth.names import allow_import
from procosm.world_model.data.episodes import FILES as DATA_FILES
from procosm.world_model.data.episodes import load_task, read_counts
from procosm.world_model.data.join import join
from procosm.world_model.folders import check_out
from procosm.world_model.settings import Count, Settings, SettingsError

SEEDS_APART = 10_000
"""Between the seeds of two rounds' stages."""
COMPARABLE = ("state", "pixels")
"""Observations that mean the same in the next round's world model, so that its policy goes on from the last one.
Features and latents are numbered anew by each model."""


@dataclass(frozen=True)
class ImproveConfig(RunConfig):
    """Improve a policy in rounds, within one budget of real steps."""

    steps: int = 10000
    """Steps to collect in MuJoCo in all rounds together: all the real experience there is."""
    rounds: Annotated[int, Interval(ge=1, le=1000)] = 4
    """Rounds that the steps are divided among."""
    mark: float | None = None
    """Stop after the first round whose mean return in MuJoCo reaches this."""
    noise: Annotated[float, Interval(ge=0, lt=1)] = 0.2
    """Share of the steps of every round but the first that noise acts in; policies act in the others."""
    old: Annotated[float, Interval(ge=0, lt=1)] = 0.2
    """Share of these steps for the policies of earlier rounds than the last."""
    effort: Annotated[float, Interval(gt=0, le=100)] = 0.5
    """Training steps of the world model in every round but the first, as a multiple of the preset's."""
    trust_below: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Dreams trusted less end there, so that --horizon is how long they may be at most; 0 lets all go on to it."""
    judged: Count = 10
    """MuJoCo episodes that judge each round. They stop the rounds and choose the best; nothing learns from them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise + self.old >= 1:
            raise SettingsError(f"--noise {self.noise} and --old {self.old} leave the newest policy no steps")
        if self.steps // self.rounds < LEAST_STEPS:
            raise SettingsError(f"--steps {self.steps} in --rounds {self.rounds}: a round needs {LEAST_STEPS} steps")
        if self.signals == "none":
            raise SettingsError("--signals none: a policy needs rewards to improve by; give reward or all")


@dataclass(frozen=True)
class JoinConfig(Settings):
    """What a round learns from."""

    out: Path
    """Folder of the dataset to make."""
    data: tuple[Path, ...]
    """Datasets, the newest last."""


def improve(config: ImproveConfig) -> Path:
    """Go through the rounds, or go on with them; judge the best round as a run is judged.

    Returns:
        the report of the round whose policy earned most in MuJoCo. Its last judgement takes other episodes than those
        that chose it.

    Raises:
        ProcosmError: whatever a stage refuses.
    """
    allow_import(config.env)
    check_out(config.out)
    rows: list[dict[str, Any]] = []
    for number in range(config.rounds):
        rows.append(_round(config, number))
        task = load_task(_folder(config, number) / "data").id
        write_curve(config.out, task, rows, config.mark)
        print(told(rows[-1], config.rounds), file=sys.stderr, flush=True)
        if config.mark is not None and rows[-1]["mean"] >= config.mark:
            print(f"The mark of {config.mark} is reached.", file=sys.stderr)
            break
    best = max(rows, key=lambda row: row["mean"])["round"]
    stages = _stages(config, best)
    evaluate_stage(stages.evaluate)
    return report_stage(stages.report)


def _round(config: ImproveConfig, number: int) -> dict[str, Any]:
    """All stages of one round; what is finished is skipped."""
    folder, stages = _folder(config, number), _stages(config, number)
    if number == 0:
        collect_stage(stages.collect)
        train, policy = stages.train, stages.policy
    else:
        before = _folder(config, number - 1)
        fresh = collect_stage(_with_policies(config, stages, number))
        parts = JoinConfig(folder / "data", (before / "data", fresh))
        _join_stage(parts)
        newest = read_counts(fresh)["total_episodes"]
        train = dataclasses.replace(stages.train, warm=before / "world_model", effort=config.effort, recent=newest)
        comparable = trained_player(before).observation in COMPARABLE
        policy = dataclasses.replace(stages.policy, warm=policy_of_run(before) if comparable else None)
    model = train_stage(train)
    assert model is not None  # a process alone is the first
    policy_stage(policy)
    judged = judge_stage(JudgeConfig(folder, config.judged, config.processes, config.device))
    steps = {"real_steps": read_counts(folder / "data")["total_steps"], "judging_steps": judged["real_steps"]}
    return {"round": number, **judged, **steps}


def _folder(config: ImproveConfig, number: int) -> Path:
    return config.out / f"round_{number:02d}"


def _stages(config: ImproveConfig, number: int) -> Stages:
    """A round's stages with the settings of the first; each draws from seeds of its own."""
    per_round = config.steps // config.rounds
    steps = per_round if number else config.steps - per_round * (config.rounds - 1)
    seed = config.seed + SEEDS_APART * number
    stages = Stages.of(dataclasses.replace(config, out=_folder(config, number), seed=seed, steps=steps, rounds=1))
    policy = dataclasses.replace(stages.policy, trust_below=config.trust_below, truth_every=0)
    return dataclasses.replace(stages, policy=policy)


def _with_policies(config: ImproveConfig, stages: Stages, number: int) -> Any:
    """Settings of collecting with the last policy, those before it, and noise, from where the task's reset begins."""
    folders = [_folder(config, earlier) for earlier in range(number)]
    old = config.old / len(folders[:-1]) if folders[:-1] else 0.0
    newest = 1 - config.noise - old * len(folders[:-1])
    shares = [f"run:{folders[-1]}:{newest}", *(f"run:{folder}:{old}" for folder in folders[:-1] if old)]
    shares += [f"noise:{config.noise}"] if config.noise else []
    out = _folder(config, number) / "fresh"
    return dataclasses.replace(stages.collect, out=out, policy=",".join(shares), constant=0.0, wide=0.0)


def _join_stage(config: JoinConfig) -> Path:
    """Join the data of all rounds so far, once."""
    check_out(config.out, DATA_FILES.__contains__)
    inputs = {f"data {n}": fingerprint(part, (".hdf5", ".json")) for n, part in enumerate(config.data, 1)}
    return run_once(config.out, config, lambda given: join(given.data, given.out), inputs)
