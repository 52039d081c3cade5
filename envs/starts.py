"""Wide starts: physics states that a task's own reset never gives, but its dynamics reach.

A world model that saw only states near the reset knows nothing of the states a policy visits later. Joints and speeds
are drawn within what the probe's rollouts reached, and a little beyond; a draw counts when the task does not end within
a few steps and nothing is stuck deeper in anything than the rollouts were.
"""

import numpy as np

from procosm.envs.backend import mujoco
from procosm.envs.mujoco import MujocoEnv
from procosm.envs.probe import Probe, actuated_joints, deepest_contact

BEYOND = 1.2
TRIES = 12
SHRINK = 0.85
RAIL = 0.9
LIVES = 4


def wide_start(env: MujocoEnv, seen: Probe, rng: np.random.Generator) -> np.ndarray | None:
    """A physics state for ``env.reset(options={"physics": ...})``; None when no draw was accepted.

    The environment must have been reset just before; it is left in the state returned, or where it was.

    Args:
        env: the environment that will start there.
        seen: the probe of its task.
        rng: where every draw comes from.
    """
    model, data = env.simulator.model, env.simulator.data
    origin = env.physics()
    low, high, slow, fast = _ranges(model, seen)
    still = _still(model, seen)
    qpos, qvel = data.qpos.copy(), data.qvel.copy()
    scale = 1.0
    for _ in range(TRIES):
        # Speeds are drawn small as often as large: full speed everywhere would end most episodes at once.
        drawn, speed = rng.uniform(low, high), rng.uniform() * rng.uniform(slow, fast)
        data.qpos[:] = qpos + scale * np.where(still, 0.0, drawn - qpos)
        data.qvel[:] = qvel + scale * (speed - qvel)
        mujoco.mj_normalizeQuat(model, data.qpos)
        mujoco.mj_forward(model, data)
        candidate = env.physics()
        shallow = deepest_contact(data) <= 1.5 * seen.depth_m + 1e-4
        if shallow and _lives(env):
            env.set_physics(candidate)
            return candidate
        env.set_physics(origin)
        scale *= SHRINK
    return None


def _ranges(model: mujoco.MjModel, seen: Probe) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of qpos and qvel: what was reached, a little beyond, within the joints' limits."""
    low, high = _widened(seen.qpos)
    slow, fast = _widened(seen.qvel)
    driven = actuated_joints(model)
    for joint in range(model.njnt):
        address, kind = int(model.jnt_qposadr[joint]), int(model.jnt_type[joint])
        if kind == int(mujoco.mjtJoint.mjJNT_FREE):
            # Where it lies on the floor matters to nothing; turned far it would start in the floor.
            middle = np.median(seen.qpos[:, address : address + 2], axis=0)
            low[address : address + 2] = high[address : address + 2] = middle
        elif model.jnt_limited[joint] and kind != int(mujoco.mjtJoint.mjJNT_BALL):
            ends = model.jnt_range[joint]
            if joint in driven and kind == int(mujoco.mjtJoint.mjJNT_SLIDE):
                low[address], high[address] = RAIL * ends
            low[address], high[address] = max(low[address], ends[0]), min(high[address], ends[1])
    return low, np.maximum(low, high), slow, fast


def _still(model: mujoco.MjModel, seen: Probe) -> np.ndarray:
    """(nq,) places that no rollout ever moved: they are the task's (Reacher's target), so its reset has the say."""
    still = np.zeros(model.nq, bool)
    for joint in range(model.njnt):
        last = joint + 1 == model.njnt
        places = slice(int(model.jnt_qposadr[joint]), model.nq if last else int(model.jnt_qposadr[joint + 1]))
        speeds = slice(int(model.jnt_dofadr[joint]), model.nv if last else int(model.jnt_dofadr[joint + 1]))
        still[places] = np.abs(seen.qvel[:, speeds]).max() < 1e-9
    return still


def _widened(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = values.min(axis=0), values.max(axis=0)
    middle, half = 0.5 * (low + high), 0.5 * BEYOND * (high - low)
    return middle - half, middle + half


def _lives(env: MujocoEnv) -> bool:
    """Whether the task goes on for a few steps without action, with finite numbers: doomed states teach little."""
    middle = 0.5 * (env.action_space.low + env.action_space.high)
    for _ in range(LIVES):
        state, reward, terminated = env.simulator.step(middle)
        if terminated or not (np.isfinite(state).all() and np.isfinite(reward)):
            return False
    return True
