"""The ranking: paired episodes against loops written out, its rows against SciPy, and the whole of it once, small."""

import csv
import dataclasses
import gzip
import hashlib
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from scipy import stats
from stable_baselines3 import PPO

from procosm.agents.judge.ranking import zoo as zoo_module
from procosm.agents.judge.ranking.agreement import Scores, agreement_rows
from procosm.agents.judge.ranking.members import CONTROLS, Member
from procosm.agents.judge.ranking.paired import Dream, Truth, first_frames, play
from procosm.agents.judge.ranking.zoo import EPSILONS, ZooConfig, model_free, zoo
from procosm.agents.judge.rollouts import dreams_from
from procosm.benchmarks.dream import ranking
from procosm.envs.collect.policy_file import load_policy, save_learner
from procosm.world_model.checkpoint import load

SEEDS = [3, 4, 5, 6, 7]


def rows_of(world, task, members, horizons=(4,)):
    found = {}
    play(world, task, members, SEEDS, horizons, lambda member, rows: found.setdefault(member.name, rows), "test")
    return found


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Member:
    """An untrained policy on states of InvertedPendulum."""
    path = tmp_path_factory.mktemp("policy") / "policy.zip"
    save_learner(PPO("MlpPolicy", gym.make("InvertedPendulum-v5"), seed=0, n_steps=8, batch_size=8), path)
    return Member("ppo", "ppo", "ppo", path)


def test_fewer_slots_than_episodes_play_what_plain_gymnasium_plays(truth_checkpoint, policy):
    task = load(truth_checkpoint).task
    zero = next(member for member in CONTROLS if member.name == "zero")
    found = rows_of(Truth(task, 3), task, [zero, policy])
    env, model = gym.make("InvertedPendulum-v5"), load_policy(policy.path)
    for name, act in (
        ("zero", lambda seen: np.zeros(1)),
        ("ppo", lambda seen: model.predict(seen, deterministic=True)[0]),
    ):
        for seed, row in zip(SEEDS, found[name], strict=True):
            seen, steps, end = env.reset(seed=seed)[0], 0, False
            while not end:
                seen, _, end, _, _ = env.step(act(np.float32(seen)))
                steps += 1
            assert (row["seed"], row["steps"], row["terminated"]) == (seed, steps, 1)
            assert row["return"] == steps - 1, "every step but the last earns 1"
            assert row["return_4"] == min(steps - 1, 4)


def test_dreams_of_the_pool_are_the_dreams_of_one_slot_each(truth_checkpoint, policy):
    model = load(truth_checkpoint)
    task = dataclasses.replace(model.task, max_episode_steps=9)
    model = dataclasses.replace(model, task=task)
    found = rows_of(Dream(model, SEEDS, 2, mixed=False), task, [policy])["ppo"]
    acting, (frames, _) = load_policy(policy.path), first_frames(task, SEEDS)
    for start, row in enumerate(found):
        env = dreams_from(model, frames, "state", num_envs=1)
        seen, _ = env.reset(seed=0, options={"start": start})
        rewards, end = [], False
        while not end:
            seen, reward, ended, cut, _ = env.step(acting.predict(seen, deterministic=True)[0])
            rewards.append(reward[0])
            end = bool(ended[0] or cut[0])
        assert row["steps"] == len(rewards)
        assert row["return"] == pytest.approx(sum(rewards), rel=1e-3, abs=1e-4)
        assert row["return_4"] == pytest.approx(sum(rewards[:4]), rel=1e-3, abs=1e-4)


def test_chance_is_the_episodes_own(truth_checkpoint, policy):
    """However many slots there are and whoever plays beside, a noisy episode is the same."""
    task = load(truth_checkpoint).task
    noisy = dataclasses.replace(policy, name="noisy", epsilon=0.5)
    members = [noisy, *CONTROLS]
    one, many = rows_of(Truth(task, 1), task, members[:1]), rows_of(Truth(task, 7), task, members[::-1])
    for row, other in zip(one["noisy"], many["noisy"], strict=True):
        assert row.pop("effort") == pytest.approx(other.pop("effort"))  # networks round by the size of their batch
        assert row == other
    assert many["random"] != many["smooth noise"]


