"""Wide starts: physics states that a task's own reset never gives, but its dynamics reach.

A world model that saw only states near the reset knows nothing of the states a policy visits later. Joints and speeds
are drawn within what the probe's rollouts reached, and a little beyond, one after the other in random order; a draw
stays when the task still does not end within a few steps and nothing is stuck deeper in anything than the rollouts
were. So only what hastens the end is held back (a pendulum's angle), and the rest (its cart) goes all the way.

Every other start draws one joint's place or speed in full and all others faintly. All drawn in full hardly ever leave
a system near rest: without these starts a pendulum is seen at rest in the middle of its rail and nowhere else, and near
rest is most of what a good policy lives through.
"""

import numpy as np

from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.probe import Probe, actuated_joints, deepest_contact

BEYOND = 1.2
SCALES = (1.0, 0.5, 0.25)
LIVES = 4
ALONE = 0.5
"""Share of wide starts with one joint's place or speed drawn in full, and all else near where the reset left it."""


def wide_start(env: MujocoEnv, seen: Probe, rng: np.random.Generator) -> np.ndarray | None:
    """A physics state for ``env.reset(options={"physics": ...})``; None when no draw was accepted.

    The environment must have been reset just before; it is left in the state returned, or where it was.

    Args:
        env: the environment that will start there.
        seen: the probe of its task.
        rng: where every draw comes from.
    """
    model, data = env.simulator.model, env.simulator.data
    low, high, slow, fast = _ranges(model, seen)
    # Speeds are drawn small as often as large: full speed everywhere would end most episodes at once.
    drawn = np.concatenate([rng.uniform(low, high), rng.uniform() * rng.uniform(slow, fast)])
    accepted, moved = env.physics(), False
    alone = rng.random() < ALONE
    for number, part in enumerate(rng.permutation(_parts(model, seen))):
        # Cubed: of all sizes, and small more often than not.
        faint = rng.uniform() ** 3 if alone and number else 1.0
        for scale in SCALES:
            env.set_physics(accepted)
            there = np.concatenate([data.qpos, data.qvel])
            there += faint * scale * part * (drawn - there)
            data.qpos[:], data.qvel[:] = np.split(there, [model.nq])
            mujoco.mj_normalizeQuat(model, data.qpos)
            mujoco.mj_forward(model, data)
            candidate = env.physics()
            if deepest_contact(data) <= 1.5 * seen.depth_m + 1e-4 and _lives(env):
                accepted, moved = candidate, True
                break
    env.set_physics(accepted)
    return accepted if moved else None


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
                low[address], high[address] = ends
            low[address], high[address] = max(low[address], ends[0]), min(high[address], ends[1])
    return low, np.maximum(low, high), slow, fast


def _parts(model: mujoco.MjModel, seen: Probe) -> np.ndarray:
    """(parts, nq + nv) bool, what is drawn together: a joint's places, and apart from them its speeds.

    Joints that no rollout ever moved are the task's (Reacher's target): its reset has the say.
    """
    places = np.append(model.jnt_qposadr, model.nq)
    speeds = np.append(model.jnt_dofadr, model.nv)
    index, parts = np.arange(model.nq + model.nv), []
    for joint in range(model.njnt):
        if np.abs(seen.qvel[:, speeds[joint] : speeds[joint + 1]]).max() < 1e-9:
            continue
        for first, last in (places[joint : joint + 2], model.nq + speeds[joint : joint + 2]):
            parts.append((first <= index) & (index < last))
    return np.array(parts, bool).reshape(-1, len(index))


def _widened(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = values.min(axis=0), values.max(axis=0)
    middle, half = 0.5 * (low + high), 0.5 * BEYOND * (high - low)
    return middle - half, middle + half


def _lives(env: MujocoEnv) -> bool:
    """Whether the task goes on for a few steps without action, with finite numbers: doomed states teach little."""
    middle = 0.5 * (env.action_space.low + env.action_space.high)
    for _ in range(LIVES):
        state, reward, terminated, _ = env.simulator.step(middle)
        if terminated or not (np.isfinite(state).all() and np.isfinite(reward)):
            return False
    return True
