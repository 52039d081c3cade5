"""Dreams in processes of somebody else's making: forked before and after dreams ran here, or from a server.

Each script is a process of its own, because a fork of this one would inherit what other tests left in it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import os, sys
import gymnasium as gym
import torch

def dream(n=None):
    import procosm.envs
    kind = "Procosm/InvertedPendulum-v0"
    env = gym.make(kind) if n is None else gym.make_vec(kind, n)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    return env

def torch_works_with_two_threads():
    torch.set_num_threads(2)
    torch.randn(10**6).exp()
    return float((torch.randn(600, 600) @ torch.randn(600, 600)).sum())

def in_a_fork(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""

ASYNC = """
if __name__ == "__main__":
    import procosm.envs
    env = gym.make_vec("Procosm/InvertedPendulum-v0", 2, vectorization_mode="async")
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0].shape == (2, 64, 64, 3)
    env.close()
"""

SUBPROC = """
from stable_baselines3.common.vec_env import SubprocVecEnv
if __name__ == "__main__":
    dream()
    torch_works_with_two_threads()
    env = SubprocVecEnv([dream, dream], start_method=sys.argv[1])
    env.reset()
    assert env.step([env.action_space.sample()] * 2)[0].shape == (2, 64, 64, 3)
    env.close()
"""

LOADER = """
class Steps(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return dream().step([0.0])[0]
if __name__ == "__main__":
    dream()
    torch_works_with_two_threads()
    assert sum(len(batch) for batch in torch.utils.data.DataLoader(Steps(), num_workers=2)) == 4
"""

BY_HAND = """
one, many = dream(), dream(64)
torch_works_with_two_threads()

def go_on():
    one.step(one.action_space.sample())
    many.step(many.action_space.sample())
    (torch.randn(600, 600) @ torch.randn(600, 600)).sum()
in_a_fork(go_on)
many.step(many.action_space.sample())
assert torch.get_num_threads() == 2
"""

BEFORE_OURS = """
torch_works_with_two_threads()
in_a_fork(lambda: dream(64))
"""

SCRIPTS = {
    "async": (ASYNC,),
    "SubprocVecEnv, fork": (SUBPROC, "fork"),
    "SubprocVecEnv, forkserver": (SUBPROC, "forkserver"),
    "DataLoader": (LOADER,),
    "os.fork": (BY_HAND,),
    "os.fork before procosm is imported": (BEFORE_OURS,),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_dreams_step_in_a_child(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # with one thread nothing hangs
    script, *arguments = SCRIPTS[name]
    path = tmp_path / "script.py"
    path.write_text(BEGIN + script)
    run = subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr
