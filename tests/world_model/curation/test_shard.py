"""Shards give back every bit that went in, in any reader of tars; a shard that was altered is named."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest

from procosm.world_model.curation.records import Clip
from procosm.world_model.curation.shard import plan_shards, write_index, write_shard
from procosm.world_model.curation.stages import digest
from procosm.world_model.data.logs import LogsConfig, open_logs, read_log
from procosm.world_model.data.shards import check_shard, clip_key, read_clip, read_clips, read_index
from procosm.world_model.errors import DatasetError
from tests.world_model.curation import scenes

EPISODES = {f"log {seed}": scenes.episode(seed, 20 + seed) for seed in range(5)}


def clip(source: str) -> Clip:
    last = len(EPISODES[source].actions)
    key = clip_key(source, 0, last)
    return Clip(key, source, 0, last, "train", digest(EPISODES[source]), {"blur": 0.1}, [], ["pan"], "a square", "", "")


CLIPS = [clip(source) for source in EPISODES]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "shards"
    plans = plan_shards(CLIPS, scenes.TASK, most=2)
    shards = [write_shard(folder, plan, scenes.TASK, lambda c: EPISODES[c.source], 0) for plan in plans]
    write_index(folder, scenes.TASK, shards)
    return folder


@pytest.fixture
def shards(written, tmp_path):
    return shutil.copytree(written, tmp_path / "shards")


def test_every_bit_comes_back(shards):
    logs = open_logs(LogsConfig(data=shards))
    assert logs.task == scenes.TASK and sorted(logs.names) == sorted(clip.key for clip in CLIPS)
    for each in CLIPS:
        episode, there = EPISODES[each.source], read_log(logs, each.key).episode
        assert digest(there) == each.sha256
        np.testing.assert_array_equal(there.frames, episode.frames)
        assert (there.terminated, there.text, there.kind) == (episode.terminated, episode.text, "train")


def test_any_reader_of_webdataset_tars_finds_the_clips(shards):
    reading = pytest.importorskip("webdataset.tariterators")
    samples = []
    for path in sorted(shards.glob("*.tar")):
        with path.open("rb") as file:  # webdataset itself leaves files open, and warnings are errors here
            members = [{**member, "__url__": path.name} for member in reading.tar_file_iterator(file)]
        samples += list(reading.group_by_keys(members))
    assert {sample["__key__"] for sample in samples} == {clip.key for clip in CLIPS}
    for sample in samples:
        told = json.loads(sample["json"])
        arrays = np.load(io.BytesIO(sample["npz"]))
        np.testing.assert_array_equal(arrays["actions"], EPISODES[told["origin"]["source"]].actions)
        assert told["origin"]["sha256"] == digest(EPISODES[told["origin"]["source"]])


def test_the_plan_and_the_bytes_do_not_depend_on_the_order(shards, tmp_path):
    plans = plan_shards(CLIPS[::-1], scenes.TASK, most=2)
    assert plans == plan_shards(CLIPS, scenes.TASK, most=2)
    for plan in plans:
        write_shard(tmp_path / "again", plan, scenes.TASK, lambda c: EPISODES[c.source], 0)
        assert (tmp_path / "again" / plan.name).read_bytes() == (shards / plan.name).read_bytes()


def first(shards):
    task, index = read_index(shards)
    shard = index["shards"][0]
    return task, shard, read_clips(shards, shard)


def test_a_shard_that_was_altered_is_named(shards):
    _, shard, _ = first(shards)
    check_shard(shards, shard)
    path = shards / shard["name"]
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{shard['name']} is not what was written"):
        check_shard(shards, shard)


@pytest.mark.parametrize("share", [0, 0.02, 0.6])
def test_a_shard_that_was_cut_off_is_named(shards, share):
    task, shard, clips = first(shards)
    path = shards / shard["name"]
    path.write_bytes(path.read_bytes()[: int(share * shard["bytes"])])
    with pytest.raises(DatasetError, match=shard["name"]):
        check_shard(shards, shard)
    with pytest.raises(DatasetError, match=f"{clips[int(share > 0.5)]['key']} of .*does not lie where the index says"):
        [read_clip(shards, shard, each, task) for each in clips]


@pytest.mark.parametrize("name", ["../../outside.tar", "/etc/passwd", "sub/x.tar", "x.tar\n"])
def test_a_shard_elsewhere_is_refused(shards, name):
    index = json.loads((shards / "index.json").read_text())
    index["shards"][0]["name"] = name
    (shards / "index.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match=r"index.json: .*name"):
        open_logs(LogsConfig(data=shards))


@pytest.mark.parametrize("member", ["../escape.mp4", "/abs.mp4"])
def test_a_member_that_leads_elsewhere_is_neither_read_nor_written(shards, member, tmp_path):
    task, shard, clips = first(shards)
    path = shards / shard["name"]
    memory = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=memory, mode="w", format=tarfile.USTAR_FORMAT) as new:
        for info in old:
            content = old.extractfile(info).read()
            info.name = member if info.name == f"{clips[0]['key']}.mp4" else info.name
            new.addfile(info, io.BytesIO(content))
    path.write_bytes(memory.getvalue())
    with pytest.raises(DatasetError, match=rf"{clips[0]['key']} .*its mp4 does not lie where the index says"):
        read_clip(shards, shard, clips[0], task)
    assert not list(tmp_path.rglob("escape*"))
    read_clip(shards, shard, clips[1], task)  # the rest goes on


@pytest.mark.parametrize(
    ("key", "value"), [("mp4", [2**40, 10]), ("npz", [512, 2**40]), ("json", [512, 0]), ("key", "../up"), ("mp4", [1])]
)
def test_a_list_of_clips_that_lies_is_refused(shards, key, value):
    task, shard, clips = first(shards)
    path = (shards / shard["name"]).with_suffix(".json")
    path.write_text(json.dumps([{**clips[0], key: value}, *clips[1:]]))
    with pytest.raises(DatasetError, match=r"outside the shard|does not lie where|\.json: "):
        [read_clip(shards, shard, each, task) for each in read_clips(shards, shard)]


def test_names_with_other_letters_stay_apart():
    keys = {clip_key(name, 0, 9) for name in ("a/b", "a_b", "a.b", "a b", "ä_b", "a" * 300, "a" * 301)}
    assert len(keys) == 7 and all(key.isascii() and len(key) <= 200 for key in keys)
