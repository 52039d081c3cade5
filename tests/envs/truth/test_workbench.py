"""The table with a hand that carries a camera: against the laws that it is said to obey."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import procosm.envs  # noqa: F401
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.workbench import AT_BALL_M, CAMERAS, MOST, REACH, STEP_S, Workbench

BALLS, HAND = slice(0, 6), slice(6, 9)


def test_the_hand_goes_as_it_is_told_and_balls_roll_straight_on():
    env = Workbench()
    before, _ = env.reset(seed=4)
    action = np.array([0.3, 0.2, 0.5], np.float32) * -np.sign(before[HAND])  # away from the end of its reach
    after, reward, ended, cut, info = env.step(action)
    assert np.allclose(after[HAND], before[HAND] + STEP_S * action, atol=1e-6)
    assert np.allclose(after[BALLS], before[BALLS] + STEP_S * before[9:15], atol=1e-6)
    assert np.allclose(after[9:15], before[9:15]) and not ended and not cut
    far = np.linalg.norm(after[6:8] - after[0:2])
    assert reward == pytest.approx(-far) and info["success"] == (far < AT_BALL_M)
    for _ in range(20):
        after, *_ = env.step(MOST)
    assert np.allclose(after[HAND], REACH, atol=1e-6) and np.allclose(after[15:], 0, atol=1e-6)


def test_going_to_the_red_ball_is_success():
    env = Workbench()
    state, info = env.reset(seed=1)
    for _ in range(30):
        way = (state[0:2] - state[6:8]) / STEP_S
        state, reward, *_, info = env.step(np.clip(np.append(way, 0), -MOST, MOST))
        if info["success"]:
            break
    assert info["success"] and reward > -AT_BALL_M


@pytest.fixture(scope="module")
def bench():
    env = MujocoEnv("Workbench-v0", frame_size=32, cameras={name: name for name in CAMERAS})
    yield env
    env.close()


@pytest.mark.filterwarnings("ignore:.*WARN")
def test_six_cameras_show_one_moment(bench):
    check_env(bench, skip_render_check=True)
    seen, _ = bench.reset(seed=0)
    assert tuple(seen) == CAMERAS and all(frame.shape == (32, 32, 3) for frame in seen.values())
    kinds = {name: eye.follow for name, eye in bench._drawing.cameras.items()}
    assert kinds == dict.fromkeys(CAMERAS[:-1], "") | {"wrist": "xy"}


def test_the_wrist_camera_is_carried_and_turned(bench):
    bench.reset(seed=2)
    data, wrist = bench.simulator.data, bench.simulator.model.camera("wrist").id
    hand, still = data.qpos[HAND].copy(), data.cam_xpos[: len(CAMERAS) - 1].copy()
    position, turn = data.cam_xpos[wrist].copy(), data.cam_xmat[wrist].reshape(3, 3).copy()
    action = np.array([0.4, 0.4, 0.8], np.float32) * -np.sign(hand).astype(np.float32)
    bench.step(action)
    moved = data.qpos[HAND] - hand
    quaternion, about = np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(quaternion, np.array([0.0, 0, 1]), moved[2])
    mujoco.mju_quat2Mat(about, quaternion)
    assert np.allclose(data.cam_xpos[wrist] - position, [moved[0], moved[1], 0], atol=1e-6)
    assert np.allclose(data.cam_xmat[wrist].reshape(3, 3), about.reshape(3, 3) @ turn, atol=1e-6)
    assert np.allclose(data.cam_xpos[: len(CAMERAS) - 1], still)


def test_it_has_an_id_of_its_own():
    env = gym.make("Procosm/WorkbenchTruth-v0", camera="wrist", frame_size=32)
    first, _ = env.reset(seed=0)
    assert first.shape == (32, 32, 3) and (env.step(MOST)[0] != first).any()
    env.close()
