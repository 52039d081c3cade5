"""Rounds: each learns from all data so far, and what is finished stays as it is; kill -9 anywhere costs nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from scipy import stats

from procosm.agents.policy.improve.improve import ImproveConfig, improve
from procosm.agents.run import RunConfig, run
from procosm.world_model.data.episodes import acting_policies, load_episodes
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_json, sha256
from procosm.world_model.settings import SettingsError

SMALL = {"preset": "debug", "steps": 400, "rounds": 2, "dreams": 8, "horizon": 16, "iterations": 1, "episodes": 2}
SMALL |= {"judged": 2, "processes": 1, "frame_size": 32, "mark": 1e6}
ARGUMENTS = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def improved(tmp_path_factory) -> Path:
    """Two rounds of Reacher at their smallest."""
    out = tmp_path_factory.mktemp("improve") / "out"
    improve(ImproveConfig("Reacher", out, **SMALL))
    return out


def test_each_round_holds_all_steps_so_far_and_the_last_policy_acted_in_it(improved):
    first, second = improved / "round_00", improved / "round_01"
    old, new, both = (load_episodes(folder / "data") for folder in (first, second / "fresh", second))
    assert [len(e.actions) for e in both] == [len(e.actions) for e in [*old, *new]]
    assert [sum(len(e.actions) for e in part) for part in (old, new)] == [200, 200]
    assert not any(e.wide for e in new) and {e.kind for e in new} == {"train", "holdout"}
    acted = sha256(first / "policy" / "policy.zip")
    assert set(acting_policies(second / "data").values()) == {acted}
    assert read_json(second / "stages" / "world_model.json")["config"]["recent"] == len(new)


def test_the_curve_is_what_the_rounds_earned_in_mujoco(improved):
    found = read_json(improved / "improve.json")
    assert [row["real_steps"] for row in found["rounds"]] == [200, 400]
    for number, row in enumerate(found["rounds"]):
        judged = read_json(improved / f"round_{number:02d}" / "judged" / "judgement.json")
        assert {name: row[name] for name in ("mean", "low", "high", "n", "dream_mean")} == {
            name: judged[name] for name in ("mean", "low", "high", "n", "dream_mean")
        }
        (saved,) = (improved / f"round_{number:02d}" / "judged" / "played").glob("trained-*.safetensors")
        earned = load_file(saved)["total"].numpy()
        assert row["judging_steps"] == len(earned) * 50 == 2 * 50 and earned.max() < 0
        bounds = stats.t.interval(0.95, len(earned) - 1, earned.mean(), stats.sem(earned))  # of two it may pass zero
        assert (row["low"], row["mean"], row["high"]) == pytest.approx((bounds[0], earned.mean(), bounds[1]))
    with Image.open(improved / "improve.png") as picture:
        assert np.asarray(picture).std() > 0
    best = max(found["rounds"], key=lambda row: row["mean"])["round"]
    assert [path.parent.name for path in improved.glob("*/report.html")] == [f"round_{best:02d}"]


def test_the_same_command_makes_nothing_again_and_a_mark_that_is_reached_ends_it(improved, capsys):
    weights = [path for path in improved.rglob("*") if path.suffix in (".zip", ".safetensors", ".hdf5")]
    before = {path: path.stat().st_mtime_ns for path in weights}
    improve(ImproveConfig("Reacher", improved, **SMALL))
    assert len(before) > 10 and before == {path: path.stat().st_mtime_ns for path in weights}
    improve(ImproveConfig("Reacher", improved, **SMALL | {"mark": -1e6}))
    assert len(read_json(improved / "improve.json")["rounds"]) == 1
    assert "is reached" in capsys.readouterr().err


def test_other_settings_are_named(improved):
    with pytest.raises(ProcosmError, match="steps was 200, now 300"):
        run(
            RunConfig(
                "Reacher", improved, **{k: v for k, v in SMALL.items() if k not in ("judged", "mark")} | {"steps": 600}
            )
        )


@pytest.mark.parametrize(
    "wrong, said",
    [({"noise": 0.6, "old": 0.5}, "no steps"), ({"rounds": 5}, "needs 100"), ({"signals": "none"}, "rewards")],
)
def test_settings_that_cannot_be_are_refused_before_the_work(tmp_path, wrong, said):
    with pytest.raises(SettingsError, match=said):
        ImproveConfig("Reacher", tmp_path / "out", **SMALL | wrong)
    assert not (tmp_path / "out").exists()


KILLED = (
    "round_00/world_model.training",
    "round_01/fresh/data.parts",
    "round_01/world_model.training",
    "round_01/judged/played",
)


@pytest.mark.slow
def test_killed_in_any_stage_it_ends_as_if_it_had_not_been(improved, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "procosm.agents.cli", "improve", "--env", "Reacher", "--out", str(out), *ARGUMENTS]
    for appears in (*KILLED, ""):
        process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        while appears and not (out / appears).exists():
            assert process.poll() is None, f"it ended before {appears} appeared"
            time.sleep(0.005)
        if appears:
            process.send_signal(signal.SIGKILL)
        assert process.wait() == (0 if not appears else -signal.SIGKILL)
    for name in ("round_01/world_model/dynamics.safetensors", "round_01/policy/policy.zip"):
        assert (out / name).read_bytes() == (improved / name).read_bytes()
    assert read_json(out / "improve.json") == read_json(improved / "improve.json")
