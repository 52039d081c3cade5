"""Where a result cannot be written, every command says so before it works, and leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from procosm.agents.judge.evaluate import EvaluateConfig
from procosm.agents.policy.train import PolicyConfig
from procosm.agents.report.report import ReportConfig
from procosm.agents.run import RunConfig, collect_stage, evaluate_stage, policy_stage, report_stage, run, train_stage
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.sparse.accelerator.command import AcceleratorConfig, accelerate
from procosm.sparse.errors import SparseError
from procosm.world_model.data.episodes import load_task
from procosm.world_model.errors import ProcosmError
from procosm.world_model.training.train import TrainConfig

COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "collect": lambda out, run: collect_stage(CollectConfig("InvertedPendulum", out, steps=400)),
    "train": lambda out, run: train_stage(TrainConfig(run / "data", out)),
    "train-policy": lambda out, run: policy_stage(PolicyConfig(run / "world_model", out)),
    "evaluate": lambda out, run: evaluate_stage(EvaluateConfig(out)),
    "report": lambda out, run: report_stage(ReportConfig(out)),
    "run": lambda out, run: run_whole(out),
    "accelerator": lambda out, run: accelerate(AcceleratorConfig(network="vgg-s", out=out)),
}


def run_whole(out: Path) -> Path:
    return run(RunConfig("InvertedPendulum", out, preset="debug", steps=400))


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def a_run(tmp_path) -> Path:
    """Folders and files as a run has them; nobody may get as far as to read them."""
    run = tmp_path / "a" / "run"
    for name in ("data/task.json", "world_model/config.json", "policy/policy.zip", "evaluation/metrics.json"):
        (run / name).parent.mkdir(parents=True)
        (run / name).write_text("{}")
    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_an_out_that_cannot_be_written_is_refused_before_the_work(a_run, tmp_path, name):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "round").symlink_to("round")
    before = everything(tmp_path)
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "round", Path("/proc/self/run")):
        with pytest.raises((ProcosmError, SparseError), match="cannot be written"):
            COMMANDS[name](out, a_run)
    assert everything(tmp_path) == before


def test_a_folder_of_something_else_is_refused_before_the_work(a_run, tmp_path):
    for part, theirs in (("data.parts", "notes.txt"), ("data", "photo.png"), ("world_model", "a"), ("policy", "b")):
        (tmp_path / part / part).mkdir(parents=True)
        (tmp_path / part / part / theirs).write_text("mine")
    before = everything(tmp_path)
    for call in (
        lambda: collect_stage(CollectConfig("InvertedPendulum", tmp_path / "data.parts", steps=400)),
        lambda: collect(CollectConfig("InvertedPendulum", tmp_path / "data", steps=400)),
        lambda: train_stage(TrainConfig(a_run / "data", a_run, preset="debug")),
        lambda: policy_stage(PolicyConfig(a_run / "world_model", a_run)),
        lambda: policy_stage(PolicyConfig(a_run / "world_model", a_run / "world_model")),
        lambda: run_whole(tmp_path / "world_model"),
        lambda: run_whole(tmp_path / "policy"),
    ):
        with pytest.raises(ProcosmError, match=r"is not of such a result|lie one in the other"):
            call()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("exists", [True, False])
def test_data_behind_a_link_are_written_where_it_leads(tmp_path, exists):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "data").symlink_to(tmp_path / "disk" / "data")
    if exists:
        (tmp_path / "disk" / "data").mkdir(parents=True)
    config = CollectConfig("InvertedPendulum", tmp_path / "run", steps=200, processes=1)
    for _ in range(2):  # the second finds it
        assert collect(config) == tmp_path / "run" / "data"
    assert load_task(tmp_path / "disk" / "data").id == "InvertedPendulum-v5"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["data"]
