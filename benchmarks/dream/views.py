"""Do the views of one dream show one scene?

    python -m procosm.benchmarks.dream.views --out runs/bench/views

Balls roll on a table and a hand moves over it (``Workbench-v0``), seen by two cameras that stand still and one that the
hand carries. World models learn from the same logs: all views in one model that tells them apart, all views as one wide
picture, and each view in a model of its own. Held-out windows are dreamed on; balls and hand are found by their colours
in every view, and each pair of views of one marker is held against the exact fundamental matrix of MuJoCo's cameras at
that moment: ``sampson``, pixels. Beside them stand MuJoCo's own pictures (the floor: what finding a marker in so small
a picture costs), real pictures through the tokenizer, the last picture that was given, and real pictures whose views
are of different windows (what no consistency at all gives). ``found`` is the share of markers that are truly seen whole
in both views and are found in both, ``landmark_error`` how far one is from its true place. ``low`` and ``high`` are
95 % intervals over windows.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.open_loop import Windows, decode, predictions, window
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.fidelity.disturbed import physics_of
from procosm.benchmarks.dream.geometry.epipolar import Eye, fundamental, sampson
from procosm.benchmarks.dream.geometry.markers import find, markers, true_place
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.truth.model_camera import ModelCamera
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.tabletop import COLOURS
from procosm.envs.truth.workbench import HAND_COLOUR
from procosm.world_model import checkpoint, command
from procosm.world_model.data.episodes import Episode, is_whole, load_episodes, load_task, write_dataset
from procosm.world_model.data.task import Task
from procosm.world_model.model import WorldModel
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count
from procosm.world_model.threads import one_thread
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.train import TrainConfig, train

FRAME = 32
CAMERAS = ("above", "front", "wrist")
CARRIED = "wrist"
HORIZONS = (1, 4, 8, 16)
UNITS = {"sampson": "pixel", "found": "share", "landmark_error": "pixel"}


@dataclass(frozen=True)
class ViewsBenchConfig(OnDevice):
    """How much is logged and learned."""

    out: Path
    """Folder for data and checkpoints; what is finished there is not made again."""
    result: Path = RESULTS / "views.json"
    """Where the result goes."""
    logged: Count = 3000
    """Steps of the hand, three tenths of them held out."""
    steps: Count = 800
    """Of the main stage of training."""
    seeds: Count = 1
    """Of training, from 0 up."""
    windows: Count = 64
    """Held-out windows that judge."""


def sizes(steps: int) -> Preset:
    """The small preset, narrower, for views of 32 pixels; latents have room for a ball of six pixels."""
    small = preset("small")
    tokenizer = replace(small.tokenizer, width=16, latent_channels=12, linear_path=True)
    transformer = replace(small.dynamics.transformer, width=96, layers=3)
    made = replace(small, tokenizer=tokenizer, dynamics=replace(small.dynamics, transformer=transformer))
    made = made.with_stage("tokenizer", steps=max(1, steps // 4), batch=24)
    made = made.with_stage("state_head", steps=max(1, steps // 2), batch=64)
    made = made.with_stage("manifold", steps=max(1, steps // 2), batch=128)
    made = made.with_stage("diffusion", steps=steps, batch=32)
    return made.with_stage("unroll", steps=max(1, steps // 8), batch=16, growth_gate=None, extensions=0)


@dataclass(frozen=True)
class Moment:
    """What MuJoCo knows of one moment.

    Attributes:
        eyes: of each view. places: of each view, the true places of the markers seen whole in it, pixels, by name.
    """

    eyes: Mapping[str, Eye]
    places: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Judged:
    """Windows to dream on, and the moments of their steps, [window][horizon]."""

    windows: Windows
    moments: list[dict[int, Moment]]


def judged(env: MujocoEnv, logged: Sequence[tuple[Episode, np.ndarray]], context: int, count: int) -> Judged:
    """Up to ``count`` windows of episodes with their physics states (T + 1, p); no two dream of the same steps."""
    last = max(HORIZONS)
    starts = [
        (i, first)
        for i, (episode, _) in enumerate(logged)
        for first in range(0, len(episode.actions) - context - last + 2, last)
    ]
    chosen = np.random.default_rng(0).permutation(len(starts))[:count]
    cut, moments = [], []
    for i, first in (starts[number] for number in chosen):
        episode, physics = logged[i]
        cut.append(window(episode, first, context, last))
        moments.append({t: moment(env, physics[first + context - 1 + t]) for t in HORIZONS})
    return Judged(Windows.stack(cut), moments)


def moment(env: MujocoEnv, physics: np.ndarray) -> Moment:
    """What MuJoCo knows of a physics state."""
    env.set_physics(physics)
    model, data = env.simulator.model, env.simulator.data
    known = markers(model, {**COLOURS, "hand": HAND_COLOUR})
    eyes, places = {}, {}
    for view in env.task.views:
        eye = Eye.of(ModelCamera(view.name).pose(model, data), view.height, view.width)
        seen = {name: true_place(model, data, each, eye, view.height, view.width) for name, each in known.items()}
        eyes[view.name] = eye
        places[view.name] = {name: place for name, place in seen.items() if place is not None}
    return Moment(eyes, places)


def compare(now: Moment, pictures: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str, float]]:
    """Metric, cameras (``still``, or ``carried`` where one of them is) and value of one moment's pictures by view."""
    colours = {**COLOURS, "hand": HAND_COLOUR}
    found: dict[str, dict[str, np.ndarray]] = {
        view: {name: at for name in places if (at := find(pictures[view], colours[name])) is not None}
        for view, places in now.places.items()
    }
    for view, places in found.items():
        for name, at in places.items():
            yield "landmark_error", _kind(view), float(np.linalg.norm(at - now.places[view][name]))
    for first, second in combinations(now.places, 2):
        for name in now.places[first].keys() & now.places[second].keys():
            both = name in found[first] and name in found[second]
            yield "found", _kind(first, second), float(both)
            if both:
                f = fundamental(now.eyes[first], now.eyes[second])
                apart = sampson(f, found[first][name][None], found[second][name][None])[0]
                yield "sampson", _kind(first, second), float(apart)


