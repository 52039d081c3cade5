"""Views against MuJoCo's own projection, and the measure of their consistency against what must be worse."""

import json
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from procosm.benchmarks.dream.geometry.epipolar import Eye, fundamental, sampson
from procosm.benchmarks.dream.geometry.markers import find, markers, true_place
from procosm.benchmarks.dream.views import (
    CAMERAS,
    HORIZONS,
    ViewsBenchConfig,
    compare,
    controls,
    films_of,
    judged,
    measure,
    moment,
    rows_of,
)
from procosm.envs.truth.model_camera import ModelCamera
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.tabletop import COLOURS
from procosm.envs.truth.workbench import CAMERAS as ALL
from procosm.envs.truth.workbench import HAND_COLOUR, _xml
from procosm.world_model.conditioning.views import ViewsConfig
from procosm.world_model.data.episodes import Episode
from tests.conftest import restless_model

BODIES = {**COLOURS, "hand": HAND_COLOUR}
SIDE = 32


def projecting_model() -> mujoco.MjModel:
    """The same scene with a site in the middle of each marker and MuJoCo's own sensor of where each camera sees it."""
    spec = mujoco.MjSpec.from_string(_xml())
    for camera in spec.cameras:
        camera.resolution = [SIDE, SIDE]
    for name in BODIES:
        spec.body(name).add_site(name=name, pos=[0, 0, 0])
        for camera in ALL:
            sensor = spec.add_sensor(name=f"{name} {camera}")
            sensor.type = mujoco.mjtSensor.mjSENS_CAMPROJECTION
            sensor.objtype, sensor.objname = mujoco.mjtObj.mjOBJ_SITE, name
            sensor.reftype, sensor.refname = mujoco.mjtObj.mjOBJ_CAMERA, camera
    return spec.compile()


@pytest.fixture(scope="module")
def bench():
    env = MujocoEnv("Workbench-v0", frame_size=SIDE, cameras={name: name for name in ALL})
    yield env
    env.close()


@pytest.fixture(scope="module")
def states(bench):
    """Physics states after some motion, with the picture of each."""
    found = []
    for seed in range(12):
        bench.reset(seed=seed)
        generator = np.random.default_rng(seed)
        for _ in range(4):
            *_, info = bench.step(generator.uniform(bench.action_space.low, bench.action_space.high).astype(np.float32))
        found.append((info["physics"], bench.render()))
    return found


