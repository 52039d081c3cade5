"""Sections of measured results: there when measured, absent when not, and their words agree with their numbers."""

import json
import re
import shutil

import matplotlib.image
import numpy as np
import pytest

from procosm.agents.measured import fidelity_section, measured_sections, ranking_section
from procosm.agents.report import write_report
from tests.agents.test_report import Page


def fidelity_rows(lost_at):
    rows = []
    for method, level in (("dream", 0.0), ("copy last frame", 10.0), ("shuffled actions", 12.0), ("linear", 8.0)):
        for horizon in (1, 2, 4, 8):
            error = 20.0 if method == "dream" and horizon >= lost_at else level + 1
            row = {"task": "T", "behaviour": "smooth noise", "method": method, "horizon": horizon, "n": 9, "seed": 0}
            for metric, value in (("state_nrmse", error), ("psnr_db", 40 - error)):
                rows.append(row | {"metric": metric, "value": value, "low": value - 1, "high": value + 1, "unit": "1"})
    return [*rows, {"metric": "judging steps", "task": "T", "value": 1234, "unit": "step", "n": 9}]


def ranking():
    policies = [{"name": f"p{i}", "group": "half"[: 1 + i % 2], "real": i, "dreamed": 2.0 * i} for i in range(6)]
    row = {"task": "T", "unit": "1", "n": 6, "low": 0.9, "high": 1.0}
    rows = [row | {"metric": "pearson", "value": 0.987}, row | {"metric": "mmrv", "value": 0.01, "low": 0.0}]
    return {"rows": rows, "details": {"policies": policies}}


@pytest.mark.parametrize(("lost_at", "said"), [(4, "until step 4"), (99, "up to step 8, the last compared")])
def test_the_horizon_at_which_the_dream_is_lost_is_said(lost_at, said):
    section = fidelity_section({"rows": fidelity_rows(lost_at)})
    assert f"By the true state the dream is nearer the truth than its own first frame {said}" in section
    assert section.count("<svg") == 2 and "1,234 steps" in section
    assert not Page(section).open


def test_each_policy_is_a_point_and_the_agreement_is_said():
    section = ranking_section(ranking())
    assert section.count("<circle") == 6 and "p5: 5.00 in MuJoCo, 10.00 in the dream" in section
    assert "r 0.987 (0.900 to 1)" in section and "MMRV 0.010 (0 to 1)" in section
    assert not Page(section).open


def test_the_page_has_a_section_for_each_result_in_order_and_none_for_what_is_missing(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    assert measured_sections(run) == []
    folder = run / "benchmarks"
    folder.mkdir()
    (folder / "ranking.json").write_text(json.dumps(ranking()))
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
    text = write_report(run).read_text()
    titles = re.findall("<h2>(.*?)</h2>", text)
    wanted = ["How far can it be followed?", "Would it choose the right policy?", "Does it know when it is lost?"]
    assert [title for title in titles if title in wanted] == wanted
    assert "It knows &amp; says so." in text and "AUROC &lt;b&gt;" in text and "0.900 to 0.950" in text
    page = Page(text)
    assert not page.open and all(address.startswith("data:") for address in page.addresses)
    assert sum(address.startswith("data:image/png") for address in page.addresses) == 2  # the sweep and this figure
