"""A save loses nothing: killed before any of its file operations, the old checkpoint opens or the new one does."""

import dataclasses
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from procosm.envs.dreams.weights import SHIPPED, find_checkpoint
from procosm.world_model import checkpoint, folders
from procosm.world_model.checkpoint import WorldModel, load, save
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.model import Practice
from procosm.world_model.training.train import TrainConfig, check_outs
from tests.conftest import restless_model

OPERATIONS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a child that dies before its ``number``-th file operation; False where it had fewer."""
    child = os.fork()
    if not child:
        signal.alarm(60)
        count = 0

        def hook(event: str, arguments: tuple) -> None:
            nonlocal count
            reads = event == "open" and arguments[1] in ("r", "rb")
            count += event in OPERATIONS and not reads
            if count == number:
                os._exit(99)

        sys.addaudithook(hook)
        work()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 99)
    return status == 99


@pytest.fixture(scope="module")
def models(tiny_checkpoint) -> list[WorldModel]:
    """Three that differ in every file; the second has no trust, and nothing to practise from."""
    task = load(tiny_checkpoint).task
    made = [restless_model(task, seed) for seed in range(3)]
    return [
        dataclasses.replace(
            m,
            provenance={"number": n},
            trust=None if n == 1 else {"number": torch.tensor([float(n)])},
            practice=None if n == 1 else Practice(m.starts[n:].half(), m.starts.new_full((len(m.starts) - n, 2, 1), n)),
        )
        for n, m in enumerate(made)
    ]


@pytest.fixture
def quick(monkeypatch) -> None:
    """Without waiting for the disk: what a killed process has written stays written."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def which(folder: Path, models: list[WorldModel]) -> int:
    """The number of the model in ``folder``, all of whose parts must be of one save."""
    found = load(find_checkpoint(folder, None))
    number = found.provenance["number"]
    model = models[number]
    assert (found.trust is None) == (model.trust is None) and (found.trust or {}).get("number", number) == number
    assert (found.practice is None) == (model.practice is None)
    if found.practice is not None and model.practice is not None:
        assert torch.equal(found.practice.latents, model.practice.latents)
        assert torch.equal(found.practice.actions, model.practice.actions)
    assert torch.equal(found.start_frames, model.start_frames) and torch.equal(found.starts, model.starts)
    for ours, theirs in ((found.tokenizer, model.tokenizer), (found.dynamics, model.dynamics)):
        expected = theirs.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())
    return number


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_before_any_file_operation_one_checkpoint_opens(models, tmp_path, quick):
    place, folder = tmp_path / "place", tmp_path / "link"
    place.mkdir()
    folder.symlink_to(place)
    inode = place.stat().st_ino  # a mount point cannot be renamed, so nothing may depend on that
    seen, killed = [], True
    while killed:
        old, new = len(seen) % 2, 1 + len(seen) % 2  # the trust of the first must not stay with the second
        save(folder, models[old])  # over what the last kill left
        assert names(place) == checkpoint.FILES
        killed = killed_at(len(seen) + 1, partial(save, folder, models[new]))
        checkpoint.check_out(folder)  # what was left does not count as somebody else's
        seen.append(which(folder, models) == new)
        assert seen[-1] or which(folder, models) == old
    assert seen == sorted(seen) and len(seen) > 20  # once the new one is there it stays
    assert folder.is_symlink() and place.stat().st_ino == inode


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_first_save_that_was_killed_is_whole_or_absent(models, tmp_path, quick):
    number, opened = 1, 0
    while killed_at(number, partial(save, tmp_path / str(number), models[0])):
        try:
            assert which(tmp_path / str(number), models) == 0
            opened += 1
        except CheckpointError:
            assert not opened  # once it is there it stays
        number += 1
    assert opened


def test_a_save_that_fails_leaves_the_old_one_and_no_rubbish(models, tmp_path):
    folder = save(tmp_path / "out", models[0])
    broken = dataclasses.replace(models[1], metrics={"not": object()})
    for out in (folder, tmp_path / "new"):
        with pytest.raises(TypeError):
            save(out, broken)
    assert which(folder, models) == 0 and names(folder) == checkpoint.FILES
    assert names(tmp_path) == {"out"}