def test_what_mujoco_projects_obeys_the_fundamental_matrix_to_rounding(bench, states):
    model = projecting_model()
    data = mujoco.MjData(model)
    for physics, _ in states:
        mujoco.mj_setState(model, data, physics, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        mujoco.mj_forward(model, data)
        seen = {(name, camera): data.sensor(f"{name} {camera}").data.copy() for name in BODIES for camera in ALL}
        eyes = {camera: Eye.of(ModelCamera(camera).pose(model, data), SIDE, SIDE) for camera in ALL}
        for name in BODIES:
            middle = data.site(name).xpos
            for i, first in enumerate(ALL):
                x, depth = eyes[first].project(middle[None])
                if depth[0] > 0.05:  # what lies in the camera's own plane is projected to infinity
                    assert np.allclose(x[0], seen[name, first], atol=1e-6 * (1 + np.abs(x[0]).max()))
                for second in ALL[i + 1 :]:
                    pair = seen[name, first], seen[name, second]
                    if np.abs(pair).max() < 4 * SIDE:
                        f = fundamental(eyes[first], eyes[second])
                        assert sampson(f, pair[0][None], pair[1][None])[0] < 1e-8
                        shifted = pair[1][None] + [3.0, 3.0]
                        assert sampson(f, pair[0][None], shifted)[0] < 6.0


def test_markers_are_found_in_real_pictures_where_they_truly_are(bench, states):
    apart, whole = [], 0
    for physics, frame in states:
        now, pictures = moment(bench, physics), bench.task.split(frame)
        for view, places in now.places.items():
            for name, place in places.items():
                whole += 1
                at = find(pictures[view], BODIES[name])
                if at is not None:
                    apart.append(np.linalg.norm(at - place))
    assert whole > 150 and len(apart) > 0.9 * whole
    assert np.median(apart) < 0.3 and np.max(apart) < 1.5


def test_what_is_hidden_or_cut_is_not_asked_for(bench):
    bench.reset(seed=0)
    model, data = bench.simulator.model, bench.simulator.data
    known = markers(model, BODIES)
    eye = Eye.of(ModelCamera("above").pose(model, data), SIDE, SIDE)
    data.qpos[:] = [0, 0, 0.25, 0.2, -0.2, -0.2, 0.25, 0, 0]
    mujoco.mj_forward(model, data)
    assert true_place(model, data, known["red"], eye, SIDE, SIDE) == pytest.approx([16, 16], abs=1e-6)
    data.qpos[6:8] = 0.0  # the hand stands above the red ball
    mujoco.mj_forward(model, data)
    assert true_place(model, data, known["red"], eye, SIDE, SIDE) is None
    data.qpos[2:4] = 0.9, 0.0  # out of the picture
    mujoco.mj_forward(model, data)
    assert true_place(model, data, known["green"], eye, SIDE, SIDE) is None


def test_a_disc_is_found_to_a_fraction_of_a_pixel_and_one_at_the_border_is_not():
    fine, colour = 16, np.array(COLOURS["red"])
    rows, columns = (np.indices((SIDE * fine, SIDE * fine)) + 0.5) / fine

    def drawn(x: float, y: float) -> np.ndarray:
        disc = np.hypot(columns - x, rows - y) < 2.5
        shaded = colour * (0.6 + 0.4 * (columns < x))[..., None]  # one half is in the shade
        picture = np.where(disc[..., None], shaded, 0.7)
        return (picture.reshape(SIDE, fine, SIDE, fine, 3).mean((1, 3)) * 255).round().astype(np.uint8)

    for x, y in ((10.0, 12.0), (10.3, 12.7), (20.5, 7.1)):
        assert find(drawn(x, y), COLOURS["red"]) == pytest.approx([x, y], abs=0.2)
    assert find(drawn(1.5, 12.0), COLOURS["red"]) is None
    assert find(drawn(10.0, 12.0), COLOURS["blue"]) is None


def test_real_views_agree_and_views_of_different_moments_do_not(bench, states):
    real: list[float] = []
    mixed: list[float] = []
    for i, (physics, frame) in enumerate(states):
        now, pictures = moment(bench, physics), bench.task.split(frame)
        others = {name: bench.task.split(states[i - k][1])[name] for k, name in enumerate(ALL)}
        for values, shown in ((real, pictures), (mixed, others)):
            values += [value for metric, _, value in compare(now, shown) if metric == "sampson"]
    assert np.median(real) < 0.1 and np.median(mixed) > 20 * np.median(real)


def test_real_films_are_the_floor_and_a_model_that_knows_nothing_is_far_above(bench):
    """Judged from episodes as they are logged: windows that do not overlap, each with MuJoCo's own moments."""
    env = MujocoEnv("Workbench-v0", frame_size=SIDE, cameras={name: name for name in CAMERAS})
    logged = []
    for seed in range(3):
        generator, (_, info) = np.random.default_rng(seed), env.reset(seed=seed)
        frames, physics, actions = [env.render()], [info["physics"]], []
        for _ in range(40):
            actions.append(generator.uniform(env.action_space.low, env.action_space.high).astype(np.float32))
            *_, info = env.step(actions[-1])
            frames.append(env.render())
            physics.append(info["physics"])
        episode = Episode(frames=np.stack(frames), actions=np.stack(actions), terminated=False, kind="holdout")
        logged.append((episode, np.stack(physics)))
    model = restless_model(env.task, change=lambda config: replace(config, views=ViewsConfig()))
    judge = judged(env, logged, model.dynamics.context, count=99)
    assert len(judge.windows.frames) == 6 and (judge.windows.steps == max(HORIZONS)).all()
    films = {"dream": films_of(model, judge.windows)} | controls(model, judge)
    rows = rows_of(env.task, films, judge)
    value = {(row["metric"], row["arm"], row["cameras"], row["horizon"]): row["value"] for row in rows}
    last = max(HORIZONS)
    for cameras, floor in (("still", 0.1), ("carried", 0.3)):
        assert value["found", "real frames", cameras, last] > 0.9
        assert value["sampson", "real frames", cameras, last] < floor
        assert value["found", "dream", cameras, last] < 0.5  # it shows noise
    mixed = value["sampson", "views of different windows", "still", last]
    assert mixed > 5 * value["sampson", "real frames", "still", last]
    assert value["landmark_error", "last frame", "still", last] > value["landmark_error", "last frame", "still", 1]
    env.close()


@pytest.mark.slow
def test_the_command_measures_every_arm(tmp_path):
    config = ViewsBenchConfig(
        out=tmp_path / "out", result=tmp_path / "views.json", logged=600, steps=2, windows=8, device="cpu"
    )
    result = json.loads(measure(config).read_text())
    value = {(row["metric"], row["arm"], row["cameras"], row["horizon"]): row["value"] for row in result["rows"]}
    arms = {row["arm"] for row in result["rows"] if row["metric"] == "found"}
    assert {"views told apart", "one wide picture", "each view alone", "real frames"} <= arms
    last = max(HORIZONS)
    assert value["found", "real frames", "still", last] > 0.9
    assert value["sampson", "real frames", "still", last] < 0.1
    assert value["sampson", "real frames", "carried", last] < 0.3
    mixed = value["sampson", "views of different windows", "still", last]
    assert mixed > 5 * value["sampson", "real frames", "still", last]
    assert value["found", "each view alone", "still", last] < value["found", "real frames", "still", last]  # untrained
    assert result["details"]["cameras"] == list(CAMERAS)
