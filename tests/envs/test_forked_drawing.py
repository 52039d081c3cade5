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
