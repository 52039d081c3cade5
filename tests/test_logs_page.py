"""docs/logs.md: its blocks run, one after another, in an empty folder."""

import re
import shlex
from pathlib import Path

import pytest

from procosm.agents.cli import main
from procosm.world_model.data.episodes import load_episodes, load_task

PAGE = Path(__file__).parents[1] / "docs" / "logs.md"


def test_the_page_writes_the_logs_that_it_tells_of(tmp_path, monkeypatch):
    shell, code = re.findall(r"```(?:bash|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([*shlex.split(shell)[1:], "--processes", "1"])
    assert end.value.code == 0
    exec(compile(code, str(PAGE), "exec"), {})
    two, arm = (load_task(tmp_path / "runs" / name / "data") for name in ("two", "arm-log"))
    assert [view.name for view in two.views] == ["front", "side"] and set(two.signals) == {"reward", "termination"}
    assert arm.twin is None and set(arm.signals) == {"proprio"}
    assert {episode.text for episode in load_episodes(tmp_path / "runs" / "arm-log" / "data")} == {"pick up the cup"}