def _kind(*views: str) -> str:
    return "carried" if CARRIED in views else "still"


def films_of(model: WorldModel, windows: Windows) -> np.ndarray:
    """(n, horizon, H, W, 3) uint8: the dreams of all windows under their own actions."""
    begun = model.encode(windows.frames)[:, : model.dynamics.context]
    return np.stack([decode(model, each.latents) for each in predictions(model, begun, windows.actions)], axis=1)


def rows_of(task: Task, films: Mapping[str, np.ndarray], judge: Judged) -> list[dict[str, Any]]:
    """Every metric of every kind of film (n, horizon, H, W, 3), a value for each window, with its interval."""
    rows = []
    for arm, film in films.items():
        values: dict[tuple[str, str, int], list[float]] = defaultdict(list)
        for frames, moments in zip(film, judge.moments, strict=True):
            for t, now in moments.items():
                here: dict[tuple[str, str], list[float]] = defaultdict(list)
                for metric, cameras, value in compare(now, task.split(frames[t - 1])):
                    here[metric, cameras].append(value)
                for (metric, cameras), each in here.items():
                    values[metric, cameras, t].append(float(np.mean(each)))
        for (metric, cameras, t), each in sorted(values.items()):
            found = estimate(np.array(each), 0, least=0.0)
            shown = {"value": found.mean, "low": found.low, "high": found.high, "n": found.n, "unit": UNITS[metric]}
            rows.append({"task": task.id, "metric": metric, "arm": arm, "cameras": cameras, "horizon": t, **shown})
    return rows


def real_films(model: WorldModel, windows: Windows) -> dict[str, np.ndarray]:
    """(n, horizon, H, W, 3) each: MuJoCo's pictures, the same through a tokenizer, and the last one that was given."""
    given = model.dynamics.context
    real = windows.frames[:, given:]
    latents = model.encode(real)
    coded = np.stack([decode(model, latents[:, t]) for t in range(real.shape[1])], axis=1)
    still = np.broadcast_to(windows.frames[:, given - 1 : given], real.shape)
    return {"real frames": real, "real frames through the tokenizer": coded, "last frame": still}


def controls(joint: WorldModel, judge: Judged) -> dict[str, np.ndarray]:
    """Films beside the dreams: those of ``real_films``, and one whose views do not belong together."""
    films = real_films(joint, judge.windows)
    parts = joint.task.split(films["real frames"])
    mixed = joint.task.join({name: np.roll(part, i, axis=0) for i, (name, part) in enumerate(parts.items())})
    return films | {"views of different windows": mixed}


def single(data: Path, folder: Path, name: str) -> Path:
    """The dataset of one view alone, made from that of all."""
    if not is_whole(folder):
        task = load_task(data)
        assert task.twin is not None  # collected in MuJoCo
        view = next(each for each in task.views if each.name == name)
        alone = replace(task, views=(view,), twin=replace(task.twin, cameras={name: task.twin.cameras[name]}))
        logged = zip(load_episodes(data), physics_of(data), strict=True)
        seen = ((replace(each, frames=task.split(each.frames)[name]), physics) for each, physics in logged)
        write_dataset(folder, alone, seen, provenance({}), env_spec=None)
    return folder


@one_thread()
def measure(config: ViewsBenchConfig) -> Path:
    """Train all arms, judge them, and write what came of it; after each seed what there is so far."""
    data = config.out / "data"
    if not is_whole(data):
        collect(
            CollectConfig(
                env="Workbench-v0", out=config.out, steps=config.logged, frame_size=FRAME, camera=CAMERAS, wide=0.0,
                constant=0.0, holdout=0.3, policy="noise:1", processes=1,
            )
        )  # fmt: skip
    task = load_task(data)
    env = MujocoEnv.from_task(task)
    logged = [pair for pair in zip(load_episodes(data), physics_of(data), strict=True) if pair[0].kind == "holdout"]

    def trained(name: str, on: Path, seed: int, views: bool = False) -> WorldModel:
        out = config.out / f"{name.replace(' ', '-')}-seed{seed}" / "world_model"
        if not checkpoint.is_model(out):
            asks = TrainConfig(data=on, out=out, seed=seed, device=config.device, views=views)
            train(asks, sizes(config.steps))
        return checkpoint.load(out, config.resolved())

    rows: list[dict[str, Any]] = []
    written = config.result
    for seed in range(config.seeds):
        told, wide = trained("views told apart", data, seed, views=True), trained("one wide picture", data, seed)
        judge = judged(env, logged, told.dynamics.context, config.windows)
        films = {"views told apart": films_of(told, judge.windows), "one wide picture": films_of(wide, judge.windows)}
        parts = {}
        for name, part in task.split(judge.windows.frames).items():
            alone = trained(f"{name} alone", single(data, config.out / f"data-{name}", name), seed)
            parts[name] = films_of(alone, replace(judge.windows, frames=part))
        films["each view alone"] = task.join(parts)
        rows += [{**row, "seed": seed} for row in rows_of(task, films | controls(told, judge), judge)]
        details = {"logged": config.logged, "steps": config.steps, "seeds": seed + 1, "cameras": list(CAMERAS)}
        written = record(config.result.stem, rows, config.result.parent, details)
    env.close()
    return written


if __name__ == "__main__":
    command.main(measure, ViewsBenchConfig)
