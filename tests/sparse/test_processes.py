"""Worker processes: what they import, what they do with the user's script, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from procosm.sparse.processes import worker_processes

# Not guarded by __name__, as scripts and notebooks are: a worker that ran it again would start workers of its own.
SCRIPT = """
import os, sys
sys.path.insert(1, sys.argv[1])
import beside
from procosm.sparse.processes import worker_processes
os.chdir(sys.argv[2])
with worker_processes(2) as pool:
    found = [pool.submit(beside.imported) for _ in range(4)]
    assert {future.result() for future in found} == {beside.imported()}
print("done")
"""

BESIDE = """
import json, numpy, queue, random, socket
def imported():
    return tuple(module.__file__ for module in (json, numpy, queue, random, socket))
"""

LASTING = """
import time
from procosm.sparse.processes import worker_processes
with worker_processes(2) as pool:
    list(pool.map(exec, ["import os, time; print(os.getpid(), flush=True); time.sleep(600)"] * 2))
"""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A working folder whose files are named like modules; importing one of them fails."""
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in ("json", "numpy", "queue", "random", "socket", "pickle", "types", "torch", "beside"):
        (folder / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    return folder


@pytest.mark.parametrize("start", ["script", "-c", "-m", "stdin", "zip"])
def test_workers_import_what_their_parent_does(start: str, trap: Path, tmp_path: Path) -> None:
    library, home = tmp_path / "library", tmp_path / "home"
    for folder in (library, home):
        folder.mkdir()
    (library / "beside.py").write_text(BESIDE)
    (home / "script.py").write_text(SCRIPT)
    with zipfile.ZipFile(home / "app.zip", "w") as archive:
        archive.writestr("__main__.py", SCRIPT)
    # Begun in a folder of its own: where Python puts the working folder first, the parent looks there, too.
    begun = {"script": [home / "script.py"], "-c": ["-c", SCRIPT], "-m": ["-m", "script"], "stdin": ["-"],
             "zip": [home / "app.zip"]}[start]  # fmt: skip
    run = subprocess.run(
        [sys.executable, *begun, library, trap],
        cwd=trap if start in ("script", "zip") else home,
        input=SCRIPT if start == "stdin" else None,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert run.stdout == "done\n", run.stderr


def test_workers_end_when_their_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", LASTING], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(map(alive, workers))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def test_an_exception_in_the_block_ends_what_workers_do() -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), worker_processes(1) as pool:
        pool.submit(time.sleep, 600)
        pool.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 300


def test_workers_use_one_core_each_and_the_parents_environment_is_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = dict(os.environ)
    with worker_processes(1) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
        assert pool.submit(os.getenv, "LP_NUM_THREADS").result() == "0"
    assert dict(os.environ) == before


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
