"""Open-loop fidelity by horizon, in one command.

    python -m procosm.benchmarks.dream.fidelity --run runs/demo
    python -m procosm.benchmarks.dream.fidelity --run InvertedPendulum      # weights that ship

Real episodes are played for the purpose (``fidelity.judging``); from a window of real frames in each, the dream goes on
under the recorded actions. Beside it stand what must be worse (another window's actions, copying the last frame, a
linear model) and what cannot be bettered (true frames through the tokenizer; MuJoCo itself, its start 10 % off or as
the world model reads it from the pixels). Killed at any moment, the same command goes on.
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from procosm.agents.judge.evaluate import trained_player
from procosm.agents.judge.growth import state_deviation
from procosm.agents.judge.rollouts import Player
from procosm.agents.judge.sweep import sweep
from procosm.agents.stages import fingerprint, run_once
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.fidelity.clipnet import ClipNet, train_clipnet
from procosm.benchmarks.dream.fidelity.controls import read_now, rollouts
from procosm.benchmarks.dream.fidelity.disturbed import mujoco_rows
from procosm.benchmarks.dream.fidelity.figure import horizon_figure
from procosm.benchmarks.dream.fidelity.judging import SEEDS, judging_episodes, one_window_each
from procosm.benchmarks.dream.fidelity.linear import LinearWorld, fit_linear
from procosm.benchmarks.dream.fidelity.scores import Judge, scores
from procosm.benchmarks.record import RESULTS, publish, record
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.dreams.weights import SHIPPED
from procosm.world_model import command
from procosm.world_model.checkpoint import load, save
from procosm.world_model.data.episodes import Episode, load_episodes
from procosm.world_model.files import read_json, read_tensors, write_json, write_tensors
from procosm.world_model.settings import Count, Seed

HORIZONS = (1, 2, 4, 8, 16, 32, 64, 128)
FEWEST = 5
"""Windows that must still go on at a horizon for it to be reported."""
SPREAD = 64
"""Steps by which a policy's episodes are longer than the horizon, so that windows begin at all their moments."""
QUICK: dict[str, Any] = {"episodes": 32, "horizon": 32, "clipnet_steps": 150}


@dataclass(frozen=True)
class FidelityConfig(OnDevice):
    """Which world model is judged, and how closely."""

    run: str
    """Run folder, or the name of weights that ship (InvertedPendulum): these get the run folder runs/shipped/NAME."""
    episodes: Count = 100
    """Real episodes of each behaviour; each gives one window."""
    horizon: Count = 128
    """Steps that are dreamed from each window."""
    clipnet_steps: Count = 800
    """Training steps of the feature network of the video distance."""
    seed: Seed = 0
    """Of windows, shuffled actions, the feature network and the intervals."""
    quick: bool = False
    """32 episodes, 32 steps and a briefly trained feature network, in under two minutes."""
    publish: bool = False
    """Put the result, its figure and an action sweep into benchmarks/results too."""


def fidelity(config: FidelityConfig) -> Path:
    """Judge, or go on judging; writes RUN/benchmarks/fidelity.json and .png (--quick: RUN/benchmarks/quick/…).

    Returns:
        the JSON file.
    """
    run = run_folder(config.run)
    place = run / "benchmarks" / ("quick" if config.quick else "")
    asked = dataclasses.replace(config, **(QUICK if config.quick else {}), publish=False)
    inputs = {"world model": fingerprint(run / "world_model", (".safetensors", "config.json"))}
    if (run / "policy").exists():
        inputs["policy"] = fingerprint(run / "policy", ("policy.zip",))
    run_once(
        place / "fidelity", asked, lambda asked: _Judgement(asked, run, place).measure(), inputs, uncompared={"run"}
    )
    result = place / "fidelity.json"
    if config.publish:
        task = publish(result)
        model = load(run / "world_model", config.device)
        sweep(RESULTS / "figures" / f"sweep_{task}.png", model, SEEDS["smooth noise"])
    return result


def run_folder(run: str) -> Path:
    """A run's folder; weights that ship are copied into one, runs/shipped/NAME, as every other command expects it."""
    if not (SHIPPED / run / "config.json").is_file():
        return Path(run)
    folder = Path("runs/shipped") / run
    if not (folder / "world_model").exists():
        save(folder / "world_model", load(SHIPPED / run))
    return folder


