"""The stages of the road, from a MuJoCo task to a page about a policy that learned in its dream; each is done once."""

import glob
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import UseAppendAction

from procosm.agents.judge.evaluate import EvaluateConfig, evaluate, metrics_of
from procosm.agents.judge.measurements import read_metrics
from procosm.agents.policy.learners import check_observation
from procosm.agents.policy.train import FILES as POLICY_FILES
from procosm.agents.policy.train import PolicyConfig, finished_policy, train_policy, with_observation
from procosm.agents.report.report import ReportConfig, write_report
from procosm.agents.report.verdict import told
from procosm.agents.stages import fingerprint, run_once, stage_seconds
from procosm.envs.collect.collect import CollectConfig, check_behaviours, collect, frame_sides_of
from procosm.envs.collect.collect import check_outs as collect_outs
from procosm.envs.trust.calibrate import CalibrateConfig, calibrate
from procosm.world_model import checkpoint, registry
from procosm.world_model.data.clips import VIDEOS
from procosm.world_model.data.datasets import contents
from procosm.world_model.data.episodes import check_whole
from procosm.world_model.errors import TaskError
from procosm.world_model.files import sha256, write_json
from procosm.world_model.folders import check_out, named
from procosm.world_model.settings import Count, Device, Settings, SettingsError
from procosm.world_model.training.parallel import joined, lead
from procosm.world_model.training.post import PostTrainConfig, post_train
from procosm.world_model.training.post import check_outs as post_train_outs
from procosm.world_model.training.presets import Family, check_frame_size
from procosm.world_model.training.train import TrainConfig, dry_run, train
from procosm.world_model.training.train import check_outs as train_outs


