"""Fidelity: its metrics against independent ones, its controls in a world known by hand, its command in miniature."""

import dataclasses
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from skimage.metrics import structural_similarity
from stable_baselines3 import PPO

from procosm.agents.judge.open_loop import Windows, window
from procosm.agents.stages import StageError
from procosm.benchmarks.dream.fidelity.__main__ import FidelityConfig, fidelity
from procosm.benchmarks.dream.fidelity.clipnet import FRAMES, features, frechet, train_clipnet
from procosm.benchmarks.dream.fidelity.controls import Rollout, rollouts
from procosm.benchmarks.dream.fidelity.disturbed import as_read, disturbed, followed, physics_of
from procosm.benchmarks.dream.fidelity.judging import SEEDS, judging_episodes, one_window_each
from procosm.benchmarks.dream.fidelity.linear import fit_linear
from procosm.benchmarks.dream.fidelity.scores import Judge, scores
from procosm.benchmarks.dream.fidelity.ssim import ssim
from procosm.envs.collect.policy_file import save_learner
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import DatasetError
from procosm.world_model.files import write_json
from tests.agents.conftest import linear_episode

HORIZON = 8


def test_ssim_is_scikit_images():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    second = np.clip(first + generator.normal(0, [[[[10]]], [[[30]]], [[[90]]]], first.shape), 0, 255).astype(np.uint8)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = [structural_similarity(a, b, channel_axis=-1, **settings) for a, b in zip(first, second, strict=True)]
    assert ssim(first, second) == pytest.approx(expected, abs=1e-4)
    assert ssim(first, first) == pytest.approx(np.ones(3))


def test_frechet_distance_of_gaussians_in_one_dimension():
    x = np.random.default_rng(1).normal(size=(500, 1))
    x = (x - x.mean()) / x.std(ddof=1)
    assert frechet(x, 3.0 * x + 4.0) == pytest.approx(4.0**2 + (3.0 - 1.0) ** 2)


def test_frechet_distance_agrees_with_a_matrix_square_root_and_works_in_batches():
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(4, 60, 5)), generator.normal(size=(4, 60, 5)) @ generator.normal(size=(5, 5))
    expected = []
    for a, b in zip(x, y, strict=True):
        root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
        expected.append(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root))
    assert frechet(x, y) == pytest.approx(expected)
    assert frechet(x, x) == pytest.approx(np.zeros(4), abs=1e-9)


@pytest.fixture(scope="module")
def train_episodes():
    return [linear_episode(1000 + seed, 20) for seed in range(40)]


@pytest.fixture
def windows():
    return Windows.stack([window(linear_episode(seed, 12), 0, 3, HORIZON) for seed in range(40)])


def test_the_feature_network_learns_to_see_and_disturbs_no_generator(train_episodes):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    net = train_clipnet(train_episodes, 100, seed=0)
    assert torch.rand(1) == expected
    clips = np.stack([linear_episode(seed, 12).frames[:FRAMES] for seed in range(50)])
    states = np.stack([linear_episode(seed, 12).signals["state"][FRAMES - 1, 0] for seed in range(50)])
    read = net.read(torch.from_numpy(features(net, clips)).float())[:, 2]  # the last state's first number
    assert np.corrcoef(read.numpy(), states)[0, 1] > 0.9
    with pytest.raises(DatasetError, match="collect again"):
        train_clipnet([linear_episode(0, FRAMES - 2)], 1, seed=0)


def test_the_linear_model_finds_a_linear_world(linear_world, train_episodes, windows):
    linear = fit_linear(linear_world, train_episodes)
    found = rollouts(linear_world, linear, windows, seed=0)
    dream, fitted = found["dream"], found["linear"]
    inside = ((dream.latents >= linear.low) & (dream.latents <= linear.high)).flatten(1).all(1)
    # It learned from whole grey levels, 0.05 apart, and is kept within what it saw.
    assert inside.sum() > 20 and (fitted.latents - dream.latents)[inside].abs().max() < 0.1
    assert (fitted.latents >= linear.low).all() and (fitted.latents <= linear.high).all()
    assert fitted.rewards[inside] == pytest.approx(dream.rewards[inside], abs=0.05)
    assert not fitted.ends.any()  # no episode it saw ended
    with pytest.raises(DatasetError, match="linear model"):
        fit_linear(linear_world, train_episodes[:5])


