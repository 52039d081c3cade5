"""Rays against exact geometry, and against MuJoCo: what it draws, how it moves a free body, what it hits."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch

from procosm.envs.truth.gallery import FOV_Y_DEG, MOST, Gallery
from procosm.world_model.conditioning.rays import CameraConfig, RayEmbedding, plucker, step_pose, turned
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import Condition
from tests.conftest import restless_model, simulated_task


def random_rotation(generator: torch.Generator) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.double))
    q = q * torch.sign(torch.diagonal(r))
    return q * torch.sign(torch.linalg.det(q))


@pytest.mark.parametrize("fov_y_deg, size", [(40.0, (6, 6)), (70.0, (4, 9))])
def test_rays_of_two_poses_through_one_point_meet_there(fov_y_deg, size):
    """A point is projected into both pictures by the pinhole camera's own equation; each ray must pass through it."""
    generator = torch.Generator().manual_seed(0)
    reach = np.tan(np.radians(fov_y_deg) / 2)
    for _ in range(20):
        position, rotation = torch.randn(3, generator=generator, dtype=torch.double), random_rotation(generator)
        rays = plucker(position, rotation, fov_y_deg, *size)
        row, column = (int(torch.randint(n, (), generator=generator)) for n in size)
        d, m = rays[:3, row, column], rays[3:, row, column]
        assert d.norm() == pytest.approx(1.0)
        point = position + 3.0 * d
        # Where the pinhole camera sees the point: the middle of that very cell.
        x, y, z = rotation.T @ (point - position)
        assert -x / z / (reach * size[1] / size[0]) == pytest.approx(2 * (column + 0.5) / size[1] - 1, abs=1e-9)
        assert -y / z / reach == pytest.approx(1 - 2 * (row + 0.5) / size[0], abs=1e-9)
        # Another camera sees the same point: both lines hold it, p × d = m, and so they meet: d1·m2 + d2·m1 = 0.
        other = torch.randn(3, generator=generator, dtype=torch.double)
        d2 = (point - other) / (point - other).norm()
        m2 = torch.linalg.cross(other, d2)
        assert torch.allclose(torch.linalg.cross(point, d), m, atol=1e-9)
        assert float(d @ m2 + d2 @ m) == pytest.approx(0.0, abs=1e-9)


def test_rays_are_as_exact_where_training_mixes_precisions():
    position, rotation = (
        torch.randn(5, 3),
        torch.stack([random_rotation(torch.Generator().manual_seed(i)) for i in range(5)]),
    )
    exact = plucker(position, rotation.float(), 60.0, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plucker(position, rotation.float(), 60.0, 4, 4), exact)


def test_turning_is_the_exponential_of_a_cross_product():
    vectors = torch.randn(5, 3, dtype=torch.double)
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    generators = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    assert torch.allclose(turned(vectors), torch.linalg.matrix_exp(generators), atol=1e-12)
    assert torch.equal(turned(torch.zeros(3)), torch.eye(3))


def pose(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, state[3:].astype(np.float64))
    return state[:3].astype(np.float64), rotation.reshape(3, 3)


def test_a_step_goes_where_mujoco_goes():
    env, generator = Gallery(), np.random.default_rng(0)
    before, _ = env.reset(seed=1)
    for _ in range(10):
        action = generator.uniform(-MOST, MOST)
        after, *_ = env.step(action)
        (c, r), (c2, r2) = pose(before), pose(after)
        position, rotation = step_pose(torch.from_numpy(action).double(), 0.1)
        assert np.allclose(r.T @ (c2 - c), position.numpy(), atol=1e-6)
        assert np.allclose(r.T @ r2, rotation.numpy(), atol=1e-6)
        before = after


def test_what_a_ray_hits_from_one_pose_is_seen_by_mujoco_at_the_same_place_from_another():
    """Rays in the coordinates before a step, through what MuJoCo says they hit, against MuJoCo's own rays after it."""
    env = Gallery()
    state, _ = env.reset(seed=3)
    c, r = pose(state)
    motion = np.array([0.5, 0.05, -0.6, 0.1, 0.8, 0.0])
    moved, *_ = env.step(motion)
    c2, r2 = pose(moved)
    rays = plucker(*step_pose(torch.from_numpy(motion), 0.1), FOV_Y_DEG, 5, 5)
    hit = np.zeros(1, np.int32)
    for row in range(5):
        for column in range(5):
            d = r @ rays[:3, row, column].numpy()  # to the world's coordinates
            far = mujoco.mj_ray(env.model, env.data, c2, d, None, 1, -1, hit, None)
            point = c2 + far * d
            # The same line by its Plücker coordinates before the step: a point p on it has p × d = m.
            own = r.T @ (point - c)
            assert np.allclose(np.cross(own, rays[:3, row, column]), rays[3:, row, column], atol=1e-6)
            x, y, z = r2.T @ (point - c2)
            reach = np.tan(np.radians(FOV_Y_DEG) / 2)
            assert -x / z / reach == pytest.approx(2 * (column + 0.5) / 5 - 1, abs=1e-6)
            assert -y / z / reach == pytest.approx(1 - 2 * (row + 0.5) / 5, abs=1e-6)


def test_what_rays_add_is_what_concatenated_channels_would():
    torch.manual_seed(0)
    embedding = RayEmbedding(CameraConfig(FOV_Y_DEG, 0.1), 8, 2, (3, 2))
    motion = torch.randn(4, 6)
    assert not embedding(motion).any()  # nothing at first
    torch.nn.init.normal_(embedding.rays_in.weight)
    rest = plucker(torch.zeros(3), torch.eye(3), FOV_Y_DEG, 6, 4)
    rays = (plucker(*step_pose(motion, 0.1), FOV_Y_DEG, 6, 4) - rest) / 0.1
    assert rays.std() > 0.3 * motion.std()  # of the size that a network learns from
    kernel = embedding.rays_in.weight.view(8, 6, 2, 2)  # a patch is a convolution's window
    wanted = torch.nn.functional.conv2d(rays, kernel, stride=2).flatten(2).transpose(1, 2)
    assert torch.allclose(embedding(motion), wanted, atol=1e-5)
    assert not embedding(torch.zeros(4, 6)).any()  # nor of a camera that stands


def test_dynamics_told_of_rays_alone_follow_the_camera():
    task = simulated_task("Eye-v0", 32, 7, actions=6)
    camera = CameraConfig(FOV_Y_DEG, task.dt_s)
    model = restless_model(task, change=lambda config: replace(config, camera=camera, acts=False))
    assert model.conditions == {"camera"}
    ends = [model.step(model.begin(model.starts[:1]), torch.full((1, 6), value))[1].latents for value in (-1.0, 1.0)]
    assert not torch.allclose(*ends)
    # One step from zero, prepared, is the network's own pass.
    dynamics, context = model.dynamics, model.starts[:3]
    actions = torch.rand(3, dynamics.context, 6) * 2 - 1
    with torch.no_grad():
        memory = dynamics.begin(context, Condition(actions=actions[:, :-1]))
        told_step = dynamics.step(memory, actions[:, -1])[1].latents
        assert torch.allclose(told_step, dynamics.advance(context, actions), atol=1e-4)


def test_other_actions_move_no_camera():
    with pytest.raises(ProcosmError, match="a camera is moved by 6 numbers, and actions here have 2"):
        DiffusionDynamics(DynamicsConfig(camera=CameraConfig(60.0, 0.1)), (4, 4, 4), 2, 3)
