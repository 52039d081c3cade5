"""A stage is done once, remembers with what, and says what differs."""

import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from procosm.agents.stages import StageError, fingerprint, record_path, run_once, stage_seconds, write_csv
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.folders import check_out


@dataclass(frozen=True)
class Settings:
    out: Path
    steps: int = 3
    shape: tuple[int, ...] = (1, 2)
    processes: int = 1


class Work:
    """Counts how often it is asked to work, and fails the first ``failures`` times."""

    def __init__(self, failures: int = 0) -> None:
        self.calls, self.failures = 0, failures

    def __call__(self, config: Settings) -> Path:
        self.calls += 1
        config.out.mkdir(exist_ok=True)
        if self.calls <= self.failures:
            (config.out / "half").write_text("done")
            raise KeyboardInterrupt
        return config.out


def test_a_finished_stage_is_not_done_again(tmp_path):
    work, config = Work(), Settings(tmp_path / "data")
    assert [run_once(config.out, config, work, {"a": "1"}) for _ in range(2)] == [config.out] * 2
    assert work.calls == 1


@dataclass(frozen=True)
class Cameras:
    out: Path
    camera: tuple[str, ...] = ()


@pytest.mark.parametrize(("earlier", "now"), [("", ()), ("hand", ("hand",))])
def test_what_may_now_be_given_several_times_is_the_same_given_once(tmp_path, earlier, now):
    """A version that took one camera recorded its name as a text."""
    work, config = Work(), Cameras(tmp_path / "data", now)
    run_once(config.out, config, work)
    record = json.loads(record_path(config.out).read_text())
    record["config"]["camera"] = earlier
    record_path(config.out).write_text(json.dumps(record))
    run_once(config.out, config, work)
    assert work.calls == 1
    with pytest.raises(StageError, match="camera was"):
        run_once(config.out, Cameras(config.out, ("foot",)), work)


def test_an_interrupted_stage_goes_on_and_its_time_adds_up(tmp_path):
    work, config = Work(failures=1), Settings(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        run_once(config.out, config, work)
    assert not json.loads(record_path(config.out).read_text())["finished"]
    run_once(config.out, config, work)
    record = json.loads(record_path(config.out).read_text())
    assert record["finished"] and record["sessions"] == 2
    assert stage_seconds(tmp_path) == {"data": record["seconds"]}


@pytest.mark.parametrize("failure", [StageError("no such dataset"), RuntimeError("no CUDA"), KeyboardInterrupt()])
def test_a_stage_that_failed_before_it_made_anything_leaves_nothing(tmp_path, failure):
    def fail(config: Settings) -> Path:
        config.out.mkdir()
        raise failure

    config = Settings(tmp_path / "run" / "data")
    with pytest.raises(type(failure)):
        run_once(config.out, config, fail, {"dataset": "none"})
    assert not list(tmp_path.iterdir())
    config.out.parent.mkdir()
    other = Settings(config.out, steps=4)
    assert run_once(config.out, other, Work(), {"dataset": "1"}) == config.out  # with what was meant


def test_a_stage_killed_before_it_made_anything_binds_nobody(tmp_path):
    config = Settings(tmp_path / "data", steps=7)
    run_once(config.out, config, Work(failures=0))
    record = json.loads(record_path(config.out).read_text()) | {"finished": False}
    record_path(config.out).write_text(json.dumps(record))
    assert run_once(config.out, Settings(config.out), Work()) == config.out
    assert json.loads(record_path(config.out).read_text())["config"]["steps"] == 3


def test_work_of_a_neighbour_whose_name_begins_alike_binds_nobody(tmp_path):
    run_once(tmp_path / "policy", Settings(tmp_path / "policy"), Work(failures=0))
    (tmp_path / "policy-2").mkdir()
    (tmp_path / "policy-2" / "training.json").write_text("{}")
    record = record_path(tmp_path / "policy")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"finished": False}))
    run_once(tmp_path / "policy", Settings(tmp_path / "policy", steps=9), Work(), saves="policy/training.*")


@pytest.mark.parametrize("text", ["[]", "{}", '{"config": [], "inputs": {}}', "3", "{"])
def test_a_damaged_record_is_named_with_what_to_delete(tmp_path, text):
    config = Settings(tmp_path / "data")
    run_once(config.out, config, Work())
    record_path(config.out).write_text(text)
    with pytest.raises(CheckpointError, match=r"data\.json"):
        run_once(config.out, config, Work())


def test_a_deleted_result_is_made_again(tmp_path):
    work, config = Work(), Settings(tmp_path / "data")
    run_once(config.out, config, work)
    config.out.rmdir()
    run_once(config.out, config, work)
    assert work.calls == 2