def judge_of(train_episodes, horizons=(1, HORIZON)):
    return Judge(train_clipnet(train_episodes, 30, seed=0), "clipnet of a test", np.array([1.0, 0.5]), horizons, 0)


def test_scores_order_the_methods_as_a_known_world_demands(linear_world, train_episodes, windows):
    found = rollouts(linear_world, fit_linear(linear_world, train_episodes), windows, seed=0)
    rows = scores(linear_world, windows, found, judge_of(train_episodes))
    value = {(row["metric"], row["method"], row["horizon"]): row["value"] for row in rows}
    for metric in ("latent_mse", "state_nrmse", "frechet_video"):
        worse = [value[metric, method, HORIZON] for method in ("shuffled actions", "copy last frame")]
        assert value[metric, "dream", HORIZON] < 0.2 * min(worse), metric
    assert value["psnr_db", "dream", HORIZON] > value["psnr_db", "shuffled actions", HORIZON] + 6
    assert value["ssim", "tokenizer", HORIZON] == pytest.approx(1.0)
    assert value["reward_error", "dream", 1] < 0.03 < value["reward_error", "shuffled actions", 1]
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] == 40 for row in rows)
    assert {row.get("network") for row in rows if row["metric"] == "frechet_video"} == {"clipnet of a test"}


def test_ends_are_counted_as_they_were_announced(linear_world, train_episodes):
    cut = Windows.stack([window(linear_episode(seed, 2 + steps), 0, 3, 4) for seed, steps in enumerate((4, 2, 2, 4))])
    cut = dataclasses.replace(cut, ended=np.array([False, True, True, False]))
    ends = np.zeros((4, 4), np.float32)
    ends[0, 2] = 0.8  # held for ended in step 3, wrongly
    ends[1, 1] = 0.9  # announced in time
    ends[2, 3] = 0.9  # announced only after the end
    rollout = Rollout(torch.zeros(4, 4, 1, 2, 2), np.zeros((4, 4, 2), np.float32), ends=ends)
    rows = scores(linear_world, cut, {"x": rollout}, judge_of(train_episodes, (1, 2, 3, 4)))
    found = {(row["metric"], row["horizon"]): (row["value"], row["n"]) for row in rows}
    assert found["false_end", 2] == (0.0, 2) and found["false_end", 3] == (0.5, 2) and found["false_end", 4] == (0.5, 2)
    assert ("missed_end", 1) not in found and found["missed_end", 2] == (0.5, 2) and found["missed_end", 4] == (0.5, 2)
    assert found["end_brier", 2] == (pytest.approx((0.1**2 + 1) / 4), 4) and found["end_brier", 4] == (0.0, 2)
    assert "reward_error" not in {row["metric"] for row in rows}


def test_each_episode_gives_one_window_long_ones_anywhere(train_episodes):
    episodes = [linear_episode(seed, 30) for seed in range(20)] + [linear_episode(99, 5)]
    windows, starts = one_window_each(episodes, context=3, horizon=8, seed=0)
    assert windows.steps[:20].tolist() == [8] * 20 and len(set(starts)) > 8 and max(starts) <= 22
    for episode, state, start in zip(episodes, windows.signals["state"][:, 0], starts, strict=True):
        assert (state == episode.signals["state"][start]).all()
    assert windows.steps[20] == 3 and starts[20] == 2


@pytest.fixture(scope="module")
def small_run(truth_checkpoint, pendulum_log, tmp_path_factory):
    """A run folder with real frames, an untrained world model and an untrained policy."""
    run = tmp_path_factory.mktemp("fidelity") / "run"
    shutil.copytree(truth_checkpoint, run / "world_model")
    shutil.copytree(pendulum_log, run / "data")
    spaces = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32), gym.spaces.Box(-3.0, 3.0, (1,), np.float32)
    blank = gym.Env()
    blank.observation_space, blank.action_space = spaces
    (run / "policy").mkdir()
    save_learner(PPO("MlpPolicy", blank, seed=0, device="cpu"), run / "policy" / "policy.zip")
    write_json(
        run / "policy" / "training.json", {"algorithm": "ppo", "observation": "state", "rounds": [], "truth": []}
    )
    return run


