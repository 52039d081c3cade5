"""A saved policy at the wheel: found beside its checkpoint, refused when it does not fit, and seeing what it should."""

import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from procosm.benchmarks.machine.play_speed import serving
from procosm.envs.collect.policy_file import is_pickle, load_policy, save_learner
from procosm.envs.dreams.weights import SHIPPED, open_model
from procosm.envs.play.command import PlayConfig, find_stage
from procosm.envs.play.game import Stage
from procosm.envs.play.pair import Actions, Pair
from procosm.envs.play.policy import SHIPPED_POLICIES, SavedPilot
from procosm.envs.play.server import PlayServer
from procosm.world_model.errors import TaskError
from tests.envs.play.conftest import Page, socket_to


def save_policy(path: Path, space: gym.Space, actions: int = 1) -> Path:
    """An untrained PPO policy for some observations."""
    env = gym.Env()
    env.observation_space, env.action_space = space, gym.spaces.Box(-3, 3, (actions,), np.float32)
    kind = "CnnPolicy" if space.dtype == np.uint8 else "MlpPolicy"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_learner(PPO(kind, env, n_steps=2, batch_size=2, seed=0, device="cpu"), path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run's folder: a world model and a policy from its state estimates."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(SHIPPED / "InvertedPendulum", folder / "world_model")
    save_policy(folder / "policy" / "policy.zip", gym.spaces.Box(-np.inf, np.inf, (4,), np.float32))
    return folder


def test_the_policy_beside_a_checkpoint_is_found(run, tmp_path):
    for path in (run, run / "world_model"):
        assert find_stage(PlayConfig(path)).policy == run / "policy" / "policy.zip"
    (tmp_path / "alone").symlink_to(run / "world_model")
    alone = find_stage(PlayConfig(tmp_path / "alone"))
    assert alone.policy is None and "procosm train-policy" in alone.without_policy
    assert find_stage(PlayConfig(policy=run / "policy" / "policy.zip")).policy == run / "policy" / "policy.zip"
    with pytest.raises(TaskError, match="there is no policy at"):
        find_stage(PlayConfig(policy=tmp_path / "none.zip"))


def test_a_policy_that_does_not_fit_is_refused_if_given_and_left_if_found(run, tmp_path):
    wrong = save_policy(tmp_path / "wrong.zip", gym.spaces.Box(-1, 1, (5,), np.float32))
    with pytest.raises(TaskError, match=r"observes \(5,\)"):
        find_stage(PlayConfig(run, policy=wrong))
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "policy" / "policy.zip").write_bytes(b"no zip")
    stage = find_stage(PlayConfig(folder))
    assert stage.policy is None and "no policy that can be read" in stage.without_policy


@pytest.mark.parametrize("folder", sorted(SHIPPED.iterdir()), ids=lambda folder: folder.name)
def test_a_policy_ships_with_each_world_model_and_has_the_wheel_at_first(folder, tmp_path):
    path = SHIPPED_POLICIES / f"{folder.name}.zip"
    assert path.stat().st_size <= 200_000 and not is_pickle(path)
    for named in (Path(folder.name), folder):
        assert find_stage(PlayConfig(named)).policy == path
    with serving(PlayServer(find_stage(PlayConfig(folder, out=tmp_path)))) as address, socket_to(address) as opened:
        page = Page(opened)
        header, _ = page.until(lambda header: header["step"] > 1)
        assert header["pilot"] == "policy" and page.welcome["policy"] == path.name


def test_the_shipped_policies_do_better_in_mujoco_than_doing_nothing():
    """What a visitor sees at first: a pole that stays up for more than its idle 30 steps, a finger at its target."""
    for name, steps, at_least in (("InvertedPendulum", 200, 200), ("Reacher", 50, -9.0)):
        pair = Pair(open_model(None, name, "cpu"), 1, 1000)
        pilot = SavedPilot(SHIPPED_POLICIES / f"{name}.zip", pair.model)
        totals = []
        for seed in range(3):
            scenes = [pair.begin(seed)]
            for _ in range(steps):
                action = pilot.act(pair, scenes[-3:], "truth")
                scenes.append(pair.step(scenes[-1], Actions(action, action), 1000))
            totals.append(scenes[-1].truth.total)
        pair.close()
        assert np.mean(totals) >= at_least


