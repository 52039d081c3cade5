"""docs/own_task.md from top to bottom, in a folder of its own, and a stranger's checkpoint that names a module."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.names import ALLOWED
from procosm.world_model.errors import TaskError

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "own_task.md").read_text(), re.DOTALL)

PROCOSM = """
import sys
from procosm.agents import cli
from procosm.agents.judge import evaluate, speed
evaluate.speeds = lambda model, dreams, processes, seconds: speed.speeds(model, dreams, processes, seconds / 40)
cli.main(sys.argv[1:])
"""
"""The command, but that it measures speeds for a fortieth of the time, which would be half of the work."""


def done(arguments: list[str], folder: Path) -> str:
    """What a command says; it must succeed, and knows the working folder as a shell's command does: not at all."""
    environment = {key: text for key, text in os.environ.items() if key != ALLOWED}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_page_runs_from_top_to_bottom(tmp_path):
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds == ["xml", "python", "python", "bash", "bash", "python"]
    for name, (_, text) in zip(("arm.xml", "arm_task.py"), BLOCKS[:2], strict=True):
        (tmp_path / name).write_text(text)
    for kind, text in BLOCKS[2:]:
        if kind == "python":
            done(["-c", text], tmp_path)
            continue
        command, *arguments = shlex.split(text)
        assert command == "procosm"
        done(["-c", PROCOSM, *arguments], tmp_path)
    task = json.loads((tmp_path / "runs" / "arm" / "data" / "task.json").read_text())
    assert task["twin"]["cameras"] == {"main": {"name": "above"}} and task["twin"]["env_kwargs"] == {"goal": 0.5}
    assert (tmp_path / "runs" / "arm" / "report.html").exists()


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A task of a module that must not be imported; it leaves a mark if it is."""
    mark = f"import pathlib; pathlib.Path({str(tmp_path / 'mark')!r}).touch()"
    (tmp_path / "evil_task.py").write_text(f"{mark}\nimport tests.envs.own_tasks\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ALLOWED, raising=False)
    yield tmp_path / "mark"
    sys.modules.pop("evil_task", None)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])


def test_a_checkpoint_imports_nothing_unless_asked(evil, checkpoint_of):
    from dataclasses import replace

    import gymnasium as gym

    import procosm.envs  # noqa: F401
    from procosm.agents.policy.worlds import truth
    from procosm.envs.play.pair import Pair
    from procosm.world_model.checkpoint import load

    mine = MujocoEnv("tests.envs.own_tasks:Told-v0").task
    evil_id = "evil_task:Told-v0"
    folder = str(checkpoint_of(replace(mine, id=evil_id, twin=replace(mine.twin, id=evil_id))))
    gym.make("Procosm/World-v0", checkpoint=folder).reset(seed=0)
    model = load(folder)
    for opens in (
        lambda: gym.make("Procosm/Truth-v0", checkpoint=folder),
        lambda: MujocoEnv.from_task(model.task),
        lambda: truth(model.task, "state"),
    ):
        with pytest.raises(TaskError, match="--allow-import evil_task"):
            opens()
    assert "--allow-import" in Pair(model, 1, 5).without_truth
    assert not evil.exists()
    gym.make("Procosm/Truth-v0", checkpoint=folder, task="evil_task:Told-v0").reset(seed=0)
    assert evil.exists() and "evil_task" in os.environ[ALLOWED].split(",")
    truth(model.task, "state").reset(seed=0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module:Told-v0", "no module 'no_such_module'"),
        ("tests.envs.own_tasks:Nothing-v0", "Nothing"),
        ("Procosm/Truth-v0", "task's own id"),
    ],
)
def test_wrong_names_are_errors_of_ours(name, says):
    with pytest.raises(TaskError, match=says):
        MujocoEnv(name)


def test_a_module_that_fails_is_named_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "broken_task.py").write_text("import gymnasium\n1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(TaskError, match=r"broken_task.*ZeroDivisionError.*line 2"):
        MujocoEnv("broken_task:Told-v0")
