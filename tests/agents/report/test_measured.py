"""Sections of measured results: there when measured, absent when not, and their words agree with their numbers."""

import gzip
import json
import re
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from procosm.agents.report.measured import MUJOCO, fidelity_section, measured_sections, ranking_section
from procosm.agents.report.report import write_report
from procosm.agents.report.result_files import read_result
from procosm.world_model.errors import CheckpointError
from tests.agents.report.test_report import Page

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def fidelity_rows(lost_at):
    rows = []
    for method, level in (("dream", 0.0), ("copy last frame", 10.0), ("shuffled actions", 12.0), ("linear", 8.0)):
        for horizon in (1, 2, 4, 8):
            error = 20.0 if method == "dream" and horizon >= lost_at else level + 1
            row = {"task": "T", "behaviour": "smooth noise", "method": method, "horizon": horizon, "n": 9, "seed": 0}
            for metric, value in (("state_nrmse", error), ("psnr_db", 40 - error)):
                rows.append(row | {"metric": metric, "value": value, "low": value - 1, "high": value + 1, "unit": "1"})
    return [*rows, {"metric": "judging steps", "task": "T", "value": 1234, "unit": "step", "n": 9}]


def write_ranking(path):
    """Six policies of two families, four episodes each: the dream promises twice what MuJoCo gives."""
    panel = [{"policy": f"p{i}", "family": ("ppo", "control")[i % 2]} for i in range(6)]
    lines = [f"p{i},{seed},{i + e},{2 * (i + e)}" for i in range(6) for seed, e in enumerate((-0.1, 0, 0, 0.1))]
    table = "\n".join(["policy,seed,truth_return,dream_return", *lines]).encode()
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(table))
    row = {"task": "InvertedPendulum-v5", "unit": "1", "n": 6, "low": 0.9, "high": 1.0, "panel": "all"}
    row |= {"horizon": "whole episode"}
    rows = [row | {"metric": "Pearson r", "value": 0.987}, row | {"metric": "MMRV", "value": 0.01, "low": 0.0}]
    rows.append(row | {"metric": "MMRV", "value": 0.5, "horizon": "first 32 steps"})
    path.write_text(json.dumps({"rows": rows, "details": {"panel": panel}}))
    return path


@pytest.mark.parametrize(("lost_at", "said"), [(4, "until step 4"), (99, "up to step 8, the last compared")])
def test_the_horizon_at_which_the_dream_is_lost_is_said(lost_at, said):
    section = fidelity_section({"rows": fidelity_rows(lost_at)}, Path("fidelity.json"))
    assert f"By the true state the dream is nearer the truth than its own first frame {said}" in section
    assert section.count("<svg") == 2 and "1,234 steps" in section
    assert not Page(section).open


def test_where_mujoco_itself_cannot_be_followed_is_said_and_not_drawn():
    rows = fidelity_rows(99)
    mine = {"method": MUJOCO, "metric": "state_nrmse", "behaviour": "smooth noise", "task": "T", "n": 9, "unit": "1"}
    rows += [mine | {"horizon": h, "value": v, "low": v, "high": v} for h, v in ((1, 0.5), (4, 11.5), (8, 90.0))]
    section = fidelity_section({"rows": rows}, Path("fidelity.json"))
    assert "MuJoCo itself, begun 10 % of a deviation off, is farther from the truth than that at step 4." in section
    path = re.search('points="([^"]*)" class="s6"', section).group(1)
    assert len(path.split()) == 2


def test_each_policy_is_a_point_and_the_agreement_is_said(tmp_path):
    path = write_ranking(tmp_path / "ranking.json")
    section = ranking_section(json.loads(path.read_text()), path)
    assert section.count("<circle") == 6 and "p5: 5.00 in MuJoCo, 10.00 in the dream" in section
    assert "r 0.987 (0.900 to 1), MMRV 0.010 (0 to 1)." in section
    assert not Page(section).open
    packed = path.with_suffix(".csv.gz")
    path.with_suffix(".csv").write_bytes(gzip.decompress(packed.read_bytes()))  # as it was written once
    packed.unlink()
    assert ranking_section(json.loads(path.read_text()), path) == section


def test_the_page_has_a_section_for_each_result_in_order_and_none_for_what_is_missing(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert measured_sections(run, "InvertedPendulum-v5") == []
    folder, results = run / "benchmarks", tmp_path / "results"
    folder.mkdir()
    results.mkdir()
    write_ranking(results / "ranking_invertedpendulum.json")
    (results / "ranking_other.json").write_text(json.dumps({"rows": [{"task": "Other-v5"}]}))
    (results / "fidelity_invertedpendulum.json").write_text("never read where the run has its own")
    (folder / "fidelity.json").write_text(json.dumps({"rows": fidelity_rows(4)}))
    row = {
        "metric": "AUROC <b>",
        "task": "T",
        "value": 0.93,
        "low": 0.9,
        "high": 0.95,
        "unit": "1",
        "signal": "latents",
    }
    reading = {"reading": "It knows & says so."}
    (folder / "trust.json").write_text(json.dumps({"rows": [row], "details": reading}))
    matplotlib.image.imsave(folder / "trust.png", np.zeros((4, 4, 3)))
    text = write_report(run, results).read_text()
    titles = re.findall("<h2>(.*?)</h2>", text)
    wanted = ["How far can it be followed?", "Would it choose the right policy?", "Does it know when it is lost?"]
    assert [title for title in titles if title in wanted] == wanted
    assert "It knows &amp; says so." in text and "AUROC &lt;b&gt;" in text and "0.900 to 0.950" in text
    page = Page(text)
    assert not page.open and all(address.startswith("data:") for address in page.addresses)
    assert sum(address.startswith("data:image/png") for address in page.addresses) == 2  # the sweep and this figure


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows[0].pop("high"), "an interval with one end"),
        (lambda rows: rows[0].update(low=99.0), "with an interval from 99"),
        (lambda rows: rows[0].update(horizon=8), "does not grow"),
        (lambda rows: rows[0].update(value=-1.0, low=-2.0), "state_nrmse is -1"),
        (lambda rows: rows.pop(0), "not stand at the same horizons"),
        (lambda rows: rows.clear(), "at least 1 item"),
    ],
)
def test_a_result_that_cannot_be_is_named_with_what_to_delete(finished_run, tmp_path, spoil, said):
    run = shutil.copytree(finished_run, tmp_path / "run")
    rows = fidelity_rows(4)
    spoil(rows)
    (run / "benchmarks").mkdir()
    (run / "benchmarks" / "fidelity.json").write_text(json.dumps({"rows": rows}))
    with pytest.raises(CheckpointError, match=rf"fidelity.json is damaged .*{said}.*delete .*fidelity.json"):
        write_report(run)


def test_every_result_that_ships_can_be_read():
    for path in sorted(RESULTS.glob("*.json")):
        question = path.stem.split("_")[0]
        assert read_result(question, path)["rows"]
        if question == "ranking":
            ranking_section(read_result(question, path), path)