def panel(shift: float = 0.0) -> tuple[list[Member], Scores]:
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 100, 12)[:, None] + rng.normal(0, 3, (12, 20))
    dreamed = true + rng.normal(0, 15, (12, 1)) + shift
    members = [Member(f"p{i}", "ppo") for i in range(10)] + [Member("d", "dream"), Member("r", "control", seen=True)]
    steps = np.ones_like(true)
    return members, Scores("return", true, dreamed, steps, steps)


def test_rows_are_scipys_numbers_and_their_intervals_hold_them():
    members, scores = panel()
    rows = {(row["metric"], row.get("panel")): row for row in agreement_rows(members, scores)}
    real, dreamed = scores.real.mean(1), scores.dreamed.mean(1)
    for name, statistic in (
        ("Pearson r", stats.pearsonr),
        ("Spearman rho", stats.spearmanr),
        ("Kendall tau", stats.kendalltau),
    ):
        assert rows[name, "all"]["value"] == pytest.approx(statistic(real, dreamed)[0])
        assert rows[name, "never in the data"]["value"] == pytest.approx(statistic(real[:-1], dreamed[:-1])[0])
        assert rows[name, "all"]["low"] < rows[name, "all"]["value"] < rows[name, "all"]["high"]
    assert rows["MMRV", "all"]["n"] == 12 and rows["MMRV", "never in the data"]["n"] == 11
    assert rows["regret@1", "all"]["value"] == pytest.approx((real.max() - real[dreamed.argmax()]) / np.ptp(real))


def test_a_dream_that_promises_more_to_everybody_is_biased_by_that_much():
    members, scores = panel(shift=50.0)
    _, honest = panel()
    size = np.ptp(scores.real.mean(1))
    found = [
        next(r for r in agreement_rows(members, s) if r["metric"] == "signed bias")["value"] for s in (scores, honest)
    ]
    assert found[0] - found[1] == pytest.approx(50 / size)
    gap = next(row for row in agreement_rows(members, scores) if row["metric"] == "exploitability gap")
    assert gap["policy"] == "d" and gap["n"] == 20
    assert gap["value"] == pytest.approx((scores.dreamed[10] - scores.real[10]).mean() / size)


def test_a_training_is_saved_on_its_way_and_done_once(truth_checkpoint, tmp_path):
    task = load(truth_checkpoint).task
    members = list(model_free("td3", task, 64, 0, tmp_path))
    assert [member.steps for member in members] == [8, 16, 32, 64]
    written = [member.path.stat().st_mtime_ns for member in members]
    weights = [next(iter(ranking_policy(member).parameters())).detach().numpy() for member in members]
    assert not np.array_equal(weights[0], weights[-1])
    assert list(model_free("td3", task, 64, 0, tmp_path)) == members
    assert [member.path.stat().st_mtime_ns for member in members] == written


def test_what_acted_in_the_data_is_told_by_its_content(truth_checkpoint, tmp_path):
    """Trained beforehand by the command; the data name a file by its sha256, wherever it lay."""
    zoo_module.main(zoo_module.TrainingConfig("InvertedPendulum", tmp_path / "zoo", seeds=1, steps=64))
    acted = hashlib.sha256((tmp_path / "zoo/td3-s0-4.zip").read_bytes()).hexdigest()
    written = (tmp_path / "zoo/td3-s0-4.zip").stat().st_mtime_ns
    config = ZooConfig(seeds=1, steps=64, dream_seeds=0)
    members = zoo(config, load(truth_checkpoint).task, truth_checkpoint, tmp_path / "zoo", [acted])
    seen = {member.name for member in members if member.seen}
    assert seen == {"td3-s0-4", *(f"td3-s0-4 eps {e}" for e in EPSILONS), *(m.name for m in CONTROLS)}
    assert (tmp_path / "zoo/td3-s0-4.zip").stat().st_mtime_ns == written


def ranking_policy(member: Member):
    return load_policy(member.path)


