"""Geometric consistency of dreams, in one command.

    python -m procosm.benchmarks.dream.geometry --run InvertedPendulum
    python -m procosm.benchmarks.dream.geometry --run runs/reacher --two-views

Landmarks of the robot are followed from the last real frame into later ones: real (the floor), true frames through the
tokenizer, dreamed, and dreamed under another episode's actions. ``sampson_time`` asks whether a landmark's pair of
places obeys the exact fundamental matrix of its body's true motion between the two moments, ``landmark_error`` how far
it is from its true place, ``lost`` how many cannot be found at all; the errors are of those that can. With --two-views
a world model is trained on pictures that hold two cameras' views of the same states, and ``sampson_views`` asks whether
both views of a landmark obey the matrix of the two cameras.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import interval
from procosm.agents.judge.open_loop import Windows, decode, predictions, window
from procosm.agents.stages import fingerprint, run_once
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.fidelity.__main__ import run_folder
from procosm.benchmarks.dream.fidelity.disturbed import physics_of
from procosm.benchmarks.dream.fidelity.judging import judging_episodes
from procosm.benchmarks.dream.geometry.epipolar import Eye, fundamental, sampson
from procosm.benchmarks.dream.geometry.landmarks import FEWEST, Landmarks, follow, landmarks, trackable
from procosm.benchmarks.dream.geometry.views import View, one_view, seen_again, two_view_task, two_views
from procosm.benchmarks.record import publish, record
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.episodes import Episode, load_episodes, write_dataset
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count, Seed
from procosm.world_model.training.train import TrainConfig, train

HORIZONS = (1, 2, 4, 8, 16)
UNITS = {"landmark_error": "pixel", "sampson_time": "pixel", "sampson_views": "pixel", "lost": "share of landmarks"}
MOVED = 1.0
"""Pixels that a landmark must have moved for its motion to have an epipolar line worth the name."""


@dataclass(frozen=True)
class GeometryConfig(OnDevice):
    """Which world model is measured."""

    run: str
    """Run folder, or the name of weights that ship (InvertedPendulum)."""
    episodes: Count = 64
    """Real episodes of smooth noise; each gives one window, from its start."""
    seed: Seed = 0
    """Of shuffled actions, a two-view model and the intervals."""
    two_views: bool = False
    """Train a world model on two cameras' views of the run's data, and measure it instead."""
    preset: str = "small"
    """Size of that world model."""
    quick: bool = False
    """16 episodes; a two-view model of the debug size."""
    publish: bool = False
    """Copy the result to benchmarks/results too."""


def geometry(config: GeometryConfig) -> Path:
    """Measure, or go on measuring; writes RUN/benchmarks/geometry.json or geometry_two_views.json (or quick/…).

    Returns:
        the JSON file.
    """
    run = run_folder(config.run)
    place = run / "benchmarks" / ("quick" if config.quick else "")
    name = "geometry_two_views" if config.two_views else "geometry"
    inputs = {"world model": fingerprint(run / "world_model", (".safetensors", "config.json"))}
    asked = dataclasses.replace(config, publish=False)
    run_once(place / name, asked, lambda asked: _measure(asked, run, place / name), inputs, uncompared={"run"})
    if config.publish:
        publish(place / f"{name}.json")
    return place / f"{name}.json"


def _measure(config: GeometryConfig, run: Path, work: Path) -> Path:
    model, count = load(run / "world_model", config.device), 16 if config.quick else config.episodes
    model.task.require("this benchmark", "state", "reward", "twin")
    folder = work / "smooth_noise"
    judging_episodes(folder, model, "smooth noise", None, count, max(HORIZONS))
    logged = list(_with_physics(folder))
    views = one_view(model.task)
    if config.two_views:
        views = two_views(model.task)
        model = _two_view_model(config, run, work, views)
        logged = list(seen_again(views, iter(logged)))
    found = list(measure(model, views, logged, config.seed))
    rows = [
        {"task": model.task.id, "metric": metric, "method": method, "horizon": horizon, "unit": UNITS[metric]}
        | {"views": len(views), "seed": config.seed}
        | interval(_mean, np.array(values), seed=config.seed).as_dict()
        for (metric, method, horizon), values in sorted(_grouped(found).items())
    ]
    record(work.name, rows, work.parent, {"reading": reading(rows)})
    return work


Measured = tuple[str, str, int, float]
"""Metric, method, horizon, and the mean over one window's landmarks."""


def measure(
    model: WorldModel, views: list[View], logged: list[tuple[Episode, np.ndarray]], seed: int
) -> Iterator[Measured]:
    """Every metric of every method in every window where it can be measured."""
    context = model.dynamics.context
    horizon = max(HORIZONS)
    windows = Windows.stack([window(episode, 0, context, horizon) for episode, _ in logged])
    real = model.encode(windows.frames)
    wrong = windows.actions[np.random.default_rng(seed).permutation(len(windows.actions))]
    dreams = [decode(model, p.latents) for p in predictions(model, real[:, :context], windows.actions)]
    shuffled = [decode(model, p.latents) for p in predictions(model, real[:, :context], wrong)]
    for i, (_, physics) in enumerate(logged):
        start = _Start(views, physics[context - 1], windows.frames[i, context - 1])
        for t in (t for t in HORIZONS if t <= windows.steps[i]):
            then = context - 1 + t
            frames = {
                "real frames": windows.frames[i, then],
                "tokenizer": decode(model, real[i : i + 1, then])[0],
                "dream": dreams[t - 1][i],
                "shuffled actions": shuffled[t - 1][i],
            }
            for metric, method, value in start.compare(physics[then], frames):
                yield metric, method, t, value


