import errno
import os

import pytest
import torch

from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_json, read_tensors, sha256, write_bytes, write_json, write_tensors


def test_round_trips(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"x": [1, 2.5, None]})
    assert read_json(tmp_path / "deep" / "a.json") == {"x": [1, 2.5, None]}
    write_tensors(tmp_path / "t.safetensors", {"a": torch.arange(6).view(2, 3).T})
    assert torch.equal(read_tensors(tmp_path / "t.safetensors")["a"], torch.arange(6).view(2, 3).T)
    modes = {(tmp_path / name).stat().st_mode for name in ("t.safetensors", "deep/a.json")}
    assert len(modes) == 1, "who may read a file follows the umask alone"


def test_a_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProcosmError, match="No space left on device"):
        write_bytes(path, b"2")
    assert read_json(path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_missing_and_truncated_files_say_so(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_tensors(tmp_path / "none.safetensors")
    write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(100)})
    whole = (tmp_path / "t.safetensors").read_bytes()
    (tmp_path / "t.safetensors").write_bytes(whole[:-50])
    with pytest.raises(CheckpointError, match="truncated"):
        read_tensors(tmp_path / "t.safetensors")
    (tmp_path / "b.json").write_text('{"x": ')
    with pytest.raises(CheckpointError, match="damaged"):
        read_json(tmp_path / "b.json")


def test_a_file_in_the_place_of_a_folder_is_an_error_of_ours(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ProcosmError, match="Not a directory"):
        write_bytes(tmp_path / "run" / "data" / "task.json", b"{}")
    assert (tmp_path / "run").read_text() == "a file"


def test_a_key_that_stands_twice_is_damage(tmp_path):
    (tmp_path / "a.json").write_text('{"format": 99, "task": {}, "format": 1}')
    with pytest.raises(CheckpointError, match=r"a.json is damaged .*twice.*format"):
        read_json(tmp_path / "a.json")


def test_a_file_that_is_not_there_has_no_checksum_and_is_named(tmp_path):
    """Whose name a user may have mistyped: evaluate --policy, train-policy --warm."""
    for path in (tmp_path / "plan.json", tmp_path):
        with pytest.raises(CheckpointError, match=f"{path} cannot be read"):
            sha256(path)
