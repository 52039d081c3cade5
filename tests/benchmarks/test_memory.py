"""Peaks of memory are those of a process alone, and only since they were asked for."""

import subprocess
import sys

import numpy as np
import pytest

from procosm.benchmarks.memory import peak_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
FORGET = """
import numpy as np
from procosm.benchmarks.memory import forget_peak, peak_bytes
np.ones(25 << 20, np.uint64)  # 200 MB, and gone
forget_peak()
before = peak_bytes()
held = np.ones(10 << 20, np.uint64)
print(held.nbytes, peak_bytes() - before)
"""
PRINT = "from procosm.benchmarks.memory import peak_bytes; print(peak_bytes())"


def test_a_child_does_not_take_over_its_parents_peak():
    held = np.ones(50 << 20, np.uint64)  # 400 MB
    child = subprocess.run([sys.executable, "-c", PRINT], capture_output=True, text=True, check=True)
    assert int(child.stdout) < 100e6 < held.nbytes < peak_bytes()


def test_a_peak_of_before_is_forgotten():
    """In a process of its own: a large one has room that is held already."""
    child = subprocess.run([sys.executable, "-c", FORGET], capture_output=True, text=True, check=True)
    size, more = map(int, child.stdout.split())
    assert 0.9 * size < more < 1.5 * size
