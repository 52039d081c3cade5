"""Figures show what there is to see, and nothing that cannot be."""

import matplotlib.pyplot as plt
import pytest

from procosm.benchmarks.dream.fidelity.figure import horizon_figure
from procosm.benchmarks.dream.transfer_figure import draw


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, still open."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    plt.close("all")


def fidelity_row(metric: str, horizon: int, value: float) -> dict:
    place = {"behaviour": "noise", "method": "dream", "metric": metric, "horizon": horizon}
    return place | {"value": value, "low": value, "high": value}


def test_a_metric_that_tells_nothing_apart_has_no_panel(tmp_path, drawn):
    rows = [fidelity_row("psnr_db", horizon, 30.0 - horizon) for horizon in (1, 2, 4)]
    rows += [fidelity_row("false_end", horizon, 0.0) for horizon in (1, 2, 4)] + [fidelity_row("frechet_video", 8, 5.0)]
    horizon_figure(rows, tmp_path / "a.png")
    assert [axis.get_title() for axis in drawn[0].axes] == ["PSNR, dB"]


@pytest.mark.parametrize(
    ("task", "low", "high", "shown"),
    [
        ("InvertedPendulum-v5", -300.0, 1400.0, (0.0, 1000.0)),
        ("Reacher-v5", -20.0, 3.0, (-20.0, 0.0)),
        ("HalfCheetah-v5", -300.0, 1400.0, (-300.0, 1400.0)),
    ],
)
def test_bars_end_where_returns_do(tmp_path, drawn, task, low, high, shown):
    row = {"metric": "return mean", "task": task, "value": -1.0 if task.startswith("Reacher") else 400.0, "n": 5}
    rows = [row | {"arm": arm, "real_steps": 1000, "low": low, "high": high} for arm in ("dream", "offline_sac")]
    draw(rows, tmp_path / "a.png")
    for bar in drawn[0].axes[0].collections:
        ends = bar.get_segments()[0][:, 1]
        assert (ends.min(), ends.max()) == pytest.approx(shown)