class _Judgement:
    """One measurement; each part of it is written when it is done, and what is there is not made again."""

    def __init__(self, config: FidelityConfig, run: Path, place: Path) -> None:
        self.config, self.run, self.place, self.work = config, run, place, place / "fidelity"
        self.model = load(run / "world_model", config.device)
        self.model.task.require("this benchmark", "state", "reward", "twin")

    def measure(self) -> Path:
        """All rows, the record and the figure."""
        config, task = self.config, self.model.task
        if not (self.run / "data").exists():
            collect(CollectConfig(task.id, self.run, frame_size=task.height, action_repeat=task.action_repeat))
        episodes = load_episodes(self.run / "data")
        train = [episode for episode in episodes if episode.kind == "train"]
        network = f"clipnet-32 ({config.clipnet_steps} steps on the run's training part, seed {config.seed})"
        scale = state_deviation([episode for episode in episodes if episode.kind == "holdout"])
        horizons = tuple(horizon for horizon in HORIZONS if horizon <= config.horizon)
        judge = Judge(self._clipnet(train), network, scale, horizons, config.seed)
        linear, player = self._linear(train), self._player()
        rows: list[dict[str, Any]] = []
        for behaviour in SEEDS if player else ("smooth noise",):
            found = self._rows(behaviour, player, linear, judge)
            rows += [{"task": task.id, "behaviour": behaviour, "seed": config.seed, **row} for row in found]
        record("fidelity", rows, self.place)
        horizon_figure(rows, self.place / "fidelity.png")
        return self.work

    def _rows(self, behaviour: str, player: Player | None, linear: LinearWorld, judge: Judge) -> list[dict[str, Any]]:
        config, model = self.config, self.model
        noise = behaviour == "smooth noise"
        folder, steps = self.work / behaviour.replace(" ", "_"), config.horizon + (0 if noise else SPREAD)
        real = judging_episodes(folder, model, behaviour, None if noise else player, config.episodes, steps)
        windows, starts = one_window_each(real, model.dynamics.context, config.horizon, config.seed)
        there = tuple(h for h in judge.horizons if (windows.steps >= h).sum() >= FEWEST)
        judge = dataclasses.replace(judge, horizons=there)
        if not folder.with_suffix(".json").exists():
            rows = scores(model, windows, rollouts(model, linear, windows, config.seed), judge)
            count = {"metric": "judging steps", "value": _steps(real), "unit": "step", "n": len(real)}
            write_json(folder.with_suffix(".json"), [*rows, count])
        judged = read_now(model, windows), judge.state_scale, judge.horizons, judge.seed
        return read_json(folder.with_suffix(".json")) + mujoco_rows(model.task, folder, starts, windows, *judged)

    def _player(self) -> Player | None:
        """The run's policy; None, said aloud, where there is none."""
        if (self.run / "policy" / "policy.zip").exists():
            return trained_player(self.run, self.config.device)
        print(
            f"{self.run} has no policy, so only smooth noise is judged. Train one first with `procosm train-policy "
            f"--world-model {self.run / 'world_model'} --out {self.run / 'policy'}`",
            file=sys.stderr,
        )
        return None

    def _clipnet(self, train: list[Episode]) -> ClipNet:
        path = self.work / "clipnet.safetensors"
        if not path.exists():
            write_tensors(path, train_clipnet(train, self.config.clipnet_steps, self.config.seed).state_dict())
        tensors = read_tensors(path)
        net = ClipNet(len(tensors["read.1.bias"]))
        net.load_state_dict(tensors)
        return net.requires_grad_(False).eval()

    def _linear(self, train: list[Episode]) -> LinearWorld:
        path = self.work / "linear.safetensors"
        if not path.exists():
            fitted = fit_linear(self.model, train)
            write_tensors(path, {field.name: getattr(fitted, field.name) for field in dataclasses.fields(fitted)})
        return LinearWorld(**read_tensors(path))


def _steps(episodes: list[Episode]) -> int:
    return sum(len(episode.actions) for episode in episodes)


if __name__ == "__main__":
    command.main(fidelity, FidelityConfig)
