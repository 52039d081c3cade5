"""Geometry against independent truths: exact points, a numerical optimum, known shifts, MuJoCo's own pictures."""

import json
import shutil

import numpy as np
import pytest
from scipy import ndimage, optimize

from procosm.benchmarks.dream.geometry.__main__ import GeometryConfig, _poses, _Start, geometry, reading
from procosm.benchmarks.dream.geometry.epipolar import Eye, fundamental, sampson
from procosm.benchmarks.dream.geometry.landmarks import follow, landmarks, trackable
from procosm.benchmarks.dream.geometry.views import one_view, picture, second_camera, two_views
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.truth.camera import Camera
from procosm.envs.truth.mujoco import MujocoEnv


@pytest.fixture(scope="module")
def pendulum():
    env = MujocoEnv("InvertedPendulum-v5")
    yield env
    env.close()


def states_of(env, steps, action):
    _, info = env.reset(seed=4)
    found = [info["physics"]]
    for _ in range(steps):
        found.append(env.step(np.full(env.action_space.shape, action, np.float32))[4]["physics"])
    return found


def test_exact_points_of_two_views_obey_the_matrix_exactly(pendulum):
    views = two_views(pendulum.task)
    for view in views:
        view.env.set_physics(states_of(pendulum, 2, 1.0)[-1])
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    (x, _), (y, _) = (view.eye().project(points) for view in views)
    f = fundamental(*(view.eye() for view in views))
    assert np.linalg.norm(f) == pytest.approx(1.0) and sampson(f, x, y).max() < 1e-9
    assert sampson(f, x, y[::-1]).mean() > 1.0
    assert not fundamental(views[0].eye(), views[0].eye()).any()


def test_exact_points_of_a_moving_body_obey_the_matrix_of_its_motion(pendulum):
    view = one_view(pendulum.task)[0]
    before, after = states_of(pendulum, 3, 2.0)[::3]
    view.env.set_physics(before)
    marks = landmarks(view.env.simulator.model, view.env.simulator.data)
    x, poses, eye = view.eye().project(marks.at(view.env.simulator.data))[0], _poses(view), view.eye()
    view.env.set_physics(after)
    y, later = view.eye().project(marks.at(view.env.simulator.data))[0], _poses(view)
    assert np.hypot(*(y - x).T).max() > 1.0
    for i, body in enumerate(marks.bodies):
        f = fundamental(eye.beside(*poses[body]), view.eye().beside(*later[body]))
        assert sampson(f, x[i : i + 1], y[i : i + 1])[0] < 1e-6


def test_sampsons_distance_is_that_to_the_nearest_pair_that_obeys():
    generator = np.random.default_rng(1)
    intrinsic = np.array([[60.0, 0, 32], [0, 50, 32], [0, 0, 1]])
    turn = np.linalg.qr(np.eye(3) + 0.1 * generator.normal(size=(3, 3)))[0]
    eyes = (
        Eye(intrinsic, np.eye(3), np.zeros(3)),
        Eye(intrinsic, turn * np.sign(np.diag(turn))[:, None], np.ones(3) * 0.4),
    )
    f = fundamental(*eyes)
    for point in generator.uniform((-1, -1, 4), (1, 1, 6), (5, 3)):
        pair = np.concatenate([eye.project(point[None])[0][0] for eye in eyes]) + generator.normal(0, 0.3, 4)

        def obeys(z):
            return np.append(z[2:], 1.0) @ f @ np.append(z[:2], 1.0) * 1e3

        nearest = optimize.minimize(
            lambda z, pair=pair: np.square(z - pair).sum(), pair, constraints={"type": "eq", "fun": obeys}, tol=1e-12
        )
        assert sampson(f, pair[None, :2], pair[None, 2:])[0] == pytest.approx(np.sqrt(nearest.fun), rel=0.02, abs=1e-4)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -3.0), (1.3, 0.6)])