class _Start:
    """The last real frame of a window: its landmarks in every view."""

    def __init__(self, views: list[View], physics: np.ndarray, frame: np.ndarray) -> None:
        self.views, self.frame = views, frame
        views[0].env.set_physics(physics)
        simulator = views[0].env.simulator
        self.marks: Landmarks = landmarks(simulator.model, simulator.data)
        self.eyes, self.places, self.chosen = [], [], []
        self.poses = _poses(views[0])
        points = self.marks.at(simulator.data)
        for view in views:
            view.env.set_physics(physics)
            eye = view.eye()
            places, _ = eye.project(points)
            self.eyes.append(eye)
            self.places.append(places)
            self.chosen.append(trackable(view.part(frame), places))

    def compare(self, physics: np.ndarray, frames: dict[str, np.ndarray]) -> Iterator[tuple[str, str, float]]:
        """Metric, method and value at a later moment."""
        for view in self.views:
            view.env.set_physics(physics)
        simulator = self.views[0].env.simulator
        points, poses = self.marks.at(simulator.data), _poses(self.views[0])
        eyes = [view.eye() for view in self.views]
        true = [eye.project(points)[0] for eye in eyes]
        for method, frame in frames.items():
            seen = [self._found(v, frame, true[v]) for v in range(len(self.views))]
            for v, (marks, places) in enumerate(seen):
                if len(self.chosen[v]):
                    yield "lost", method, 1 - len(marks) / len(self.chosen[v])
                if len(marks):
                    yield "landmark_error", method, float(np.hypot(*(places - true[v][marks]).T).mean())
                errors = list(self._in_time(v, eyes[v], poses, marks, places, true[v]))
                if errors:
                    yield "sampson_time", method, float(np.mean(errors))
            if len(seen) == 2:
                both, left, right = np.intersect1d(seen[0][0], seen[1][0], return_indices=True)
                if len(both):
                    pairs = seen[0][1][left], seen[1][1][right]
                    yield "sampson_views", method, float(sampson(fundamental(*eyes), *pairs).mean())

    def _found(self, v: int, frame: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and places of the landmarks of view v that are found in a picture."""
        part, chosen = self.views[v].part, self.chosen[v]
        places, score = follow(part(self.frame), self.places[v][chosen], part(frame), near[chosen])
        return chosen[score >= FEWEST], places[score >= FEWEST]

    def _in_time(
        self, v: int, eye: Eye, poses: list, marks: np.ndarray, places: np.ndarray, true: np.ndarray
    ) -> Iterator[float]:
        for mark, place in zip(marks, places, strict=True):
            if np.hypot(*(true[mark] - self.places[v][mark])) < MOVED:
                continue
            body = self.marks.bodies[mark]
            f = fundamental(self.eyes[v].beside(*self.poses[body]), eye.beside(*poses[body]))
            if f.any():  # a body that turns about an axis through the camera gives no epipolar lines
                yield float(sampson(f, self.places[v][mark][None], place[None])[0])


def reading(rows: list[dict[str, Any]]) -> str:
    """The result in one sentence."""
    value = {(row["metric"], row["method"], row["horizon"]): row["value"] for row in rows}
    last = max((h for metric, _, h in value if metric == "landmark_error"), default=0)
    if not last:
        return "No landmark of this robot could be followed in pictures of this size."
    dream, floor = (value.get(("landmark_error", method, last)) for method in ("dream", "real frames"))
    said = f"{last} steps into the dream"
    if dream is None or floor is None:
        return f"{said} no landmark can be found any more."
    floor_said = f"following it in real frames errs by {floor:.2f}"
    return f"{said} a landmark stands {dream:.2f} pixels from its true place, where {floor_said}."


def _grouped(found: list[Measured]) -> dict[tuple[str, str, int], list[float]]:
    groups: dict[tuple[str, str, int], list[float]] = {}
    for metric, method, horizon, value in found:
        groups.setdefault((metric, method, horizon), []).append(value)
    return groups


def _poses(view: View) -> list[tuple[np.ndarray, np.ndarray]]:
    """Position and rotation of every body, as they are now; copies."""
    data = view.env.simulator.data
    return [(p.copy(), m.reshape(3, 3).copy()) for p, m in zip(data.xpos, data.xmat, strict=True)]


def _with_physics(folder: Path) -> Iterator[tuple[Episode, np.ndarray]]:
    """The episodes of a dataset, each with its physics states (T + 1, n)."""
    yield from zip(load_episodes(folder), physics_of(folder), strict=True)


def _two_view_model(config: GeometryConfig, run: Path, work: Path, views: list[View]) -> WorldModel:
    """A world model trained on the run's own data as two cameras see it."""
    data = work / "data"
    if not data.exists():
        task = two_view_task(views[0].env.task)
        write_dataset(data, task, seen_again(views, _with_physics(run / "data")), provenance({}), env_spec="{}")
    preset = "debug" if config.quick else config.preset
    device = config.device
    training = TrainConfig(data=data, out=work / "world_model", preset=preset, seed=config.seed, device=device)
    return load(train(training), device)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)


if __name__ == "__main__":
    command.main(geometry, GeometryConfig)
