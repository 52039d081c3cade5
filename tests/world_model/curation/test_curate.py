"""From logs to shards: what is planted is dropped and named; killed anywhere, nothing is lost or doubled."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from procosm.world_model.curation.curate import CurateConfig, _check_settings, collect, curate
from procosm.world_model.curation.engine import Engine
from procosm.world_model.curation.records import LogRecord, Manifest
from procosm.world_model.curation.stages import Piece
from procosm.world_model.data.logs import LogsConfig, open_logs
from procosm.world_model.data.shards import check_shard, read_index
from procosm.world_model.errors import ProcosmError
from tests.world_model.curation import scenes

KEPT, CUT_OFF = 12, 7


def config(logs, out, **changes) -> CurateConfig:
    settings = {"data": logs, "out": out, "clips_per_shard": 4, "action_logs": 0, **changes}
    return CurateConfig(**settings)


@pytest.fixture(scope="module")
def curated(logs, tmp_path_factory):
    return curate(config(logs, tmp_path_factory.mktemp("curated") / "out"))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")} | {
        "index": (folder / "index.json").read_bytes()
    }


def test_what_is_planted_is_dropped_and_named(curated):
    summary = json.loads((curated / "curation.json").read_text())
    assert summary["dropped"] == {"frozen": 1, "duplicate": 1} and summary["kept"] == KEPT
    assert summary["logs"] == 13 and summary["held_out"] == 1 and summary["not_judged_by_actions"] == KEPT + 2
    page = (curated / "curation.html").read_text()
    assert page.count("<img") == 6 + 2 and "duplicate of episode_0-000000-000040" in page and "http" not in page


def test_shards_hold_every_kept_clip_once(curated):
    _, index = read_index(curated)
    for shard in index["shards"]:
        check_shard(curated, shard)
    names = open_logs(LogsConfig(data=curated)).names
    assert len(names) == len(set(names)) == KEPT == index["clips"]


def test_the_same_command_again_does_nothing_anew(curated, logs):
    before = {path: path.stat().st_mtime_ns for path in curated.glob("*.tar")}
    curate(config(logs, curated))
    assert before == {path: path.stat().st_mtime_ns for path in curated.glob("*.tar")}


def test_half_a_line_of_the_manifest_and_a_lost_shard_are_made_again(curated, logs, tmp_path):
    out = curate(config(logs, tmp_path / "out"))
    manifest = out / "manifest" / "logs.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:CUT_OFF]) + lines[CUT_OFF][: len(lines[CUT_OFF]) // 2])
    next(out.glob("*.tar")).unlink()
    assert len(Manifest(manifest).done) == CUT_OFF
    curate(config(logs, out))
    assert contents(out) == contents(curated)


def test_other_settings_are_named_and_nothing_is_overwritten(curated, logs):
    before = contents(curated)
    with pytest.raises(ProcosmError, match=r"seed was 0 and is 5"):
        curate(config(logs, curated, seed=5))
    assert contents(curated) == before


@pytest.mark.parametrize("begun", ["absolute", "relative", "by an earlier version"])
def test_the_same_logs_by_another_path_are_the_same_settings(tmp_path, monkeypatch, begun):
    """Of settings alone; ``logs`` is counted, not read."""
    monkeypatch.chdir(tmp_path)
    here, there, path = Path("logs"), tmp_path / "logs", tmp_path / "settings.json"
    first, second = (there, here) if begun == "absolute" else (here, there)
    counted = SimpleNamespace(names=["a", "b"])
    _check_settings(path, config(first, tmp_path / "out"), counted)
    if begun == "by an earlier version":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "logs"}))
    monkeypatch.chdir(tmp_path if begun != "relative" else "/")
    _check_settings(path, config(second, tmp_path / "out"), counted)
    with pytest.raises(ProcosmError, match=r"data was .*logs and is .*other"):
        _check_settings(path, config(tmp_path / "other", tmp_path / "out"), counted)


def test_archives_of_somebody_else_are_not_cleared_away(logs, tmp_path):
    (tmp_path / "backup.tar").write_bytes(b"years of work")
    with pytest.raises(ProcosmError, match=r"holds backup\.tar"):
        curate(config(logs, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_logs_that_cannot_be_read_are_named_and_the_rest_goes_on(tmp_path):
    import numpy as np

    for seed in range(4):
        e = scenes.episode(seed, 20)
        np.savez(tmp_path / f"log{seed}.npz", frames=e.frames, actions=e.actions)
    path = tmp_path / "log2.npz"
    path.write_bytes(path.read_bytes()[:2000])
    out = curate(config(tmp_path, tmp_path.parent / "curated-archives", fps=20.0))
    summary = json.loads((out / "curation.json").read_text())
    assert list(summary["refused"]) == ["log2"] and "log2.npz is damaged" in summary["refused"]["log2"]
    assert summary["kept"] == 3 and "log2.npz is damaged" in (out / "curation.html").read_text()


def test_a_log_is_recorded_once_its_last_piece_has_come():
    pieces = [Piece(LogRecord(name), count) for name, count in (("a", 2), ("b", 1), ("c", 3), ("a", 2), ("c", 3))]
    assert [record.source for record in collect(pieces)] == ["b", "a"]


PROGRAM = """
import sys
from pathlib import Path
from procosm.world_model.curation.curate import CurateConfig, curate
if __name__ == "__main__":
    curate(CurateConfig(data=Path(sys.argv[1]), out=Path(sys.argv[2]), clips_per_shard=4, action_logs=0,
                        workers=int(sys.argv[3])))
"""


def start(logs, out, workers: int) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(logs), str(out), str(workers)], env=environment, stderr=subprocess.PIPE
    )


def kill_once_begun(process: subprocess.Popen, manifest) -> None:
    deadline = time.monotonic() + 120
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_driver_killed_on_the_way_loses_nothing_and_doubles_nothing(curated, logs, tmp_path):
    process = start(logs, tmp_path / "out", workers=1)
    kill_once_begun(process, tmp_path / "out" / "manifest" / "logs.jsonl")
    assert curate(config(logs, tmp_path / "out")) and contents(tmp_path / "out") == contents(curated)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ray_makes_the_same_shards_and_outlives_a_killed_worker(curated, logs, tmp_path):
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "out"
    process = start(logs, out, workers=2)
    manifest, deadline = out / "manifest" / "logs.jsonl", time.monotonic() + 240
    killed = []
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(psutil.Error):  # processes that end while they are looked at
            for each in (
                psutil.Process(process.pid).children(recursive=True) if manifest.exists() and not killed else ()
            ):
                said = " ".join(each.cmdline())
                if re.match(r"ray::(Flat)?Map", said):  # at a stage, and none of Ray's own, without which no node lives
                    each.kill()
                    killed.append(each.pid)
                    break
        time.sleep(0.05)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
    assert killed, "no worker was at work"
    assert contents(out) == contents(curated)


def test_more_than_one_worker_or_an_address_means_ray():
    assert not Engine().on_ray and Engine(2).on_ray and Engine(1, "auto").on_ray
    assert replace(Engine(), workers=3)._blocks(100) == 24
