"""Judges a run by MuJoCo: returns with intervals, open-loop error by horizon, growth, speed, steps of real experience.

What a log without true states or rewards, or a task without a twin, cannot be asked is left out, and named with why.
Each part is written when it is done, and of the returns every ten episodes, so that a killed evaluation goes on there.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from procosm.agents.judge.growth import features_reading, growth, outlasting, state_deviation, state_reading
from procosm.agents.judge.measurements import PARTS
from procosm.agents.judge.open_loop import choose_windows, open_loop
from procosm.agents.judge.rollouts import Played, Player, play_dreams, play_truth
from procosm.agents.judge.speed import speeds
from procosm.agents.judge.summary import real_steps, summarise, verdicts
from procosm.agents.judge.sweep import sweep
from procosm.agents.policy.training_log import read_log
from procosm.agents.report.scenes import scenes
from procosm.agents.stages import stage_seconds, write_csv
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.datasets import load_episodes
from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import DatasetError, ProcosmError
from procosm.world_model.evaluation.growth import JUDGING
from procosm.world_model.files import write_json
from procosm.world_model.folders import check_out
from procosm.world_model.provenance import provenance
from procosm.world_model.schema import read_file
from procosm.world_model.settings import Count, Device, Positive, Processes, Seed, Settings, SettingsError
from procosm.world_model.threads import one_thread

NEEDS = {
    "returns": ("twin", "reward", "policy"),
    "growth": ("readout",),
    "sweep": ("twin",),
    "state error": ("state",),
    "films of the policy": ("twin", "policy"),
    "speed of MuJoCo": ("twin",),
}
"""What each part of the judgement needs beside pixels and actions; everything else needs no more than these."""
MISSING = {
    "twin": "nothing simulates this task",
    "reward": "no rewards were logged",
    "state": "no true states were logged",
    "policy": "there is no policy",
    "readout": "the model reads neither a true state that was logged nor features",
}
STILL = "nothing moved by more than the noise it is read with"
JUDGING_SEED = 9_000_000
"""Seed of the first episode that judges: no episode of collecting or training has one near it."""


@dataclass(frozen=True)
class EvaluateConfig(Settings):
    """How a finished run is judged."""

    run: Path
    """Run folder, with data/, world_model/ and policy/ in it."""
    episodes: Count = 100
    """MuJoCo episodes of the policy, and of each control."""
    seed: Seed = 0
    """Of the choice of windows, the shuffled actions and the intervals; the episodes' seeds never change."""
    horizon: Count = 32
    """Steps of the open-loop comparison and the growth test."""
    windows: Count = 256
    """Held-out windows in the open-loop comparison."""
    dreams: Annotated[int, Interval(ge=1, le=65536)] = 256
    """Dreams side by side where speed is measured."""
    processes: Processes = 2
    """Processes that step MuJoCo."""
    trust_pickle: bool = False
    """Open a policy that SB3 saved, too: its pickles run whatever code is in them."""
    speed_seconds: Positive = 2.0
    """How long each speed is measured."""
    policy: Path | None = None
    """Who is judged in place of RUN/policy/policy.zip: a planner's settings, as `procosm plan` writes them. What is
    found goes to RUN/evaluation_NAME then."""
    device: Device = "auto"
    """Where the world model is computed: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy is not None and self.policy.suffix != ".json":
            raise SettingsError(
                f"--policy {self.policy}: give a planner's settings, as `procosm plan` writes them (.json)"
            )

    @property
    def folder(self) -> Path:
        """Where the judgement goes."""
        return self.run / ("evaluation" if self.policy is None else f"evaluation_{self.policy.stem}")


@one_thread()  # dreams have threads of their own, and MuJoCo processes
def evaluate(config: EvaluateConfig) -> Path:
    """Judge a run, or go on judging it; writes ``RUN/evaluation`` and ``RUN/metrics.json``.

    Returns:
        the folder of the judgement; that of another policy than the run's own has a name of its own.

    Raises:
        CheckpointError, DatasetError: a part of the run is missing or damaged.
        ProcosmError: its policy is not trained yet, though its log has rewards and its task a twin.
    """
    folder, run = config.folder, config.run
    check_out(folder)
    model = load(run / "world_model", config.device)
    player = _player(run, model, config)
    episodes = load_episodes(run / "data")
    missing = _missing(model, player, episodes)
    left_out = {name: why for name, needs in NEEDS.items() if (why := _why_not(needs, missing))}
    parts = _parts(config, model, player, episodes)
    found = {name: _part(name, folder / f"{name}.json", make) for name, make in parts.items() if name not in left_out}
    if found.get("growth") == []:
        del found["growth"]
        left_out["growth"] = STILL
    rows = found.get("returns", [])
    looks = [] if player is None or config.policy else read_log(run / "policy")["truth"]
    metrics = {
        "task": model.task.id,
        "frame_size": model.task.height,
        "frame_width": model.task.width,
        "dt_s": model.task.dt_s,
        **({} if player is None else {"policy": {"algorithm": player.algorithm, "observation": player.observation}}),
        **found,
        **({"returns": summarise(rows)} if rows else {}),
        **({"growth_of": _grown(model, episodes)} if "growth" in found else {}),
        "left_out": left_out,
        "verdicts": verdicts(found["open_loop"]),
        "real_steps": real_steps(looks, model.task, episodes, rows),
        "seconds": stage_seconds(run),
        "provenance": {"world_model": model.provenance, "evaluation": provenance({"evaluate": config})},
    }
    for name in ("returns", "open_loop", "growth"):
        if found.get(name):
            write_csv(folder / f"{name}.csv", _alike(found[name]))
    for path in metrics_of(config):
        write_json(path, metrics)
    return folder


def metrics_of(config: EvaluateConfig) -> tuple[Path, ...]:
    """Where the numbers of a judgement stand: in its folder, and for the run's own policy in the run's, too."""
    own = () if config.policy else (config.run / "metrics.json",)
    return (*own, config.folder / "metrics.json")


def trained_player(run: Path, device: str = "cpu", trust_pickle: bool = False) -> Player:
    """The policy of a run.

    Raises:
        ProcosmError: its training is not finished.
    """
    path = run / "policy" / "policy.zip"
    if not path.exists():
        raise ProcosmError(
            f"{path} does not exist: finish its training with `procosm train-policy --world-model "
            f"{shlex.quote(str(run / 'world_model'))} --out {shlex.quote(str(run / 'policy'))}`"
        )
    training = read_log(run / "policy")
    how = training["algorithm"], training["observation"], device, trust_pickle
    return Player(run / "world_model", "trained", path, *how)


def _player(run: Path, model: WorldModel, config: EvaluateConfig) -> Player | None:
    """The policy of a run; None where there is none, and there could be none to judge in MuJoCo."""
    if config.policy is not None:
        return Player(run / "world_model", "trained", config.policy, "plan", "latent", config.device)
    judged = model.task.twin is not None and "reward" in model.capabilities
    if not judged and not (run / "policy" / "policy.zip").exists():
        return None
    return trained_player(run, config.device, config.trust_pickle)


def _missing(model: WorldModel, player: Player | None, episodes: list[Episode]) -> dict[str, str]:
    """What there is not, of all that a part of the judgement may need; why, in words."""
    there = {
        "twin": model.task.twin is not None,
        "reward": "reward" in model.capabilities,
        "state": _stated(model, episodes),
        "policy": player is not None,
        "readout": _stated(model, episodes) or "features" in model.capabilities,
    }
    return {name: MISSING[name] for name, found in there.items() if not found}


def _stated(model: WorldModel, episodes: list[Episode]) -> bool:
    return "state" in model.capabilities and "state" in episodes[0].signals


def _grown(model: WorldModel, episodes: list[Episode]) -> dict[str, str]:
    """What the growth test reads, and of which episodes: those under one action, unless none lasts long enough."""
    constant = outlasting(episodes, "constant", model.dynamics.context)
    read = "state" if _stated(model, episodes) else "features"
    return {"read": read, "episodes": "constant" if constant else "holdout"}


def _why_not(needs: tuple[str, ...], missing: Mapping[str, str]) -> str:
    return "; ".join(missing[name] for name in needs if name in missing)


def _parts(
    config: EvaluateConfig, model: WorldModel, player: Player | None, episodes: list[Episode]
) -> dict[str, Callable[[], Any]]:
    """What is measured, in the order of interest."""
    held_out = [episode for episode in episodes if episode.kind == "holdout"]
    if not held_out:
        raise DatasetError(f"{config.run / 'data'} holds no held-out episode to compare with: collect more steps")
    scale = state_deviation(held_out) if _stated(model, episodes) else None
    kind = _grown(model, episodes)["episodes"]
    apart = outlasting(episodes, kind, model.dynamics.context)[JUDGING]  # training looked at the others
    compared = apart if kind == "holdout" else held_out

    def compare() -> list[dict[str, object]]:
        windows = choose_windows(compared, model.dynamics.context, config.horizon, config.windows, config.seed)
        return open_loop(model, windows, scale, config.seed)

    def grow() -> list[dict[str, float]]:
        train = [each for each in episodes if each.kind == "train"]
        read = state_reading(scale) if scale is not None else features_reading(model, train or held_out, config.seed)
        return growth(model, apart, read, config.horizon, config.seed)

    def play() -> list[dict[str, object]]:
        assert player is not None  # else it is left out
        return _returns(config, player)

    return {
        "returns": play,
        "open_loop": compare,
        "growth": grow,
        "speed": lambda: speeds(model, config.dreams, config.processes, config.speed_seconds),
        "films": lambda: scenes(config.folder, model, player, held_out, config.horizon, JUDGING_SEED),
        "sweep": lambda: sweep(config.folder / "sweep.png", model, JUDGING_SEED),
    }


def _part(name: str, path: Path, make: Callable[[], Any]) -> Any:
    """What ``make`` measures, from ``path`` where an earlier session left it.

    Raises:
        CheckpointError: what was left is damaged.
    """
    if not path.exists():
        write_json(path, make())
    return read_file(PARTS[name], path, f"delete {path}, and run the same command again to measure it again")


def _returns(config: EvaluateConfig, player: Player) -> list[dict[str, object]]:
    """A row for each episode: the policy and both controls in MuJoCo, the policy in the dream from the same frames."""
    seeds, saves = list(range(JUDGING_SEED, JUDGING_SEED + config.episodes)), config.folder / "played"
    played = play_truth(player, seeds, config.processes, saves)
    rows = _rows("mujoco", "trained", played)
    for control in ("zero", "random"):
        other = Player(player.world_model, control, device=player.device)
        rows += _rows("mujoco", control, play_truth(other, seeds, config.processes, saves))
    return rows + _rows("dream", "trained", play_dreams(player, played))


def _alike(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Rows with the columns of all of them, empty where one has no such number."""
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in columns} for row in rows]


def _rows(world: str, policy: str, played: list[Played]) -> list[dict[str, object]]:
    return [
        {"world": world, "policy": policy, "seed": episode.seed, "return": episode.total, "steps": episode.steps}
        | {"terminated": episode.terminated}
        | ({} if episode.success < 0 else {"success": bool(episode.success)})
        for episode in played
    ]