@dataclass(frozen=True)
class RunConfig(Settings):
    """The whole road for one task."""

    env: str
    """Task: a Gymnasium id (Reacher-v5, or module:Id of your own), path/to/task.py:make (a function of your own that
    makes the environment), dm_control/<domain>-<task>, fetch/<task>, metaworld/<task>, or a name of ours."""
    out: Path
    """Run folder; the same command goes on with what is there."""
    preset: str = "small"
    """Size of the world model: debug, small (minutes on two cores), fast (quick dreams), medium (an hour), wide
    (for a density of .1)."""
    family: Family = "diffusion"
    """How the world model predicts the next frame: by denoising it, or token by token."""
    density: float = 1.0
    """Share of the weights of the dynamics' attention and MLPs that exists: below 1, from the first step on."""
    seed: int = 0
    """Of every stage."""
    steps: int = 10000
    """Steps to collect in MuJoCo: all the real experience there is."""
    frame_size: int | str = 64
    """Height and width of a view in pixels, 32 to 256: 64 for both, or 64x96."""
    action_repeat: int = 1
    """Control steps of the task for each step."""
    signals: Literal["none", "reward", "all"] = "all"
    """What is logged beside pixels and actions: nothing, rewards and ends, or the true state too."""
    wide: float = 0.75
    """Share of episodes that start from states the task's own reset does not give; 0 takes its reset alone."""
    constant: float = 0.05
    """Share of the steps for held-out episodes under one action throughout."""
    algorithm: Literal["ppo", "sac", "shac"] = "ppo"
    """Learner of the policy."""
    observation: Literal["auto", "state", "features", "latent", "pixels"] = "auto"
    """What the policy sees, all of it from pixels alone; auto: the state where one is logged, else features."""
    horizon: int = 32
    """Steps of a dream that the policy practises in."""
    dreams: int = 384
    """Dreams side by side."""
    iterations: int = 24
    """Iterations of the policy's training."""
    gamma: float = 0.99
    """Discount of each step in the policy's training."""
    rounds: Count = 1
    """Rounds that the steps are divided among: from the second on, the policy of the round before collects, and the
    world model and the policy go on with what they have learned (`procosm improve` has more to say about it)."""
    episodes: int = 100
    """MuJoCo episodes that judge the policy, and each control."""
    processes: int = 2
    """Processes that step MuJoCo."""
    camera: Annotated[tuple[str, ...], UseAppendAction] = ()
    """Name of a camera in the task's model, or a pose as JSON; NAME=CAMERA, more than once, for several views. Default:
    one is chosen."""
    env_kwargs: str = ""
    """Keyword arguments of the task, as JSON."""
    device: Device = "auto"
    """Where everything but MuJoCo is computed: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Stages.of(self)


@dataclass(frozen=True)
class Stages:
    """The settings of every stage of a run, all judged before the first of them begins."""

    collect: CollectConfig
    train: TrainConfig
    policy: PolicyConfig
    evaluate: EvaluateConfig
    report: ReportConfig

    @classmethod
    def of(cls, config: RunConfig) -> "Stages":
        """What a run's settings mean for each of its stages.

        Raises:
            ProcosmError: settings that a stage refuses, or that do not go together.
        """
        out, seed, processes = config.out, config.seed, config.processes
        stages = cls(
            CollectConfig(
                env=config.env,
                out=out,
                steps=config.steps,
                frame_size=config.frame_size,
                action_repeat=config.action_repeat,
                signals=config.signals,
                wide=config.wide,
                constant=config.constant,
                camera=config.camera,
                env_kwargs=config.env_kwargs,
                seed=seed,
                processes=processes,
            ),
            TrainConfig(
                data=out / "data",
                out=out / "world_model",
                preset=config.preset,
                family=config.family,
                seed=seed,
                density=config.density,
                device=config.device,
            ),
            PolicyConfig(
                world_model=out / "world_model",
                out=out / "policy",
                algorithm=config.algorithm,
                observation=config.observation,
                seed=seed,
                dreams=config.dreams,
                horizon=config.horizon,
                iterations=config.iterations,
                gamma=config.gamma,
                device=config.device,
            ),
            EvaluateConfig(run=out, episodes=config.episodes, processes=processes, device=config.device),
            ReportConfig(run=out),
        )
        check_frame_size(*frame_sides_of(stages.collect), config.preset, config.family)
        check_observation(config.observation, min(frame_sides_of(stages.collect)))
        if config.algorithm == "shac" and not registry.kind("dynamics", config.family).differentiable:
            raise SettingsError(
                f"--algorithm shac follows gradients, and --family {config.family} has none: give ppo or sac"
            )
        return stages


def collect_stage(config: CollectConfig) -> Path:
    """Collect episodes that some preset can learn from, once."""
    check_frame_size(*frame_sides_of(config))
    collect_outs(config)
    check_behaviours(config)
    parts, data = "data.parts/*.npz", config.out / "data"
    return run_once(data, config, collect, saves=parts, look=check_whole, uncompared={"policy"})


def train_stage(config: TrainConfig) -> Path | None:
    """Train a world model on a dataset and calibrate its trust, once; of a dry run, print what that would take."""
    if config.dry_run:
        print(dry_run(config))
        return None
    train_outs(config)
    inputs = {"dataset": fingerprint(config.data, contents(config.data))}
    inputs |= {} if config.warm is None else {"warm": _weights(config.warm)}
    saves = f"{glob.escape(named(config.out).name)}.training/*.s[ah]*"  # files, and folders of shards
    # Whatever blocks training began with are what "auto" goes on with.
    uncompared = {"block"} if config.block == "auto" else set()

    def stage(work: Callable[[], Path]) -> Path:
        return run_once(config.out, config, lambda _: work(), inputs, saves, checkpoint.load, uncompared)

    with joined():  # of several processes the first keeps the record
        return lead(stage, lambda: _calibrated(train(config), config), lambda: train(config))


def post_train_stage(config: PostTrainConfig) -> Path:
    """Go on training a world model on another dataset and calibrate its trust, once."""
    post_train_outs(config)
    inputs = {"dataset": fingerprint(config.data, contents(config.data))}
    inputs |= {f"base {name}": digest for name, digest in checkpoint.checksums(config.base).items()}
    saves = f"{glob.escape(named(config.out).name)}.training/*.safetensors"

    def work(asked: PostTrainConfig) -> Path:
        return _calibrated(post_train(asked), asked)

    return run_once(config.out, config, work, inputs, saves, checkpoint.load)


def tokenizer_stage(config: Any) -> Path:
    """Train a tokenizer on videos, once; settings are of a class that ``registry.ALONE`` knows."""
    alone = registry.ALONE[type(config)]
    alone.check(config)
    videos = (".hdf5", ".arrow", ".json", *VIDEOS)
    inputs = {
        f"data {number}": sha256(path) if path.is_file() else fingerprint(path, videos)
        for number, path in enumerate(config.data, 1)
    }
    saves = f"{glob.escape(named(config.out).name)}.training/*.safetensors"
    return run_once(config.out, config, alone.train, inputs, saves, alone.look)


def policy_stage(config: PolicyConfig) -> Path:
    """Train a policy in a world model, once."""
    check_out(config.out, POLICY_FILES.__contains__)
    if config.observation == "auto":
        config = with_observation(config, checkpoint.load(config.world_model))
    saves = f"{glob.escape(named(config.out).name)}/training.*"
    inputs = {"world model": _weights(config.world_model)}
    inputs |= {} if config.warm is None else {"warm": sha256(config.warm)}
    return run_once(config.out, config, train_policy, inputs, saves, finished_policy)


def evaluate_stage(config: EvaluateConfig) -> Path:
    """Judge a run, once, and print what came of it."""
    check_out(config.folder)
    policy = config.run / "policy"
    inputs = {"world model": _weights(config.run / "world_model")}
    if config.policy is not None:
        inputs["policy"] = sha256(config.policy)
    elif policy.is_dir():
        inputs["policy"] = fingerprint(policy, ("policy.zip",))

    def look(_: Path) -> None:
        for path in metrics_of(config):
            read_metrics(path, config.run)

    folder = run_once(config.folder, config, evaluate, inputs, look=look)
    # Only now is it known how long judging took.
    metrics = read_metrics(folder / "metrics.json", config.run) | {"seconds": stage_seconds(config.run)}
    for path in metrics_of(config):
        write_json(path, metrics)
    print(told(metrics), flush=True)
    return folder


def report_stage(config: ReportConfig) -> Path:
    """Make the page; it takes a second, so always anew."""
    return write_report(config.run, config.results)


def _calibrated(folder: Path, config: TrainConfig | PostTrainConfig) -> Path:
    try:
        calibrate(CalibrateConfig(folder, config.data, config.seed, config.device, config.damaged))
    except TaskError as missing:
        print(f"Left out: {missing}.", file=sys.stderr)
    return folder


def _weights(folder: Path) -> str:
    # Trust is left out: it may be calibrated again without the policy's being another.
    return fingerprint(folder, ("tokenizer.safetensors", "dynamics.safetensors", "starts.safetensors"))