def test_other_settings_or_inputs_are_named_and_nothing_is_done(tmp_path):
    work, config = Work(), Settings(tmp_path / "data")
    run_once(config.out, config, work, {"dataset": "1"})
    with pytest.raises(StageError, match="steps was 3, now 4"):
        run_once(config.out, Settings(config.out, steps=4), work, {"dataset": "1"})
    with pytest.raises(StageError, match=r"the dataset it was made from has changed.*delete .*data"):
        run_once(config.out, config, work, {"dataset": "2"})
    assert work.calls == 1


@dataclass(frozen=True)
class Judged:
    run: Path
    seed: int = 0


def test_a_command_is_told_of_no_option_that_it_lacks(tmp_path):
    def judge(config: Judged) -> Path:
        (config.run / "evaluation").mkdir()
        return config.run / "evaluation"

    run_once(tmp_path / "evaluation", Judged(tmp_path), judge)
    with pytest.raises(StageError, match="seed was 0, now 1") as refused:
        run_once(tmp_path / "evaluation", Judged(tmp_path, seed=1), judge)
    assert "--" not in str(refused.value)
    (tmp_path / "run").write_text("a file")
    for where in (tmp_path / "run", tmp_path / "run" / "evaluation"):
        with pytest.raises(ProcosmError, match="cannot be written") as refused:
            check_out(where)
        assert "--" not in str(refused.value)


def test_a_moved_run_and_another_number_of_processes_are_the_same_stage(tmp_path):
    run_once(tmp_path / "a" / "data", Settings(_made(tmp_path / "a") / "data"), Work())
    (tmp_path / "a").rename(tmp_path / "b")
    work = Work()
    run_once(tmp_path / "b" / "data", Settings(tmp_path / "b" / "data", processes=4), work)
    assert work.calls == 0


def test_a_record_from_before_a_field_existed_stands_for_its_default(tmp_path):
    work, config = Work(), Settings(tmp_path / "data")
    run_once(config.out, config, work)
    path = record_path(config.out)
    record = json.loads(path.read_text())
    del record["config"]["steps"]
    path.write_text(json.dumps(record))
    assert run_once(config.out, config, work) == config.out and work.calls == 1
    with pytest.raises(StageError, match="steps was 3, now 4"):
        run_once(config.out, Settings(config.out, steps=4), work)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_fingerprint_follows_names_and_contents_of_chosen_files_only(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "a.log").write_bytes(b"x")
    first = fingerprint(tmp_path, (".bin",))
    (tmp_path / "a.log").write_bytes(b"y")
    assert fingerprint(tmp_path, (".bin",)) == first
    (tmp_path / "a.bin").write_bytes(b"2")
    second = fingerprint(tmp_path, (".bin",))
    (tmp_path / "a.bin").rename(tmp_path / "b.bin")
    assert len({first, second, fingerprint(tmp_path, (".bin",))}) == 3


def test_csv_holds_the_rows_under_their_keys(tmp_path):
    write_csv(tmp_path / "rows.csv", [{"a": 1, "b": "x,y"}, {"a": 2.5, "b": ""}])
    assert (tmp_path / "rows.csv").read_text() == 'a,b\n1,"x,y"\n2.5,\n'
    write_csv(tmp_path / "rows.csv.gz", [{"a": 1, "b": "x,y"}, {"a": 2.5, "b": ""}])
    assert gzip.decompress((tmp_path / "rows.csv.gz").read_bytes()) == (tmp_path / "rows.csv").read_bytes()


def test_a_result_that_is_not_whole_any_more_is_made_again(tmp_path):
    def look(folder: Path) -> None:
        if not (folder / "part").exists():
            raise ProcosmError("the part is missing")

    def work(config: Settings) -> Path:
        config.out.mkdir(exist_ok=True)
        (config.out / "part").write_text("made")
        return config.out

    config = Settings(tmp_path / "data")
    run_once(config.out, config, work, look=look)
    (config.out / "part").unlink()
    run_once(config.out, config, work, look=look)
    assert (config.out / "part").exists() and stage_seconds(tmp_path).keys() == {"data"}


def test_what_is_uncompared_may_differ(tmp_path):
    work, config = Work(), Settings(tmp_path / "data")
    run_once(config.out, config, work)
    run_once(config.out, Settings(config.out, steps=4), work, uncompared={"steps"})
    assert work.calls == 1


HOLD = """
import sys, time
from pathlib import Path
from procosm.world_model.lock import lock
with lock(Path(sys.argv[1]), Path("data")):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_at_a_stage_is_told_who_is_at_it_and_death_frees_it(tmp_path):
    config = Settings(tmp_path / "data")
    path = record_path(config.out).with_suffix(".lock")
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(ProcosmError, match=rf"being made by process {process.pid} on \S+ since 20\d\d-.*\(-c "):
            run_once(config.out, config, Work())
        assert not config.out.exists() and not record_path(config.out).exists()
        process.kill()
    assert path.exists()  # the file stays, its lock does not
    run_once(config.out, config, Work())
    assert config.out.exists() and not path.exists()
