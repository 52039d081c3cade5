"""Episodes judged again give the numbers of their CSV, and no others."""

import csv
import gzip
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from procosm.benchmarks.dream.ranking_again import AgainConfig, ranking_again, training_of
from procosm.benchmarks.record import RESULTS


def test_a_committed_ranking_is_what_its_episodes_say(tmp_path):
    for name in ("ranking_reacher.json", "ranking_reacher.csv.gz"):
        shutil.copy(RESULTS / name, tmp_path / name)
    before = json.loads((tmp_path / "ranking_reacher.json").read_text())
    after = json.loads(ranking_again(AgainConfig(tmp_path / "ranking_reacher.json")).read_text())
    assert after["rows"] == before["rows"], "committed rows are not what this command writes"
    assert {key: after[key] for key in ("commit", "date")} == {key: before[key] for key in ("commit", "date")}
    returns: dict[str, list[tuple[float, float]]] = {}
    lines = gzip.decompress((tmp_path / "ranking_reacher.csv.gz").read_bytes()).decode().splitlines()
    for line in csv.DictReader(lines):
        returns.setdefault(line["policy"], []).append((float(line["truth_return"]), float(line["dream_return"])))
    means = {name: np.mean(pairs, axis=0) for name, pairs in returns.items()}
    rows = {
        row["panel"]: row for row in after["rows"] if row["metric"] == "Pearson r" and row["horizon"] == "whole episode"
    }
    assert rows["all"]["value"] == pytest.approx(stats.pearsonr(*np.array(list(means.values())).T)[0])
    kept = [mean for name, mean in means.items() if not name.startswith("dream") or "eps" in name]
    expected = stats.pearsonr(*np.array(kept).T)[0]
    assert rows["without the dream-trained"]["value"] == pytest.approx(expected)
    assert np.isfinite([row["value"] for row in after["rows"]]).all()
    assert (tmp_path / "figures/ranking_reacher.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("policy", "training"),
    [
        ("sac-s0-4", "sac-s0"),
        ("sac-s0-4 eps 0.1", "sac-s0"),
        ("dream seed7 eps 0.5", "dream seed7"),
        ("dream-trusting-s0", "dream-trusting-s0"),
        ("smooth noise", "smooth noise"),
    ],
)
def test_what_comes_of_one_training_is_told_by_its_name(policy, training):
    assert training_of(policy) == training
