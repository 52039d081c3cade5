"""A whole run in miniature, without a browser: every row is there, and the pace that was asked for is kept."""

import json

from procosm.benchmarks.machine import play_speed


def test_a_short_run_writes_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr(play_speed, "find_chromium", lambda: None)
    config = play_speed.PlaySpeedConfig(seconds=0.5, steps=3, out=tmp_path)
    result = json.loads(play_speed.play_speed(config).read_text())
    assert result["details"]["browser"].startswith("not measured")
    times = [row for row in result["rows"] if row["unit"] == "ms"]
    assert len({row["metric"] for row in times}) == 4
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in times)
    rates = {row["asked_for"]: row["value"] for row in result["rows"] if row["unit"] == "pictures/s"}
    assert set(rates) == {25.0, 200.0} and all(value > 0 for value in rates.values())
    assert rates[25.0] < 25.0 * 1.5, "real time is a limit"
