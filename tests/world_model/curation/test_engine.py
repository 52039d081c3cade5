"""Two processes make of the same recordings what one makes, in the same order; what is malformed is named in both."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from procosm.world_model.curation.engine import Engine
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.errors import ProcosmError
from tests.world_model.curation import scenes

PROGRAM = """
import json, sys, time
from pathlib import Path
from procosm.world_model.data.ingest import ExportConfig, IngestConfig, export, ingest
from procosm.world_model.curation.engine import Engine
from procosm.world_model.errors import ProcosmError
from procosm.world_model.guardrails.guard import GuardConfig, guard

def slow_first(item):
    time.sleep(1.5 * (item == 0))
    return [item, -item]

if __name__ == "__main__":
    logs, out, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    data = ingest(IngestConfig(data=logs, out=out / "run", fps=20.0, workers=workers))
    export(ExportConfig(data=data, out=out / "lerobot", workers=workers))
    export(ExportConfig(data=data, out=out / "minari", to="minari", workers=workers))
    try:
        guard(GuardConfig(data=logs, fps=20.0, out=out / "guard", workers=workers))
    except ProcosmError as error:
        print("GUARD", error)
    print("ORDER", json.dumps(list(Engine(workers).stream(range(6), slow_first, in_order=True))))
"""
RECORDINGS, DAMAGED = 6, 2


def write_logs(folder: Path) -> Path:
    """NumPy archives: one cut off, one whose picture stands still, one that shows a face."""
    from skimage import data

    folder.mkdir()
    for seed in range(RECORDINGS):
        episode = scenes.episode(seed, 40 + seed)
        frames = episode.frames.repeat(2, 1).repeat(2, 2)
        if seed == 3:
            frames[4:] = frames[4]
        if seed == 4:
            frames[:, :96, :96] = data.astronaut()[20:212:2, 130:322:2]
        np.savez(folder / f"log{seed}.npz", frames=frames, actions=episode.actions)
    path = folder / f"log{DAMAGED}.npz"
    path.write_bytes(path.read_bytes()[:2000])
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_make_what_one_makes(tmp_path):
    pytest.importorskip("ray")
    logs, said = write_logs(tmp_path / "logs"), {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(logs), str(out), str(workers)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr[-3000:]
        assert f"left out: log{DAMAGED}.npz is damaged" in run.stderr
        said[workers] = [line.replace(str(out), "OUT") for line in run.stdout.splitlines()]
    assert said[1] == said[2] and "5 of 6 recordings are in the dataset" in said[1]
    assert "ORDER [0, 0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5]" in said[1]
    one, two = (load_episodes(tmp_path / workers / "run" / "data") for workers in "12")
    for first, second in zip(one, two, strict=True):
        assert first.kind == second.kind
        np.testing.assert_array_equal(first.frames, second.frames)
        np.testing.assert_array_equal(first.actions, second.actions)
    for name in ("lerobot", "guard"):
        assert contents(tmp_path / "1" / name) == contents(tmp_path / "2" / name)
    assert load_episodes(tmp_path / "2" / "minari")[0].text == load_episodes(tmp_path / "1" / "minari")[0].text
    judged = json.loads((tmp_path / "2" / "guard" / "guard.json").read_text())["recordings"]
    assert [name for name, each in judged.items() if not each["passed"]] == [f"log{DAMAGED}", "log3"]
    assert judged["log4"]["faces"] and (tmp_path / "2" / "guard" / "log4.mp4").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_process_holds_one_item_at_a_time():
    events = []

    def made(item):
        events.append(f"made {item}")
        return [item]

    for result in Engine().stream(range(3), made, in_order=True):
        events.append(f"used {result}")
    assert events == ["made 0", "used 0", "made 1", "used 1", "made 2", "used 2"]


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ProcosmError, match=r"pip install 'procosm\[curation\]'"):
        list(Engine(2).stream([1], lambda item: [item]))