def test_a_checkpoint_saved_while_it_is_read_is_read_again(models, tmp_path, monkeypatch):
    folder, read, saves = save(tmp_path / "out", models[0]), checkpoint.read_weights, [models[2]]

    def slow(path: Path, *rest: Any) -> dict[str, torch.Tensor]:
        if path.name == "dynamics.safetensors" and saves:
            save(folder, saves.pop())
        return read(path, *rest)

    monkeypatch.setattr(checkpoint, "read_weights", slow)
    assert which(folder, models) == 2


@pytest.mark.parametrize("name", ["InvertedPendulum", "Reacher"])
def test_what_ships_opens_unchanged(name, tmp_path):
    shipped, copied = load(SHIPPED / name), load(save(tmp_path / "copy", load(SHIPPED / name)))
    assert shipped.trust is not None and copied.trust is not None
    for ours, theirs in ((copied.tokenizer, shipped.tokenizer), (copied.dynamics, shipped.dynamics)):
        expected = theirs.state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.state_dict().items())


def refused(out: Path, data: Path, match: str) -> None:
    before = sorted(map(str, out.parent.rglob("*"))) if out.parent.exists() else None
    with pytest.raises(ProcosmError, match=match):
        check_outs(TrainConfig(data, out))
    assert before == (sorted(map(str, out.parent.rglob("*"))) if before is not None else None)


def test_an_out_that_holds_anything_else_is_refused(tmp_path, tiny_checkpoint):
    data, run = tmp_path / "apart" / "data", tmp_path / "run"
    for name in ("data", "world_model.training"):
        (run / name).mkdir(parents=True)
    refused(run, data, r"holds data, world_model.training")
    notes = shutil.copytree(tiny_checkpoint, tmp_path / "noted")
    (notes / "notes.txt").write_text("mine")
    refused(notes, data, "holds notes.txt")
    with pytest.raises(ProcosmError, match=r"notes.txt"):
        save(notes, load(tiny_checkpoint))
    (tmp_path / "theirs").mkdir()
    for name, text in (("config.json", '{"architectures": ["Bert"]}'), ("metrics.json", "{}")):
        (tmp_path / "theirs" / name).write_text(text)
        refused(tmp_path / "theirs", data, f"{name} is not of a checkpoint")
        (tmp_path / "theirs" / name).unlink()
    (tmp_path / "theirs" / "config.json").mkdir()
    refused(tmp_path / "theirs", data, "config.json is not of a checkpoint")


def test_an_out_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    data = tmp_path / "apart" / "data"
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", data, "is a file")
    refused(tmp_path / "file" / "below", data, "is a file")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    refused(tmp_path / "round", data, "cannot be written")
    refused(Path("/proc/self/out"), data, "cannot be written")
    refused(data, data, "lie one in the other")
    refused(data / "world_model", data, "lie one in the other")
    data.mkdir(parents=True)
    refused(data.parent, data, "lie one in the other")
    monkeypatch.chdir(data)
    refused(Path(), data, "lie one in the other")
    refused(Path(".."), data, "lie one in the other")
    (tmp_path / "there").symlink_to(data)
    refused(tmp_path / "there", data, "lie one in the other")


def test_an_out_that_can_be_written_is_taken_as_it_is(tmp_path, models, monkeypatch):
    data = tmp_path / "apart" / "data"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "lost+found").mkdir()  # as at the top of a mounted disk
    (tmp_path / "dangling").symlink_to(tmp_path / "not" / "yet")
    monkeypatch.chdir(tmp_path / "empty")
    for out in (tmp_path / "empty", tmp_path / "dangling", tmp_path / "deep" / "down", Path(), Path("../up/out")):
        check_outs(TrainConfig(data, out))
        save(out, models[0])
        assert which(out, models) == 0
    assert (tmp_path / "dangling").is_symlink() and (tmp_path / "not" / "yet" / "config.json").exists()
    assert folders.named(Path()).name == "empty"