def test_the_policy_acts_on_what_it_sees_in_each_world(run, tmp_path):
    """Against the policy itself, fed with the dream's estimate and with what the model's eyes read off MuJoCo."""
    policy = load_policy(run / "policy" / "policy.zip")
    eyes = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=run / "world_model", observation="state")
    pair = Pair(open_model(run, None, "cpu"), 1, 1000)
    pilot = SavedPilot(run / "policy" / "policy.zip", pair.model)
    scenes = [pair.begin(3)]
    seen, _ = eyes.reset(seed=3)
    for _ in range(4):
        dreamed, real = pilot.act(pair, scenes[-3:], "dream"), pilot.act(pair, scenes[-3:], "truth")
        np.testing.assert_array_equal(dreamed, policy.predict(scenes[-1].moment.state, deterministic=True)[0])
        assert real == pytest.approx(policy.predict(seen, deterministic=True)[0], abs=1e-3)
        scenes.append(pair.step(scenes[-1], Actions(dreamed, real), 10))
        seen = eyes.step(real)[0]
    np.testing.assert_array_equal(scenes[-1].dream.action, dreamed)
    np.testing.assert_array_equal(scenes[-1].truth.action, real)
    eyes.close()
    pair.close()


def test_what_an_earlier_episode_showed_is_not_seen_in_the_next(tmp_path):
    space = gym.spaces.Box(0, 255, (64, 64, 9), np.uint8)
    pair = Pair(open_model(None, "InvertedPendulum", "cpu"), 1, 2)  # the dream is cut after two steps
    path = save_policy(tmp_path / "policy.zip", space)
    pilot, policy = SavedPilot(path, pair.model), load_policy(path)
    still = Actions(np.zeros(1, np.float32), np.zeros(1, np.float32))
    scenes = [pair.begin(0)]
    for _ in range(4):
        scenes.append(pair.step(scenes[-1], still, 1))
    assert scenes[-1].dream.step == 0 and scenes[-1].truth.step == 4
    seen = np.concatenate([*[np.zeros((64, 64, 3), np.uint8)] * 2, scenes[-1].dream.frame], axis=-1)
    np.testing.assert_array_equal(pilot.act(pair, scenes[-3:], "dream"), policy.predict(seen, deterministic=True)[0])
    seen = np.concatenate([scene.truth.frame for scene in scenes[-3:]], axis=-1)
    np.testing.assert_array_equal(pilot.act(pair, scenes[-3:], "truth"), policy.predict(seen, deterministic=True)[0])
    pair.close()


def test_whoever_touches_the_wheel_has_it(run, tmp_path):
    with serving(PlayServer(find_stage(PlayConfig(run, out=tmp_path)))) as address, socket_to(address) as opened:
        page = Page(opened)
        assert page.paused_at_start()[0]["pilot"] == "policy"
        page.say("steer", [0.0])  # a hand that rests asks for nothing
        page.say("step")
        assert page.until(lambda header: header["step"] == 1)[0]["pilot"] == "policy"
        page.say("steer", [0.25])
        page.say("step")
        header, _ = page.until(lambda header: header["step"] == 2)
        assert header["pilot"] == "human" and header["stick"] == pytest.approx([0.25])
        page.say("pilot", "policy")
        assert page.until(lambda header: header["pilot"] == "policy")


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Box(-np.inf, np.inf, (3, 4, 8, 8), np.float32),
        gym.spaces.Box(0, 255, (9, 64, 64), np.uint8),
        gym.spaces.Box(0, 255, (64, 64, 9), np.uint8),
    ],
    ids=["latent", "pixels first", "pixels last"],
)
def test_policies_from_latents_and_pixels_steer_too(space, tmp_path):
    pair = Pair(open_model(None, "InvertedPendulum", "cpu"), 1, 100)
    pilot = SavedPilot(save_policy(tmp_path / "policy.zip", space), pair.model)
    policy = load_policy(tmp_path / "policy.zip")
    scenes = [pair.begin(0)]
    scenes.append(pair.step(scenes[0], Actions(np.ones(1, np.float32), np.ones(1, np.float32)), 10))
    action = pilot.act(pair, scenes, "dream")
    assert action.shape == (1,)
    if space.dtype == np.uint8:
        frames = [np.zeros((64, 64, 3), np.uint8), scenes[0].dream.frame, scenes[1].dream.frame]
        seen = np.concatenate(frames, axis=-1)
        seen = seen if space.shape[-1] == 9 else seen.transpose(2, 0, 1)
    else:
        seen = scenes[1].moment.latents.numpy()
    np.testing.assert_array_equal(action, policy.predict(seen, deterministic=True)[0])
    assert np.isfinite(pilot.act(pair, scenes, "truth")).all()
    pair.close()


def test_who_has_no_policy_cannot_hand_over(page, stage: Stage):
    page.paused_at_start()
    page.say("pilot", "policy")
    header, _ = page.until(lambda header: header["note"])
    assert header["pilot"] == "human" and header["note"] == stage.without_policy
