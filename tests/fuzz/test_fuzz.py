"""Wrong input of every kind, at every edge: refused in words of ours, in time, in little memory, and never taken.

The cases are made from fixed seeds, each surface in a process of its own (``tests/fuzz/guard.py``).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEAST = {
    "config": 400,
    "weights": 300,
    "checkpoint_json": 60,
    "tokenizers": 300,
    "records": 500,
    "machines": 300,
    "steps": 350,
    "arguments": 700,
    "datasets": 500,
    "page": 900,
    "saves": 900,
}
"""Cases of each surface, at least."""


@pytest.mark.parametrize("surface", LEAST)
def test_wrong_input_is_refused_in_words_of_ours(surface, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guard", surface, str(tmp_path)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, f"the process died; its last words:\n{run.stderr[-3000:]}"
    result = json.loads(run.stdout.splitlines()[-1])
    assert not result["faults"], f"{len(result['faults'])} faults:\n" + "\n".join(result["faults"][:40])
    assert sum(result["counts"].values()) >= LEAST[surface]
    assert result["counts"]["refused"] > 0


def test_there_are_two_thousand_cases_and_more():
    assert sum(LEAST.values()) >= 2000
