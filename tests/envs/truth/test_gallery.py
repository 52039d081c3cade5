"""The room that stands still: what is drawn is what rays from the eye's pose hit."""

import mujoco
import numpy as np
import pytest
import torch

from procosm.envs.truth.gallery import FOV_Y_DEG, MOST, STEPS
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.conditioning.rays import plucker

SIDE = 32


@pytest.fixture(scope="module")
def room():
    env = MujocoEnv("Gallery-v0", frame_size=SIDE, camera="eye", renderer="raycast")
    yield env
    env.close()


def test_each_pixel_has_the_colour_of_what_its_ray_hits(room):
    frame, info = room.reset(seed=2)
    for _ in range(5):
        frame, *_, info = room.step(0.7 * MOST)
    position, quaternion = info["state"][:3].astype(np.float64), info["state"][3:].astype(np.float64)
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, quaternion)
    rays = plucker(torch.from_numpy(position), torch.from_numpy(rotation.reshape(3, 3)), FOV_Y_DEG, SIDE, SIDE)
    model, data, hit, alike, seen = room.simulator.model, room.simulator.data, np.zeros(1, np.int32), 0, 0
    for row in range(0, SIDE, 3):
        for column in range(0, SIDE, 3):
            mujoco.mj_ray(model, data, position, rays[:3, row, column].numpy(), None, 1, -1, hit, None)
            if hit[0] < 0 or model.geom_type[hit[0]] == mujoco.mjtGeom.mjGEOM_PLANE:
                continue  # the renderer has floors of its own
            own, drawn = model.geom_rgba[hit[0], :3], frame[row, column] / 255
            seen += 1
            # Light changes how bright a colour is, and not which it is.
            alike += own @ drawn > 0.995 * np.linalg.norm(own) * np.linalg.norm(drawn)
    assert seen > 40 and alike > 0.9 * seen


def test_the_eye_stays_in_the_room_and_the_picture_changes(room):
    for seed in range(3):
        first, _ = room.reset(seed=seed)
        generator = np.random.default_rng(seed)
        for _ in range(STEPS):
            frame, reward, ended, cut, info = room.step(generator.uniform(-MOST, MOST))
        assert np.abs(info["state"][:2]).max() < 4 and reward == 0 and not ended and cut
        assert np.abs(frame.astype(int) - first).mean() > 5
        assert np.linalg.norm(info["state"][3:]) == pytest.approx(1, abs=1e-5)
