"""What an episode was asked for is logged with it: goals of MuJoCo scenes, and those that Meta-World's names say."""

from pathlib import Path

import numpy as np
import pytest

from procosm.envs import ROBOTS
from procosm.envs.collect.collect import CollectConfig, collect, plan
from procosm.envs.collect.segments import Collector, read_part, write_part
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.tabletop import DIRECTIONS, INSTRUCTIONS
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.data.mixture import MixConfig, mix
from procosm.world_model.errors import DatasetError, TaskError

SETTINGS = {"frame_size": 32, "processes": 1, "wide": 0.0, "constant": 0.0, "holdout": 0.3}


def collected(env: str, out: Path, steps: int, policy: str) -> Path:
    return collect(CollectConfig(env=env, out=out, steps=steps, policy=policy, **SETTINGS))


def test_a_tables_goal_is_logged_with_each_episode_and_is_what_was_paid_for(tmp_path):
    episodes = load_episodes(collected("Tabletop-v0", tmp_path / "table", 120, "noise:1"))
    texts = [episode.text for episode in episodes]
    assert len(texts) > 6 and set(texts) <= set(INSTRUCTIONS) and len(set(texts)) > 3
    for episode in episodes:
        ball, way = divmod(INSTRUCTIONS.index(episode.text), len(DIRECTIONS))
        places = episode.signals["state"][:, :6].reshape(-1, 3, 2).astype(np.float64)
        moved = np.diff(places, axis=0)
        others = np.linalg.norm(np.delete(moved, ball, axis=1), axis=-1).sum(1)
        paid = moved[:, ball] @ np.array(list(DIRECTIONS.values())[way]) - others
        np.testing.assert_allclose(episode.signals["reward"], paid, atol=1e-5)


def test_where_nothing_is_asked_for_no_text_is_logged(tmp_path):
    config = CollectConfig("Reacher", tmp_path / "r", steps=100, processes=1, frame_size=32)
    assert {episode.text for episode in load_episodes(collect(config))} == {""}


def test_a_part_keeps_its_texts_and_others_are_refused(tmp_path):
    job = plan(CollectConfig(env="Tabletop-v0", out=tmp_path, steps=100, policy="noise:1", **SETTINGS))
    part, collector = job.parts[0], Collector(job)
    episodes = list(collector.episodes(part))
    collector.close()
    (tmp_path / "job.json").write_text(job.to_json())
    write_part(tmp_path, job, part, episodes)
    again = [episode.text for episode, _ in read_part(tmp_path, job, part)]
    assert again == [episode.text for episode, _ in episodes] and all(again)
    path = tmp_path / f"{part.name}.npz"
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    for wrong in (arrays["texts"][:-1], np.zeros(len(again))):
        np.savez(path, **arrays | {"texts": wrong})
        with pytest.raises(DatasetError, match="texts are not one for each episode"):
            list(read_part(tmp_path, job, part))


def test_meta_worlds_names_are_what_is_asked_for(tmp_path):
    pytest.importorskip("metaworld")
    env = MujocoEnv("metaworld/drawer-close", observation="state")
    assert env.reset(seed=0)[1]["instruction"] == "drawer close"
    assert env.reset(seed=0, options={"instruction": "drawer close"})[1]["instruction"] == "drawer close"
    with pytest.raises(TaskError, match="'door open' is no goal here: ask for 'drawer close'"):
        env.reset(options={"instruction": "door open"})
    env.close()
    names = [name for name in ROBOTS if name in ("metaworld/door-open", "metaworld/drawer-close")]
    logs = [collected(name, tmp_path / name.partition("/")[2], 100, "expert:1") for name in names]
    both = load_episodes(mix(MixConfig(tuple(logs), tmp_path / "both")))
    assert {episode.text for episode in both} == {
        "metaworld/door-open: door open",
        "metaworld/drawer-close: drawer close",
    }
