"""Two checkouts side by side: where their processes run, and what becomes of their steps a second."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from procosm.benchmarks.machine import commits


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot tell processes where to run")
def test_processes_that_are_compared_on_one_thread_share_a_core_and_others_do_not():
    before = os.sched_getaffinity(0)
    with commits.on_one_core(True):
        assert len(os.sched_getaffinity(0)) == 1
    with pytest.raises(KeyError), commits.on_one_core(True):
        raise KeyError
    assert os.sched_getaffinity(0) == before
    with commits.on_one_core(False):
        assert os.sched_getaffinity(0) == before


def test_what_the_order_of_opening_does_to_speed_is_not_in_the_ratio(tmp_path, monkeypatch):
    """Three times two pairs: what is opened first is a fifth slower, and the later commit is half as fast again."""
    rng = np.random.default_rng(0)
    before = rng.uniform(90, 110, (6, 5))
    after = before * 1.5 * rng.uniform(0.99, 1.01, (6, 5))
    before[::2] *= 0.8
    after[1::2] *= 0.8
    found = [list(zip(*rates, strict=True)) for rates in zip(before.tolist(), after.tolist(), strict=True)]
    monkeypatch.setattr(commits, "measured", lambda config: {"dreams": found})
    rows = json.loads(commits.main(commits.CommitsConfig(Path(), Path(), out=tmp_path)).read_text())["rows"]
    faster = rows[0]
    assert (faster["metric"], faster["n"]) == ("faster", 3)
    assert 1.48 < faster["low"] <= faster["value"] <= faster["high"] < 1.52
    assert [row["value"] for row in rows[1:]] == [pytest.approx(np.median(each)) for each in (before, after)]