def test_the_whole_ranking_small_and_gone_on_with(truth_checkpoint, policy, tmp_path, monkeypatch):
    members = [policy, dataclasses.replace(policy, name="noisy", epsilon=0.5), *CONTROLS]
    asked: list[list[str]] = []
    monkeypatch.setattr(ranking, "zoo", lambda *given: asked.append(list(given[-2])) or members)
    monkeypatch.setattr(ranking, "RESULTS", tmp_path / "results")
    model = load(truth_checkpoint)
    told = model.provenance | {"policies": {"runs/a.zip": "f00"}}
    short = dataclasses.replace(model, task=dataclasses.replace(model.task, max_episode_steps=12), provenance=told)
    monkeypatch.setattr(ranking, "load", lambda folder, device: short)
    # In one slot, for the last bit of a dream depends on its place in the batch.
    config = ranking.RankingConfig(truth_checkpoint, tmp_path, ZooConfig(), episodes=4, horizons=(4, 500), slots=1)
    config = dataclasses.replace(config, linear=2, exploits=1, generations=1)
    result = json.loads(ranking.ranking(config).read_text())
    assert asked == [["f00"]], "the panel is told who acted in the data"
    assert {row["horizon"] for row in result["rows"]} == {"whole episode", "first 4 steps"}
    assert (tmp_path / "results/figures/ranking_invertedpendulum.png").stat().st_size > 10_000
    packed = tmp_path / "results/ranking_invertedpendulum.csv.gz"
    lines = list(csv.DictReader(gzip.decompress(packed.read_bytes()).decode().splitlines()))
    panel = {each["policy"]: each["family"] for each in result["details"]["panel"]}
    assert {m.name for m in members} < set(panel) and len(lines) == 4 * len(panel)
    assert set(panel.values()) == {"ppo", "control", "open-loop", "regulator", "linear", "exploit"}
    by_hand = [np.mean([float(x["truth_return"]) for x in lines if x["policy"] == name]) for name in panel]
    dreamed = [np.mean([float(x["dream_return"]) for x in lines if x["policy"] == name]) for name in panel]
    r = next(row for row in result["rows"] if row["metric"] == "Pearson r" and row["horizon"] == "whole episode")
    assert r["value"] == pytest.approx(stats.pearsonr(by_hand, dreamed)[0], abs=1e-3)
    (tmp_path / "InvertedPendulum/dream/zero.json").unlink()
    monkeypatch.setattr(ranking, "Truth", None)  # nothing is played again in MuJoCo
    assert json.loads(ranking.ranking(config).read_text())["rows"] == result["rows"]


def test_episodes_may_be_cut_and_then_only_their_parts_are_ranked(truth_checkpoint, policy, tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "zoo", lambda *_: [policy, *CONTROLS])
    monkeypatch.setattr(ranking, "RESULTS", tmp_path / "results")
    config = ranking.RankingConfig(truth_checkpoint, tmp_path, exploits=0, episodes=4, horizons=(5, 8, 100), steps=8)
    result = json.loads(ranking.ranking(config).read_text())
    assert {row["horizon"] for row in result["rows"]} == {"first 5 steps", "first 8 steps"}
    rows = json.loads((tmp_path / "InvertedPendulum/truth-8/zero.json").read_text())
    assert max(row["steps"] for row in rows) == 8


def test_policies_of_finished_runs_join_the_panel_whole_and_degraded(truth_checkpoint, policy, tmp_path):
    folder = tmp_path / "seed7" / "policy"
    folder.mkdir(parents=True)
    shutil.copy(policy.path, folder / "policy.zip")
    (folder / "training.json").write_text('{"rounds": [{"imagined_steps": 64}, {"imagined_steps": 128}]}')
    config = ZooConfig(seeds=0, dream_seeds=0, dreamed=(folder / "policy.zip",))
    members = {m.name: m for m in zoo(config, load(truth_checkpoint).task, truth_checkpoint, tmp_path / "zoo")}
    assert set(members) == {*(m.name for m in CONTROLS), "dream seed7", *(f"dream seed7 eps {e}" for e in EPSILONS)}
    assert members["dream seed7"].family == "dream" and members["dream seed7"].steps == 128
    assert not any(m.seen for name, m in members.items() if name.startswith("dream"))
    assert members["dream seed7 eps 0.1"].family == "degraded" and members["dream seed7 eps 0.1"].epsilon == 0.1
