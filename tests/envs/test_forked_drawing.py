"""OpenGL does not survive a fork: a child that would hang is told so."""

import subprocess
import sys

import pytest

from procosm.envs.truth.backend import RENDERER

SCRIPT = """
import os, sys
import gymnasium as gym
import procosm.envs
from procosm.world_model.errors import TaskError

env = gym.make("Procosm/ReacherTruth-v0")
env.reset(seed=0)
if sys.argv[1] == "closed":
    env.close()
child = os.fork()
if child == 0:
    try:
        (gym.make("Procosm/ReacherTruth-v0") if sys.argv[1] == "closed" else env).reset(seed=1)
    except TaskError as error:
        os.write(1, str(error).encode())
        env.close()
        os._exit(7)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
if sys.argv[1] == "open":
    env.reset(seed=2)  # the parent draws on
"""


@pytest.mark.skipif(RENDERER not in ("egl", "osmesa"), reason="nothing is drawn with OpenGL here")
@pytest.mark.parametrize("state", ["open", "closed"])
def test_a_child_of_a_process_that_drew_is_told_how_to_start_instead(state: str) -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT, state], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and run.stdout.strip().endswith("7") and "forkserver" in run.stdout, run.stderr


ADVISED = """
import re
import gymnasium as gym
import procosm.envs
from procosm.envs.truth import render
from procosm.world_model.errors import TaskError

if __name__ == "__main__":
    gym.make("Procosm/ReacherTruth-v0").reset(seed=0)
    render._forked = True
    try:
        render._check_not_forked()
    except TaskError as error:
        render._forked, advice = False, re.search(r"vector\\w*=[{].*?[}]", str(error)).group(0)
    many = eval(f'gym.make_vec("Procosm/ReacherTruth-v0", 2, vectorization_mode="async", {advice})')
    many.reset(seed=0)
    assert many.step(many.action_space.sample())[0].shape == (2, 64, 64, 3)
    many.close()
"""


@pytest.mark.skipif(RENDERER not in ("egl", "osmesa"), reason="nothing is drawn with OpenGL here")
def test_what_it_is_told_works(tmp_path) -> None:
    script = tmp_path / "advised.py"
    script.write_text(ADVISED)
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
