"""What a task looks like when it moves: short seeded rollouts from which the camera and the wide starts are chosen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.simulator import Simulator
from procosm.envs.truth.tasks import open_task
from procosm.world_model.errors import TaskError

RESETS = 40
EPISODES = 10
STEPS = 60
VISIBLE_GROUPS = 3


@dataclass(frozen=True)
class Probe:
    """Rollouts of one task under smooth noise. T moments in all, resets first; g things that moved.

    Attributes:
        corners: (T, g, 8, 3) metres, corners of the box round each visible thing that moved.
        origin: (T, 3) metres, the travelling root body; zeros where nothing travels.
        root: id of the body that can travel without bound, or -1; ``travels``: (3,) along which axes.
        certain: (T,) moments straight from a reset, or with free hinges turned: no accident of a rollout.
        qpos: (T, nq), qvel: (T, nv).
        lengths: (EPISODES,) control steps that each rollout lasted, at most STEPS.
        ended: whether any rollout ended before STEPS.
        depth_m: the deepest contact seen, metres.
    """

    corners: np.ndarray
    origin: np.ndarray
    root: int
    travels: np.ndarray
    certain: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    lengths: np.ndarray
    ended: bool
    depth_m: float


def travelling_root(model: mujoco.MjModel) -> tuple[int, np.ndarray]:
    """The actuated robot's root body when it can travel without bound, and along which of x, y (z: falling is no
    travel). (-1, no axes) when it is fixed."""
    driven = {int(model.body_rootid[model.jnt_bodyid[joint]]) for joint in actuated_joints(model)}
    for body in sorted(driven):
        axes = np.zeros(3, bool)
        for joint in range(model.njnt):
            if int(model.jnt_bodyid[joint]) != body:
                continue
            kind = int(model.jnt_type[joint])
            if kind == int(mujoco.mjtJoint.mjJNT_FREE):
                axes[:2] = True
            elif kind == int(mujoco.mjtJoint.mjJNT_SLIDE) and not model.jnt_limited[joint]:
                axes |= np.abs(model.jnt_axis[joint]) > 0.5
        axes[2] = False
        if axes.any():
            return body, axes
    return -1, np.zeros(3, bool)


def actuated_joints(model: mujoco.MjModel) -> list[int]:
    """Ids of the joints that an actuator drives, directly or through a tendon."""
    joints = set()
    for actuator in range(model.nu):
        target, kind = int(model.actuator_trnid[actuator, 0]), int(model.actuator_trntype[actuator])
        if kind in (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT)):
            joints.add(target)
        elif kind == int(mujoco.mjtTrn.mjTRN_TENDON):
            first, count = int(model.tendon_adr[target]), int(model.tendon_num[target])
            for wrap in range(first, first + count):
                if int(model.wrap_type[wrap]) == int(mujoco.mjtWrap.mjWRAP_JOINT):
                    joints.add(int(model.wrap_objid[wrap]))
    return sorted(joints)


def probe(name: str, env_kwargs: Mapping[str, Any] | None = None) -> Probe:
    """Roll the task called ``name`` out: always the same rollouts, whatever happened before.

    Raises:
        TaskError: there is no such task.
    """
    return _probe(name, json.dumps(dict(env_kwargs or {}), sort_keys=True))


@lru_cache(maxsize=16)
def _probe(name: str, env_kwargs: str) -> Probe:
    simulator = open_task(name, json.loads(env_kwargs))
    rng = np.random.default_rng(0)
    moments: list[tuple] = []
    lengths = []
    depth = 0.0
    for index in range(RESETS):
        simulator.reset(index)
        moments.append(_look(simulator, True))
    for index in range(EPISODES):
        simulator.reset(1000 + index)
        noise = np.zeros_like(simulator.action_low)
        smooth = rng.uniform(0.0, 0.95)
        length, terminated, truncated = 0, False, False
        while length < STEPS and not (terminated or truncated):
            noise = smooth * noise + np.sqrt(1 - smooth**2) * rng.standard_normal(noise.shape)
            unit = np.clip(0.5 + 0.35 * noise, 0.0, 1.0)
            action = simulator.action_low + unit * (simulator.action_high - simulator.action_low)
            _, _, terminated, truncated = simulator.step(action.astype(np.float32))
            moments.append(_look(simulator, False))
            depth = max(depth, deepest_contact(simulator.data))
            length += 1
        lengths.append(length)
    root, travels = travelling_root(simulator.model)
    if root < 0 and min(lengths) == STEPS:
        moments += _turn(simulator, rng)
    poses, roots, certain, qpos, qvel = (np.stack(column) for column in zip(*moments, strict=True))
    fine = np.all([np.isfinite(each.reshape(len(each), -1)).all(axis=1) for each in (poses, roots, qpos, qvel)], axis=0)
    if not fine[:RESETS].any() or not fine[RESETS : RESETS + sum(lengths)].any():
        raise TaskError(f"task {name!r} has no finite states to look at: its simulation diverges at once")
    poses, roots, certain, qpos, qvel = poses[fine], roots[fine], certain[fine], qpos[fine], qvel[fine]
    origin = roots * travels
    moved = np.ptp(poses - origin[:, None, None], axis=0).max(axis=(1, 2)) > 1e-4
    simulator.close()
    return Probe(
        corners=poses[:, moved],
        origin=origin,
        root=root,
        travels=travels,
        certain=certain,
        qpos=qpos,
        qvel=qvel,
        lengths=np.array(lengths),
        ended=min(lengths) < STEPS,
        depth_m=depth,
    )


def deepest_contact(data: mujoco.MjData) -> float:
    """How far the deepest contact of this moment goes in, metres."""
    return max(0.0, -float(data.contact.dist.min())) if data.ncon else 0.0


def _turn(simulator: Simulator, rng: np.random.Generator) -> list[tuple]:
    # A free hinge of a fixed robot whose task never ends will go all the way round (a cartpole that swings up).
    model = simulator.model
    free = (model.jnt_type == int(mujoco.mjtJoint.mjJNT_HINGE)) & (model.jnt_limited == 0)
    moments = []
    for index in range(RESETS if free.any() else 0):
        simulator.reset(index)
        simulator.data.qpos[model.jnt_qposadr[free]] = rng.uniform(-np.pi, np.pi, free.sum())
        moments.append(_look(simulator, True))
    return moments


def _look(simulator: Simulator, certain: bool) -> tuple[np.ndarray, np.ndarray, bool, np.ndarray, np.ndarray]:
    model, data = simulator.model, simulator.data
    mujoco.mj_kinematics(model, data)
    root, _ = travelling_root(model)
    origin = data.xpos[max(root, 0)].copy()
    return _corners(model, data), origin, certain, data.qpos.copy(), data.qvel.copy()


_SIGNS = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), -1).reshape(8, 3)


def _corners(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """(g, 8, 3) corners of the boxes round every geom and site that a picture shows, floors left out."""
    shown = (model.geom_type != int(mujoco.mjtGeom.mjGEOM_PLANE)) & (model.geom_group < VISIBLE_GROUPS)
    shown &= (model.geom_rgba[:, 3] > 0) | (model.geom_matid >= 0)
    centre, half = model.geom_aabb[shown, :3], model.geom_aabb[shown, 3:]
    local = centre[:, None] + half[:, None] * _SIGNS
    turn = data.geom_xmat[shown].reshape(-1, 3, 3)
    geoms = data.geom_xpos[shown][:, None] + np.einsum("gij,gkj->gki", turn, local)
    lit = (model.site_group < VISIBLE_GROUPS) & (model.site_rgba[:, 3] > 0)
    sites = data.site_xpos[lit][:, None] + model.site_size[lit].max(axis=1, initial=0.0)[:, None, None] * _SIGNS
    return np.concatenate([geoms, sites])
