"""The pose a picture is seen from: exact landmarks give it back, and MuJoCo's pictures within what pixels allow."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from procosm.agents.judge.open_loop import Windows
from procosm.benchmarks.dream.camera_pose import BESIDE_DEG, BESIDE_M, OWN, beside, eye_at, pose_rows
from procosm.benchmarks.dream.geometry.epipolar import Eye
from procosm.benchmarks.dream.geometry.pose import Reference, apart, points_of, pose_of, solve
from procosm.envs.truth.mujoco import MujocoEnv


@pytest.fixture(scope="module")
def env():
    made = MujocoEnv("Gallery-v0", frame_size=64, camera="eye")
    yield made
    made.close()


def pose_at(heading_deg: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """(7,): upright at (x, y), looking along the floor."""
    upright = Rotation.from_euler("x", 90, degrees=True)
    turn = Rotation.from_euler("z", heading_deg, degrees=True) * upright
    return np.array([x, y, 0.0, *turn.as_quat(scalar_first=True)])


def moved(eye: Eye, degrees: float, metres: float) -> Eye:
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.8, 0.0])).as_matrix()
    return Eye(eye.intrinsic, turn @ eye.rotation, eye.position + metres * np.array([0.0, 0.6, 0.8]))


def test_exact_landmarks_give_the_pose_back_and_a_wrong_one_hardly_moves_it():
    start = Eye(np.array([[40.0, 0, 32], [0, 40, 32], [0, 0, 1]]), np.eye(3), np.zeros(3))
    true = moved(start, 8.0, 0.3)
    points = np.random.default_rng(0).uniform((-1, -1, 2), (1, 1, 4), (14, 3))
    places = true.project(points)[0]
    assert apart(start, true) == pytest.approx((8.0, 30.0), abs=1e-6)
    assert apart(solve(points, places, start), true) == pytest.approx((0.0, 0.0), abs=1e-3)
    places[3] += [6.0, -5.0]  # a false match
    degrees, centimetres = apart(solve(points, places, start), true)
    assert degrees < 0.2 and centimetres < 1.0


def test_a_pixels_point_is_what_mujoco_shows_there(env):
    """Points on the floor lie at its height, and project back."""
    eye = eye_at(env, pose_at(10.0))
    places = np.array([[32.5, 60.5], [20.5, 62.5]])
    points = points_of(places, eye, env.simulator.model, env.simulator.data)
    assert points[:, 2] == pytest.approx([-1.0, -1.0], abs=0.06)  # the nearest within a pixel
    assert eye.project(points)[0] == pytest.approx(places, abs=1e-6)


def test_the_pose_of_mujocos_own_picture_is_found_from_a_start_beside_it(env):
    missed = []
    for heading_deg in np.arange(0.0, 360.0, 24.0):
        pose = pose_at(heading_deg, 0.3, -0.2)
        commanded = eye_at(env, pose)
        picture = env.render().copy()
        near = eye_at(env, beside(pose, np.random.default_rng(1)))
        assert apart(near, commanded) == pytest.approx((BESIDE_DEG, 100 * BESIDE_M), abs=1e-3)
        reference = Reference.of(env.render(), near, env.simulator.model, env.simulator.data)
        found = pose_of(picture, reference, moved(commanded, 3.0, 0.05))
        if found is not None:
            missed.append(apart(found, commanded))
        assert pose_of(np.full_like(picture, 128), reference, commanded) is None
    degrees, centimetres = np.median(missed, axis=0)
    assert len(missed) > 9 and degrees < 1.0 and centimetres < 5.0


def test_rows_know_the_floor_from_a_camera_that_stayed(env):
    poses = np.stack([pose_at(h, 0.3, -0.2) for h in (20.0, 24.0, 29.0)])
    pictures = []
    for pose in poses:
        eye_at(env, pose)
        pictures.append(env.render().copy())
    frames = np.stack([pictures[0], *pictures])[None]
    signals = {"state": poses[None].astype(np.float32)}
    windows = Windows(
        frames, np.zeros((1, 2, 6), np.float32), signals, np.array([2]), np.array([False]), np.array([""])
    )
    films = {"real": frames[:, 2:], "stayed": np.repeat(frames[:, 1:2], 2, axis=1)}
    rows = {
        (row["arm"], row["horizon"], row["motion"]): row["value"]
        for row in pose_rows(env, films, windows, (1, 2), 0)
        if row["metric"] == "rotation_error"
    }
    assert rows[OWN, 1, "all"] == pytest.approx(4.0, abs=0.01) and rows[OWN, 2, "turned"] == pytest.approx(
        9.0, abs=0.01
    )
    assert (OWN, 1, "turned") not in rows
    assert rows["real", 1, "all"] < 1.0 and rows["real", 2, "all"] < 1.0
    assert rows["stayed", 1, "all"] == pytest.approx(4.0, abs=1.0)
