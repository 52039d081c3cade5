"""Commands work where the locale is ASCII and there is no home to write to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from procosm.sparse.kernels.compiler import cache_folder

BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "HOME": "/proc/none", "OMP_NUM_THREADS": "1"}


def procosm(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {"PATH": os.environ["PATH"]} | BARE | environment
    command = [sys.executable, "-m", "procosm.agents.cli", *arguments]
    return subprocess.run(command, env=kept, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["", "ascii:strict"])
def test_collecting_and_training_in_an_ascii_locale_without_a_home(tmp_path, encoding):
    run = tmp_path / "Lauf-ü"
    extra = {"PYTHONIOENCODING": encoding} if encoding else {}
    alone = ["--processes", "1"] if encoding else []  # workers write nothing to streams
    made = procosm("collect", "--env", "InvertedPendulum", "--out", str(run), "--steps", "400", *alone, **extra)
    assert made.returncode == 0, made.stderr.decode()
    assert (run / "data" / "task.json").exists()
    if not encoding:
        arguments = ["--data", str(run / "data"), "--out", str(run / "world_model"), "--preset", "debug"]
        trained = procosm("train", *arguments)
        assert trained.returncode == 0, trained.stderr.decode()
        again = procosm("train", *arguments)
        assert again.returncode == 0 and b"is finished" in again.stderr


@pytest.mark.parametrize("verb", ["run", "play"])
def test_help_is_shown_in_an_ascii_terminal(verb):
    shown = procosm(verb, "--help", PYTHONIOENCODING="ascii:strict")
    assert shown.returncode == 0 and b"--help" in shown.stdout, shown.stderr.decode()


def test_compiled_kernels_are_kept_somewhere_where_home_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/proc/none")
    for chosen in ("/proc/none", None):
        with (cache_folder(chosen) / "a").open("wb") as file:
            file.write(b"kept")
    assert cache_folder(str(tmp_path)) == Path(tmp_path / "kernels")