def test_a_patch_is_found_where_it_was_moved_to(shift):
    blurred = ndimage.gaussian_filter(np.random.default_rng(2).uniform(0, 255, (48, 48, 3)), (1.5, 1.5, 0))
    frame = np.clip((blurred - 128) * 4 + 128, 0, 255)
    moved = ndimage.shift(frame, (shift[1], shift[0], 0), order=3, mode="nearest")
    places = np.array([[15.5, 15.5], [30.2, 20.7], [24.0, 33.0]])
    found, score = follow(frame.astype(np.uint8), places, np.clip(moved, 0, 255).astype(np.uint8), places)
    assert (found - places) == pytest.approx(np.tile(shift, (3, 1)), abs=0.15) and (score > 0.95).all()
    _, lost = follow(frame.astype(np.uint8), places, np.full((48, 48, 3), 9, np.uint8), places)
    assert (lost < 0.1).all()


def test_flat_ground_straight_edges_and_the_border_are_not_followed():
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[10:20, 10:20] = 200
    places = np.array([[30.5, 30.5], [15.5, 10.0], [10.0, 10.0], [10.5, 10.5], [2.0, 2.0], [20.0, 20.0]])
    assert trackable(frame, places).tolist() == [
        2,
        5,
    ]  # two corners; a twin, flat ground, an edge and the border are not


def test_a_landmark_projects_to_where_mujoco_draws_it(pendulum):
    views = one_view(pendulum.task)
    physics = states_of(pendulum, 2, -2.0)[-1]
    frame = picture(views, physics).astype(int)
    yellow = (frame[..., 0] > 30) & (frame[..., 2] < 0.5 * frame[..., 0])
    rows, columns = np.nonzero(yellow)
    model, data = views[0].env.simulator.model, views[0].env.simulator.data
    cart = next(g for g in range(model.ngeom) if model.geom(g).name == "cart")
    place = views[0].eye().project(data.geom_xpos[cart][None])[0][0]
    assert place == pytest.approx([columns.mean() + 0.5, rows.mean() + 0.5], abs=0.6)


def test_a_body_that_turns_about_an_axis_through_the_camera_gives_no_lines_but_its_landmarks_are_measured():
    env = MujocoEnv("Reacher-v5")
    env.reset(seed=0)
    views, begun = one_view(env.task), env.physics()
    start, turned = _Start(views, begun, picture(views, begun)), begun.copy()
    turned[1] += 0.5  # the shoulder, whose axis goes through the camera above it
    found = list(start.compare(turned, {"real frames": picture(views, turned)}))
    assert np.isfinite([value for *_, value in found]).all() and "landmark_error" in {metric for metric, *_ in found}
    later, eye = _poses(views[0]), views[0].eye()
    arm = next(b for b, pose in enumerate(later) if (pose[1] != start.poses[b][1]).any())
    assert not fundamental(eye.beside(*start.poses[arm]), eye.beside(*later[arm])).any()


def test_the_second_camera_stands_elsewhere_and_looks_at_the_same_point():
    side = Camera((0.0, 0.0, 1.0), 90.0, 0.0, 3.0, 2.0, 2.0, "", "", 0.0)
    above = Camera((0.0, 0.0, 0.0), 90.0, -90.0, 3.0, 2.0, 2.0, "", "", 0.0)
    assert second_camera(side).azimuth == 125.0 and second_camera(side).lookat == side.lookat
    assert second_camera(above).elevation == -55.0 and second_camera(above).azimuth == above.azimuth


def test_the_command_measures_one_view_and_trains_two(truth_checkpoint, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(truth_checkpoint, run / "world_model")
    result = json.loads(geometry(GeometryConfig(str(run), quick=True)).read_text())
    value = {(row["metric"], row["method"], row["horizon"]): row["value"] for row in result["rows"]}
    assert value["landmark_error", "real frames", 1] < 0.5 and value["sampson_time", "real frames", 2] < 0.5
    assert value["lost", "dream", 2] > value["lost", "real frames", 2]  # untrained: it shows noise
    assert result["details"]["reading"].endswith(".")
    collect(CollectConfig("InvertedPendulum", run, steps=300, processes=1))
    result = json.loads(geometry(GeometryConfig(str(run), quick=True, two_views=True)).read_text())
    floor = [r["value"] for r in result["rows"] if (r["metric"], r["method"]) == ("sampson_views", "real frames")]
    assert floor and max(floor) < 0.6 and {row["views"] for row in result["rows"]} == {2}


def test_nothing_that_can_be_followed_is_said():
    assert "No landmark" in reading([])
