"""A commit is recorded only where procosm's code lies in a checkout of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from procosm.world_model import provenance

ROOT = Path(provenance.__file__).resolve().parent.parent
COMMIT = "import sys; sys.path.insert(0, sys.argv[1]); import provenance; print(provenance.commit())"


def git(folder: Path, *arguments: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder: Path, **environment: str) -> str:
    command = [sys.executable, "-c", COMMIT, str(folder)]
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@pytest.fixture
def theirs(tmp_path) -> Path:
    """Somebody's repository with one commit."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "mine")
    return folder


def copied(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copy(ROOT / "world_model" / "provenance.py", folder / "provenance.py")).parent


def test_of_a_repository_around_it_nothing_is_recorded(theirs):
    assert commit(copied(theirs / ".venv" / "lib" / "site-packages" / "procosm" / "world_model")) == "unknown"
    assert commit(copied(theirs / "world_model")) == "unknown"  # its top level, but not among its files


def test_a_checkout_of_its_own_is_recorded_whatever_the_environment_names(theirs, tmp_path):
    ours = copied(tmp_path / "ours" / "world_model").parent
    git(ours, "init")
    git(ours, "add", ".")
    git(ours, "commit", "-m", "ours")
    expected = git(ours, "describe", "--always")
    named = {"GIT_DIR": str(theirs / ".git"), "GIT_WORK_TREE": str(theirs)}
    assert commit(ours / "world_model") == expected == commit(ours / "world_model", **named)
    assert commit(copied(tmp_path / "bare" / "world_model"), **named) == "unknown"
    (ours / "world_model" / "provenance.py").write_text((ours / "world_model" / "provenance.py").read_text() + "\n")
    assert commit(ours / "world_model") == expected + "+"
