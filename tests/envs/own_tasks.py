"""Tasks that somebody else wrote, each with something that Gymnasium's own MuJoCo tasks do not do."""

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.registration import WrapperSpec
from gymnasium.utils import RecordConstructorArgs

ARM = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="above" pos="0 0 2" xyaxes="1 0 0 0 1 0"/>
    <camera name="wrong way" pos="0 0 2" zaxis="0 0 -1"/>
    <body name="arm">
      <joint name="shoulder" axis="0 0 1" damping=".1"/>
      <geom name="upper" type="capsule" fromto="0 0 0 .4 0 0" size=".05" rgba=".9 .4 .1 1"/>
      <camera name="hand" pos=".1 0 .5"/>
    </body>
  </worldbody>
  <actuator><motor joint="shoulder" ctrlrange="-1 1" gear=".2"/></actuator>
</mujoco>
"""


class Bare(gym.Env):
    """No ``dt``, no ``frame_skip``, no ``_get_obs``; the model and data have names of their own. Four steps each."""

    def __init__(self, goal: float = 0.0, xml: str = ARM) -> None:
        self.physics_model = mujoco.MjModel.from_xml_string(xml)
        self.physics_data = mujoco.MjData(self.physics_model)
        self.goal = goal
        self.action_space = gym.spaces.Box(-1, 1, (1,))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        mujoco.mj_resetData(self.physics_model, self.physics_data)
        self.physics_data.qpos[0] = self.np_random.uniform(-1, 1)
        mujoco.mj_forward(self.physics_model, self.physics_data)
        return self.look(), {}

    def look(self):
        return np.concatenate([self.physics_data.qpos, self.physics_data.qvel])

    def step(self, action):
        self.physics_data.ctrl[:] = action
        mujoco.mj_step(self.physics_model, self.physics_data, 4)
        return self.look(), -abs(float(self.physics_data.qpos[0]) - self.goal), False, False, {}


class Told(Bare):
    """Can tell its observation at any time, as Gymnasium's own tasks can."""

    def _get_obs(self):
        return self.look()


class Parts(Bare):
    """Shows a dict, with a dict in it."""

    def __init__(self) -> None:
        super().__init__()
        one = gym.spaces.Box(-np.inf, np.inf, (1,))
        self.observation_space = gym.spaces.Dict(
            {"angle": one, "more": gym.spaces.Dict({"speed": one, "side": gym.spaces.Discrete(2)})}
        )

    def look(self):
        angle, speed = super().look()
        return {"angle": np.array([angle]), "more": {"speed": np.array([speed]), "side": int(angle > 0)}}


class Cut(Told):
    """Cuts itself off in its seventh step."""

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.count += 1
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, self.count >= 7, info


class Double(gym.RewardWrapper, RecordConstructorArgs):
    """Pays ``factor`` times as much."""

    def __init__(self, env: gym.Env, factor: float = 2.0) -> None:
        RecordConstructorArgs.__init__(self, factor=factor)
        gym.RewardWrapper.__init__(self, env)
        self.factor = factor

    def reward(self, reward):
        return self.factor * reward


def limited() -> gym.Env:
    """A maker with wrappers of its own, one of which cuts off after five steps."""
    return gym.wrappers.TimeLimit(Double(Told(), 10.0), 5)


HERE = "tests.envs.own_tasks"
TIMED = WrapperSpec("Timed", "gymnasium.wrappers:TimeAwareObservation", {"flatten": True, "normalize_time": False})
SCALED = WrapperSpec(
    "Scaled", "gymnasium.wrappers:RescaleAction", {"min_action": np.float32(-5), "max_action": np.float32(5)}
)
STACKED = WrapperSpec("Stacked", "gymnasium.wrappers:FrameStackObservation", {"stack_size": 3})
PAID = WrapperSpec("Double", f"{HERE}:Double", {"factor": 3.0})


def _register() -> None:
    for kind in (Bare, Told, Parts, Cut):
        gym.register(f"{kind.__name__}-v0", f"{HERE}:{kind.__name__}", max_episode_steps=50)
    gym.register("Limited-v0", f"{HERE}:limited")
    gym.register("Wrapped-v0", f"{HERE}:Told", max_episode_steps=50, additional_wrappers=(PAID, SCALED, TIMED))
    gym.register("Stacked-v0", f"{HERE}:Told", max_episode_steps=50, additional_wrappers=(STACKED,))


_register()
