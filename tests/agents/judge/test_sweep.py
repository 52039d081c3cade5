"""The action sweep: its actions by hand, its picture against MuJoCo's own frames."""

import dataclasses

import gymnasium as gym
import numpy as np
from PIL import Image

from procosm.agents.judge.sweep import GAP, LEFT, SIDE, STEPS, TOP, constant_actions, sweep, told
from procosm.world_model.checkpoint import load


def test_one_motor_is_pushed_at_five_strengths_and_several_one_by_one(linear_task):
    task = dataclasses.replace(linear_task, action_low=(-1.0,), action_high=(3.0,))
    assert constant_actions(task).ravel().tolist() == [-1.0, 0.5, 1.0, 1.5, 3.0]
    arm = dataclasses.replace(linear_task, action_low=(-1.0, -2.0), action_high=(1.0, 2.0))
    assert constant_actions(arm).tolist() == [[0, 0], [-1, 0], [1, 0], [0, -2], [0, 2]]


def test_rows_are_called_by_what_is_pushed():
    called = [told(np.array(action, np.float32)) for action in ([0.75], [0, -1], [0] * 6, [0, 0, 1, 0, 0, 0])]
    assert called == ["+0.75", "0, -1", "no action", "motor 3: +1"]


def test_the_upper_row_of_a_pair_is_mujoco_and_stops_where_the_episode_ends(truth_checkpoint, tmp_path):
    found = sweep(tmp_path / "sweep.png", load(truth_checkpoint), seed=3)
    assert found["file"] == "sweep.png" and found["actions"][0] == [-3.0]
    picture = np.asarray(Image.open(tmp_path / "sweep.png"))
    env = gym.make("procosm.envs:Procosm/InvertedPendulumTruth-v0", frame_size=64)
    env.reset(seed=3)
    ended = False
    for column, step in enumerate(STEPS):
        left = LEFT + column * (SIDE + GAP)
        shown = picture[TOP : TOP + SIDE, left : left + SIDE]
        while not ended and env.unwrapped._elapsed < step:
            frame, _, ended, *_ = env.step(np.array([-3.0], np.float32))
        if env.unwrapped._elapsed == step:
            expected = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            assert (shown == np.asarray(expected)).all()
        else:
            assert (shown == shown[0, 0]).all()  # the page's colour
    assert ended
    env.close()