def test_judging_episodes_are_mujocos_own_and_kept(small_run, truth_env, tmp_path):
    model = load(small_run / "world_model")
    played = judging_episodes(tmp_path / "noise", model, "smooth noise", None, count=4, steps=6)
    assert len(played) == 4 and all(3 <= len(episode.actions) <= 6 for episode in played)
    first = played[0]
    frame, _ = truth_env.reset(seed=SEEDS["smooth noise"])
    for t, action in enumerate(first.actions):
        assert (frame == first.frames[t]).all()
        frame, reward, *_ = truth_env.step(action)
        assert reward == first.signals["reward"][t]
    again = judging_episodes(tmp_path / "noise", model, "smooth noise", None, count=4, steps=6)
    assert all((a.actions == b.actions).all() for a, b in zip(played, again, strict=True))
    with pytest.raises(DatasetError, match="outlast the context"):
        judging_episodes(tmp_path / "short", model, "smooth noise", None, count=4, steps=2)


def test_mujoco_follows_itself_unless_it_starts_elsewhere(small_run, tmp_path):
    model = load(small_run / "world_model")
    episodes = judging_episodes(tmp_path / "noise", model, "smooth noise", None, count=3, steps=8)
    windows, starts = one_window_each(episodes, model.dynamics.context, 4, seed=0)
    physics = physics_of(tmp_path / "noise")
    begun = np.stack([states[start] for states, start in zip(physics, starts, strict=True)])
    there = np.arange(4) < windows.steps[:, None]

    def error(begin: np.ndarray) -> np.ndarray:
        return np.abs(followed(model.task, begin, windows.actions) - windows.signals["state"][:, 1:])[there]

    assert error(begun) == pytest.approx(0, abs=1e-6)
    near, far = (error(disturbed(model.task, physics, begun, off, seed=0)).mean() for off in (0.01, 0.1))
    assert 0 < near < 0.3 * far
    # The pendulum's state is its physics: read without error, MuJoCo starts where it was; with one, that far off.
    now = windows.signals["state"][:, 0]
    assert as_read(begun, now, now) == pytest.approx(begun, abs=1e-6)
    moved = as_read(begun, now, now + np.arange(1, 5)) - begun
    assert moved == pytest.approx(np.tile([0, 1, 2, 3, 4, *[0] * (begun.shape[1] - 5)], (3, 1)), abs=1e-6)
    # What the state tells in another form stays true.
    assert as_read(begun, np.cos(now), np.cos(now) + 1) == pytest.approx(begun)


def test_the_command_writes_rows_goes_on_and_refuses_other_settings(small_run):
    config = FidelityConfig(str(small_run), episodes=10, horizon=4, clipnet_steps=2)
    result = json.loads(fidelity(config).read_text())
    assert {row["behaviour"] for row in result["rows"]} == set(SEEDS)
    methods = {row["method"] for row in result["rows"] if row["metric"] == "state_nrmse"}
    controls = {"shuffled actions", "linear", "copy last frame", "tokenizer"}
    assert methods == {"dream", *controls, "MuJoCo, start 10 % off", "MuJoCo, start as read"}
    assert {row["horizon"] for row in result["rows"] if "horizon" in row} == {1, 2, 4}
    assert all({"task", "seed", "n", "unit", "value"} <= row.keys() for row in result["rows"])
    place = small_run / "benchmarks"
    assert (place / "fidelity.png").stat().st_size > 10_000
    # Killed before the last part was written: what is there stays, and the rows come out the same.
    kept = (place / "fidelity" / "policy_with_noise.json").stat().st_mtime_ns
    (place / "fidelity" / "smooth_noise.json").unlink()
    record = json.loads((place / "stages" / "fidelity.json").read_text())
    write_json(place / "stages" / "fidelity.json", record | {"finished": False})
    assert json.loads(fidelity(config).read_text())["rows"] == result["rows"]
    assert (place / "fidelity" / "policy_with_noise.json").stat().st_mtime_ns == kept
    with pytest.raises(StageError, match="horizon was 4, now 5"):
        fidelity(dataclasses.replace(config, horizon=5))
