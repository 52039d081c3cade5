"""Bars fit the terminal at every width, and a log file gets a line now and then."""

import io
import re
import sys
import time

import pytest

from procosm.world_model import progress
from procosm.world_model.progress import Progress

METRICS = {"loss": 2.6808, "picture": 1.9037, "state": 0.1797, "bend": 0.8355, "mse": 0.1010}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@pytest.mark.parametrize(("name", "unit", "total"), [("tokenizer", "step", 2400), ("MuJoCo, trained", "episode", 100)])
def test_a_bar_fits_its_terminal_and_is_a_bar(monkeypatch, columns, name, unit, total):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (columns, 24))
    with Progress(total, name, unit) as bar:
        bar.show(METRICS)
        bar.update(total // 2)
        bar.refresh()
    last = screen.getvalue().split("\r")[-1].rstrip("\n")
    assert len(last) <= columns and f"{total // 2}/{total} {unit}" in last
    drawn = re.search(r"\|(.*)\|", last)
    assert drawn and len(drawn[1]) >= (10 if columns >= 80 else 5)
    assert ("loss 2.6808" in last) == (columns >= 80)
    assert ("mse 0.1010" in last) == (columns == 200)


def test_a_log_file_gets_whole_lines(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    with Progress(3, "collect", "step") as bar:
        for _ in range(3):
            time.sleep(0.02)
            bar.update()
    lines = file.getvalue().splitlines()
    assert "\r" not in file.getvalue() and all(line.startswith("collect") for line in lines)
    assert "3/3 step" in lines[-1] and all(len(line) <= 100 for line in lines)
