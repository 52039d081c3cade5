"""Plants every fault of ``faults.toml`` in a copy of the repository and runs the tests that must fail.

A fault that they do not notice has survived; then, or where the list does not fit the code, the exit status is 1. A
general tool mutates thousands of lines that nobody would get wrong; these are faults that make results look better.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("faults.toml")
SLOW_IMPORTS = ("torch.distributed.fsdp", "scipy.stats", "stable_baselines3", "mujoco")
"""Imported once, before the processes of the tests fork: they take most of the time of a test."""
PASSED, FAILED = 0, 1
"""Exit statuses of pytest; all others say that the tests did not run."""


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        name: what is wrong then. file: where, from the root. old, new: the text that is replaced, which stands there
            once, and what it becomes. tests: pytest's names of tests of which one must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def faults(path: Path = LIST) -> list[Fault]:
    """The committed list."""
    listed = tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    return [Fault(**each | {"tests": tuple(each["tests"])}) for each in listed]


def planted(fault: Fault, text: str) -> str:
    """The file's text with the fault in it.

    Raises:
        ValueError: the text to replace does not stand there exactly once.
    """
    if text.count(fault.old) != 1 or fault.old == fault.new:
        raise ValueError(f"{fault.file} holds {fault.old!r} {text.count(fault.old)} times: bring the list up to date")
    return text.replace(fault.old, fault.new)


def copied(root: Path, folder: Path) -> None:
    """What git knows of a checkout and what is new in it, links as links, without results and figures."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (root / name).exists() and not name.startswith("benchmarks/results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name, follow_symlinks=False)


def tested(folder: Path, tests: list[str]) -> int:
    """pytest's exit status, in a process of its own that has imported nothing of ours."""
    child = os.fork()
    if child == 0:
        status = 3  # of pytest: an internal error
        try:
            status = int(_pytest(folder, tests))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _pytest(folder: Path, tests: list[str]) -> int:
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "procosm")]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)  # of the processes that tests start
    sys.dont_write_bytecode = True  # a compiled file could outlive its fault
    return pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])


def survives(fault: Fault, folder: Path) -> str:
    """Why a fault that was planted in a copy counts as survived; empty where its tests fail."""
    path = folder / fault.file
    whole = path.read_text(encoding="utf-8")
    try:
        path.write_text(planted(fault, whole), encoding="utf-8")
        status = tested(folder, list(fault.tests))
    except (OSError, ValueError) as error:
        return str(error)
    finally:
        path.write_text(whole, encoding="utf-8")
    return {FAILED: "", PASSED: "no test fails"}.get(status, f"its tests do not run (pytest's status {status})")


def main(listed: list[Fault], root: Path = ROOT) -> int:
    """Plant all of them, one after the other; the exit status."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        copied(root, folder)
        if tested(folder, sorted({test for fault in listed for test in fault.tests})) != PASSED:
            print("the tests of the list fail, or do not run, without any fault: mend that first")
            return 1
        left = 0
        for fault in listed:
            why = survives(fault, folder)
            left += bool(why)
            print(f"{'SURVIVED' if why else 'killed  '} {fault.name}{f': {why}' if why else ''}", flush=True)
    print(f"{len(listed) - left} of {len(listed)} faults were noticed")
    return int(left > 0)


if __name__ == "__main__":
    for module in SLOW_IMPORTS:
        importlib.import_module(module)
    sys.exit(main(faults()))
