"""The car that follows trajectories: against circles, against what no car can, and against its own cameras."""

import gymnasium as gym
import numpy as np
import pytest

import procosm.envs  # noqa: F401
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.truth.driving import CAMERAS, FASTEST_M_S, POINT_S, POINTS, TIGHTEST_PER_M, Driving
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.episodes import load_episodes, load_task


def circle(bend: float, speed: float) -> np.ndarray:
    """(k, 2): where a car that drives a circle is after each tenth of a second, ahead and to the left."""
    angle = bend * speed * POINT_S * (1 + np.arange(POINTS))
    return np.stack([np.sin(angle), 1 - np.cos(angle)], axis=1) / bend


@pytest.mark.parametrize("bend, speed", [(0.5, 1.8), (-0.3, 1.0), (1e-6, 2.0), (0.6, 0.4)])
def test_a_trajectory_that_can_be_driven_is_driven_exactly(bend, speed):
    env = Driving()
    before, _ = env.reset(seed=1)
    wanted = circle(bend, speed)
    after, reward, ended, _, info = env.step(wanted.ravel())
    assert np.allclose(info["trajectory"], wanted, atol=1e-9)
    assert reward == pytest.approx(speed * POINT_S * POINTS, rel=1e-6) and not ended
    turn = np.array([[before[2], -before[3]], [before[3], before[2]]])
    assert np.allclose(after[:2], before[:2] + turn @ wanted[-1], atol=1e-5)
    heading = np.arctan2(after[3], after[2]) - np.arctan2(before[3], before[2])
    assert np.angle(np.exp(1j * heading)) == pytest.approx(bend * speed * POINT_S * POINTS, abs=1e-5)


def test_what_no_car_can_do_is_not_done():
    env, generator = Driving(), np.random.default_rng(0)
    env.reset(seed=2)
    _, reward, *_, info = env.step(np.tile([-1.0, 0.5], POINTS))  # behind it
    assert reward == 0 and not info["trajectory"].any()
    for _ in range(20):
        heading = env.data.qpos[2]
        _, reward, *_ = env.step(generator.uniform(env.action_space.low, env.action_space.high) * 3)
        assert reward <= FASTEST_M_S * POINT_S * POINTS + 1e-9
        assert abs(env.data.qpos[2] - heading) <= TIGHTEST_PER_M * reward + 1e-9


def test_driving_on_ends_at_a_post_or_at_the_fence():
    env = Driving()
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(40):
            *_, ended, _, _ = env.step(circle(1e-6, 2.0).ravel())
            if ended:
                break
        assert ended


@pytest.fixture(scope="module")
def six():
    env = MujocoEnv("Driving-v0", frame_size=32, cameras={name: name for name in CAMERAS})
    yield env
    env.close()


def test_turned_by_a_sixth_each_camera_sees_what_its_neighbour_saw(six):
    six.reset(seed=3)
    physics = six.physics()
    before = six.task.split(six.render())
    turned = physics.copy()
    turned[3] += np.pi / 3  # time, x, y, heading
    six.set_physics(turned)
    after = six.task.split(six.render())
    for i, name in enumerate(CAMERAS):
        neighbour = before[CAMERAS[(i + 1) % 6]].astype(int)
        assert (np.abs(after[name] - neighbour) > 8).any(-1).mean() < 0.02
        assert (np.abs(after[name] - before[name].astype(int)) > 8).any(-1).mean() > 0.05


def test_all_six_views_and_the_trajectories_are_logged(tmp_path):
    config = CollectConfig(
        "Driving", tmp_path, steps=100, processes=1, frame_size=32, camera=CAMERAS, wide=0.0, constant=0.0,
        policy="noise:1",
    )  # fmt: skip
    data = collect(config)
    task, episodes = load_task(data), load_episodes(data)
    assert tuple(view.name for view in task.views) == CAMERAS and len(task.action_low) == 2 * POINTS
    assert task.dt_s == pytest.approx(POINTS * POINT_S)
    shown = task.split(episodes[0].frames)
    assert all((seen != seen[0]).any() for seen in shown.values())


def test_it_has_an_id_of_its_own():
    env = gym.make("Procosm/DrivingTruth-v0", camera="front", frame_size=32)
    first, _ = env.reset(seed=0)
    assert (env.step(circle(0.2, 1.5).ravel().astype(np.float32))[0] != first).any()
    env.close()
