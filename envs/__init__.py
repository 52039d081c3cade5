"""Everything with reset and step; importing this package registers the ids.

``Procosm/<Name>-v0`` is a world model's dream of a task and ``Procosm/<Name>Truth-v0`` the task itself in MuJoCo,
with the same spaces. ``Procosm/World-v0`` (``checkpoint=PATH``) and ``Procosm/Truth-v0`` (``task=ID``) open any other.
"""

import gymnasium as gym

TASKS = {
    "InvertedPendulum": "InvertedPendulum-v5",
    "Reacher": "Reacher-v5",
    "Pusher": "Pusher-v5",
    "Hopper": "Hopper-v5",
    "HalfCheetah": "HalfCheetah-v5",
    "Walker2d": "Walker2d-v5",
    "Tabletop": "Tabletop-v0",
    "Gallery": "Gallery-v0",
    "Workbench": "Workbench-v0",
    "Driving": "Driving-v0",
}
"""Names of ours that have ids of their own, and the Gymnasium tasks they stand for."""

ROBOTS = {
    **{f"fetch/{name}": 50 for name in ("reach", "push", "pick-and-place")},
    **{f"metaworld/{name}": 200 for name in ("reach", "push", "door-open", "drawer-close")},
}
"""Manipulation tasks that are registered under names of ours, see ``truth.robots``, and lengths of their episodes.
Meta-World's own are 500 steps, of which its scripted policies need less than half."""

_WORLD = "procosm.envs.dreams.world:make_dream"
_WORLD_VECTOR = "procosm.envs.dreams.world_vector:WorldModelVectorEnv"
_TRUTH = "procosm.envs.truth.truth:make_truth"


def _register() -> None:
    gym.register("Procosm/World-v0", entry_point=_WORLD, vector_entry_point=_WORLD_VECTOR)
    gym.register("Procosm/Truth-v0", entry_point=_TRUTH)
    gym.register("Tabletop-v0", entry_point="procosm.envs.truth.tabletop:Tabletop", max_episode_steps=12)
    gym.register("Gallery-v0", entry_point="procosm.envs.truth.gallery:Gallery", max_episode_steps=40)
    gym.register("Driving-v0", entry_point="procosm.envs.truth.driving:Driving", max_episode_steps=30)
    gym.register("Workbench-v0", entry_point="procosm.envs.truth.workbench:Workbench", max_episode_steps=40)
    for name, task in TASKS.items():
        gym.register(f"Procosm/{name}-v0", entry_point=_WORLD, vector_entry_point=_WORLD_VECTOR, kwargs={"name": name})
        gym.register(f"Procosm/{name}Truth-v0", entry_point=_TRUTH, kwargs={"task": task})
    for name, steps in ROBOTS.items():
        package, task = name.split("/")
        entry = f"procosm.envs.truth.robots:{package}"
        gym.register(name, entry_point=entry, kwargs={"name": task}, max_episode_steps=steps)


_register()
