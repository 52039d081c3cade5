"""The list of planted faults fits the code, and its runner tells what survives."""

import subprocess
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, Fault, faults, main, planted


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_each_fault_can_be_planted_and_its_tests_are_there(fault):
    planted(fault, (ROOT / fault.file).read_text(encoding="utf-8"))
    for test in fault.tests:
        path, name = test.split("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_names_are_unique():
    names = [fault.name for fault in faults()]
    assert len(names) == len(set(names)) > 30


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository of one function, and of one test that sees half of it."""
    (tmp_path / "largest.py").write_text("def largest(a, b):\n    return a if a > b else b\n")
    seen = "from largest import largest\n\ndef test_first():\n    assert largest(2, 1) == 2\n"
    (tmp_path / "test_largest.py").write_text(seen)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def fault(old: str, new: str) -> Fault:
    return Fault(f"{old} becomes {new}", "largest.py", old, new, ("test_largest.py",))


def test_what_tests_notice_is_killed_and_nothing_stays_planted(project, capsys):
    before = (project / "largest.py").read_text()
    assert main([fault("return a if", "return b if")], project) == 0
    assert "killed" in capsys.readouterr().out
    assert (project / "largest.py").read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("else b", "else a", "no test fails"),
        ("else c", "else a", "0 times"),
        ("return a if", "return (a if", "do not run"),
    ],
    ids=["unseen", "stale", "no program"],
)
def test_what_survives_is_told_and_fails(project, capsys, old, new, why):
    assert main([fault(old, new)], project) == 1
    told = capsys.readouterr().out
    assert "SURVIVED" in told and why in told and "0 of 1" in told


def test_a_test_that_fails_anyway_kills_nothing(project, capsys):
    (project / "test_largest.py").write_text("def test_never():\n    assert False\n")
    assert main([fault("return a if", "return b if")], project) == 1
    assert "without any fault" in capsys.readouterr().out
