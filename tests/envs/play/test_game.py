"""What is played is the environment users get: dream and MuJoCo as their own environments step them."""

from dataclasses import replace
from itertools import pairwise

import av
import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.agents.judge.rollouts import dreams_from
from procosm.benchmarks.machine.browser import wait_for
from procosm.envs.dreams.dreams import Dreams
from procosm.envs.dreams.weights import open_model
from procosm.envs.play.game import Game
from procosm.envs.play.history import History
from procosm.envs.play.pair import Actions, Pair, Scene
from procosm.envs.play.policy import SHIPPED_POLICIES, SavedPilot
from procosm.envs.play.protocol import Command
from procosm.envs.truth.mujoco import MujocoEnv
from tests.conftest import restless_model
from tests.envs.play.conftest import Page, socket_to

ACTIONS = (0.5, -1.0, 0.25, 0.0)
STILL, RIGHT, LEFT = (Actions(np.float32([force]), np.float32([force])) for force in (0, 3, -3))


def test_both_worlds_step_as_their_environments_do(page):
    """Frames, rewards and ends over the socket against the environments, from the same beginning."""
    model = open_model(None, "InvertedPendulum", "cpu")
    truth = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=model, observation="pixels")
    header, frames = page.paused_at_start()
    real, _ = truth.reset(seed=header["truth"]["seed"])
    np.testing.assert_array_equal(frames[1], real)
    with torch.inference_mode():
        memory = model.dynamics.begin(model.tokenizer.encode(torch.from_numpy(real)[None, None]))
        for step, stick in enumerate(ACTIONS, 1):
            page.say("steer", [stick])
            page.say("step")
            header, frames = page.until(lambda header, step=step: header["step"] == step)
            assert header["stick"] == pytest.approx([stick])
            action = np.float32([3 * stick])
            memory, predicted = model.dynamics.step(memory, torch.from_numpy(action)[None])
            told = predicted.readouts
            dreamed = model.tokenizer.decode(predicted.latents[:, None])[0, 0].numpy()
            assert np.abs(frames[0].astype(int) - dreamed).max() <= 1
            assert header["dream"]["reward"] == pytest.approx(
                np.clip(told["reward"].item(), *model.reward_range), abs=1e-4
            )
            assert header["dream"]["termination"] == pytest.approx(told["termination"].item(), abs=1e-4)
            real, reward, ended, _, _ = truth.step(action)
            np.testing.assert_array_equal(frames[1], real)
            assert (header["truth"]["reward"], header["truth"]["ended"]) == (reward, ended)
            difference = np.sqrt(np.mean((frames[0].astype(float) - frames[1]) ** 2))
            assert header["difference"] == pytest.approx(difference, rel=1e-4)
    truth.close()


def numbers(scene: Scene, world: str) -> tuple:
    """What a world shows beside its frame."""
    side = getattr(scene, world)
    return side.seed, side.step, side.total, side.reward, side.ended, side.cut, side.rested


def played(pair: Pair, scene: Scene, actions: list[Actions], hold: int) -> list[Scene]:
    """``scene`` and those after it."""
    scenes = [scene]
    for action in actions:
        scenes.append(pair.step(scenes[-1], action, hold))
    return scenes


@pytest.mark.parametrize("falls", ["dream", "truth"])
def test_a_world_that_ends_begins_again_alone_while_the_other_goes_on(falls):
    """One is pushed over; in the other the policy that ships balances, seeing that world alone."""
    model, hold, other = open_model(None, "InvertedPendulum", "cpu"), 4, "truth" if falls == "dream" else "dream"
    pair, pilot = Pair(model, 1, 1000), SavedPilot(SHIPPED_POLICIES / "InvertedPendulum.zip", model)
    scenes, ended = [pair.begin(0)], 0
    while len(scenes) < 60 and (not ended or len(scenes) < ended + hold + 3):
        acts = {falls: np.float32([3]), other: pilot.act(pair, scenes[-3:], other)}
        scenes.append(pair.step(scenes[-1], Actions(**acts), hold))
        ended = ended or (len(scenes) - 1 if getattr(scenes[-1], falls).over else 0)
    pair.close()
    fell = [getattr(scene, falls) for scene in scenes[ended:]]
    assert fell[0].ended and [side.rested for side in fell] == [0, 1, 2, 3, 4, *[0] * 2]
    assert all(side.frame is fell[0].frame and side.total == fell[0].total for side in fell[: hold + 1])
    assert [(side.seed, side.step) for side in fell[hold + 1 :]] == [(1, 0), (1, 1)]
    assert fell[hold + 1].total == 0 and fell[hold + 1].reward is None
    went_on = [getattr(scene, other) for scene in scenes]
    assert [(side.seed, side.step, side.over) for side in went_on] == [(0, step, False) for step in range(len(scenes))]
    assert [scene.together for scene in scenes] == [step <= ended + hold for step in range(len(scenes))]


def test_going_back_across_an_end_and_on_again_is_the_same_game():
    pair, hold = Pair(open_model(None, "InvertedPendulum", "cpu"), 1, 1000), 3
    actions = [Actions(RIGHT.dream, STILL.truth)] * 30 + [Actions(STILL.dream, LEFT.truth)] * 30
    scenes = played(pair, pair.begin(0), actions, hold)
    assert scenes[-1].seed >= 2, "both worlds ended and began again"
    for start in (5, 20, 33, 45, 60):
        again = played(pair, scenes[start], actions[start : start + 12], hold)
        for first, second in zip(scenes[start:], again, strict=False):
            for world in ("dream", "truth"):
                assert numbers(first, world) == numbers(second, world)
                np.testing.assert_array_equal(getattr(first, world).frame, getattr(second, world).frame)
    pair.close()


def test_going_back_brings_back_what_a_task_keeps_outside_of_its_physics_state():
    """dm_control's reacher moves its target when an episode begins, in the model and not in the physics state."""
    pytest.importorskip("dm_control")
    task = replace(MujocoEnv("dm_control/reacher-easy", observation="state").task, max_episode_steps=4)
    pair, push = Pair(restless_model(task), 1, 1000), np.float32([0.3, -0.3])
    scenes = played(pair, pair.begin(0), [Actions(push, push)] * 12, 1)
    begun = next(scene.step for scene in scenes if scene.truth.seed > 0)
    assert (scenes[begun].truth.frame != scenes[0].truth.frame).any()
    for start in (2, begun + 1):
        for first, second in zip(
            scenes[start:], played(pair, scenes[start], [Actions(push, push)] * 2, 1), strict=False
        ):
            assert numbers(first, "truth") == numbers(second, "truth")
            np.testing.assert_array_equal(first.truth.frame, second.truth.frame)
    pair.close()


def test_two_worlds_that_are_over_begin_together_from_one_picture():
    model = open_model(None, "InvertedPendulum", "cpu")
    pair = Pair(model, 1, 1000)
    scene, hold = pair.begin(0), 1000
    while not scene.over:
        scene = pair.step(scene, RIGHT, hold)
    total = scene.truth.total
    begun = pair.step(scene, RIGHT, hold)
    assert begun.step == scene.step + 1 and begun.together and begun.seed == begun.dream.seed == begun.truth.seed == 1
    assert begun.dream.step == begun.truth.step == begun.dream.total == 0 and begun.dream.reward is None
    truth = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=model, observation="pixels")
    np.testing.assert_array_equal(begun.truth.frame, truth.reset(seed=1)[0])
    assert total == pytest.approx(_return(truth, 0, RIGHT.truth)), "time spent looking at its last frame earns nothing"
    truth.close()
    pair.close()


def _return(env: gym.Env, seed: int, action: np.ndarray) -> float:
    """Of one episode under one action."""
    env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        _, reward, ended, cut, _ = env.step(action)
        total, over = total + reward, ended or cut
    return total


def test_both_worlds_are_cut_at_the_task_s_own_limit():
    """Reacher's dream is out of its depth after its 50 steps, and MuJoCo's own task ends there too."""
    model = open_model(None, "Reacher", "cpu")
    pair = Pair(model, 1, model.task.max_episode_steps)
    half = np.float32([0.5, 0.5])
    scenes = played(pair, pair.begin(0), [Actions(half, half)] * 52, 10)
    assert scenes[50].over and scenes[50].dream.cut and scenes[50].truth.cut and not scenes[49].over
    assert scenes[51].together and scenes[51].dream.step == scenes[51].truth.step == 0
    truth = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=model, observation="pixels")
    assert scenes[50].truth.total == pytest.approx(_return(truth, 0, half))
    truth.close()
    pair.close()


@pytest.mark.parametrize("name", ["InvertedPendulum", "Reacher"])
def test_trust_is_that_of_a_dream_which_begins_with_the_same_frame(name):
    """Its forecasts once began at another window than the dream, and distrusted it while the pictures matched."""
    model = open_model(None, name, "cpu")
    pair = Pair(model, 1, 50)
    scene = pair.begin(7)
    own = dreams_from(model, scene.truth.frame[None], "state", num_envs=1)
    _, info = own.reset(seed=0, options={"start": [0]})
    assert scene.trust == pytest.approx(float(info["trust"][0]), abs=1e-5)
    action = np.full(len(model.task.action_low), 0.1, np.float32)
    for _ in range(5):
        scene = pair.step(scene, Actions(action, action), 10)
        info = own.step(action[None])[-1]
        assert scene.trust == pytest.approx(float(info["trust"][0]), abs=1e-3)
    own.close()
    pair.close()


def test_the_dream_draws_with_the_solver_that_was_chosen():
    model, seen = open_model(None, "InvertedPendulum", "cpu"), {}
    for solver in ("euler", "unipc"):
        pair = Pair(model, 4, 50, solver)
        seen[solver] = played(pair, pair.begin(0), [STILL] * 3, 1)[-1].moment.latents
        pair.close()
    assert not np.array_equal(seen["euler"], seen["unipc"])


def test_going_back_and_the_same_steps_again_is_the_same_dream(page):
    page.paused_at_start()
    page.say("denoising", 2)  # with noise of its own
    page.until(lambda header: header["denoising"] == 2)

    def four_steps() -> list[np.ndarray]:
        seen = []
        for step, stick in enumerate(ACTIONS, 1):
            page.say("steer", [stick])
            page.say("step")
            seen.append(page.until(lambda header, step=step: header["step"] == step)[1])
        return seen

    first = four_steps()
    page.say("show", 2)
    header, frames = page.until(lambda header: header["step"] == 2)
    assert header["newest"] == 4
    np.testing.assert_array_equal(frames, first[1])
    page.say("show", 0)
    page.until(lambda header: header["step"] == 0)
    for before, after in zip(first, four_steps(), strict=True):
        np.testing.assert_array_equal(before, after)
    page.say("show", 1)
    page.say("steer", [1.0])
    page.say("step")
    header, other = page.until(lambda header: header["step"] == 2 and header["newest"] == 2)
    assert (other != first[1]).any()


def test_a_dream_resumed_elsewhere_goes_on_to_the_bit():
    """With noise of its own, and into other settings."""
    model = open_model(None, "InvertedPendulum", "cpu")
    dreams = Dreams(model, 1, denoising_steps=2)
    dreams.restart(np.zeros(1, np.int64), [np.random.default_rng(3)], [4])
    action = np.float32([[0.5]])
    for _ in range(14):
        dreams.advance(action)
    moment = dreams.moment(0)
    ahead = [(dreams.advance(action), dreams.latents.clone())[1] for _ in range(6)]
    elsewhere = Dreams(model, 1, denoising_steps=2)
    elsewhere.resume(0, moment)
    assert elsewhere.start[0] == 4 and elsewhere.elapsed[0] == 14
    for latents in ahead:
        elsewhere.advance(action)
        assert torch.equal(elsewhere.latents, latents)
    calm = Dreams(model, 1, denoising_steps=1, max_episode_steps=15)
    calm.resume(0, moment)
    assert calm.advance(action).truncated[0]


def test_the_horizon_cuts_the_dream_and_the_next_begins_by_itself(page):
    page.paused_at_start()
    page.say("horizon", 3)
    page.until(lambda header: header["horizon"] == 3)
    page.say("pause", False)
    header, _ = page.until(lambda header: header["dream"]["cut"])
    assert header["step"] == header["dream"]["step"] == 3 and not header["dream"]["ended"]
    header, _ = page.until(lambda header: header["dream"]["seed"] > 0)
    assert header["dream"]["step"] == 0 and header["dream"]["total"] == 0
    page.say("horizon", 10**6)
    assert page.until(lambda header: header["horizon"] != 3)[0]["horizon"] == 1000


def test_pause_keeps_still_and_a_new_dream_has_the_next_seed(page):
    header, _ = page.paused_at_start()
    page.say("new")
    header, first = page.until(lambda header: header["game"] == 2)
    assert header["paused"] and header["step"] == 0 and header["dream"]["seed"] == header["truth"]["seed"] == 1
    page.say("speed", 2.0)
    header, again = page.until(lambda header: header["speed"] == 2.0)
    assert header["step"] == 0
    np.testing.assert_array_equal(first, again)


def test_a_recording_is_what_was_seen(page, stage):
    frames = [page.paused_at_start()[1]]
    page.say("record", True)
    rewards = []
    for step, stick in enumerate(ACTIONS, 1):
        page.say("steer", [stick])
        page.say("step")
        header, seen = page.until(lambda header, step=step: header["step"] == step)
        frames.append(seen)
        rewards.append(header["dream"]["reward"])
    page.say("record", False)
    header, _ = page.until(lambda header: header["saved"])
    folder = stage.out / header["saved"]
    with np.load(folder / "episode.npz") as episode:
        np.testing.assert_array_equal(episode["dream_frames"], np.stack(frames)[:, 0])
        np.testing.assert_array_equal(episode["truth_frames"], np.stack(frames)[:, 1])
        for world in ("dream", "truth"):
            np.testing.assert_allclose(episode[f"{world}_actions"][:, 0], 3 * np.float32(ACTIONS))
            np.testing.assert_array_equal(episode[f"{world}_steps"], range(5))
            assert not episode[f"{world}_seeds"].any() and not episode[f"{world}_ended"].any()
        np.testing.assert_allclose(episode["dream_rewards"], rewards)
        physics = episode["truth_physics"]
    model = open_model(None, "InvertedPendulum", "cpu")
    truth = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=model, observation="pixels")
    np.testing.assert_array_equal(truth.reset(options={"physics": physics[2]})[0], frames[2][1])
    truth.close()
    with av.open(folder / "film.mp4") as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pictures) == 5 and pictures[0].shape == (4 * 64 + 28, 3 * 4 * 64, 3)
    large = frames[3][0].repeat(4, 0).repeat(4, 1).astype(float)
    assert np.abs(pictures[3][28:, :256] - large).mean() < 6, "compressed, and still the dream's frame"
    page.say("record", True)
    page.say("step")
    page.say("new")
    assert page.until(lambda header: header["game"] == 2)[0]["note"].startswith("Saved")


def test_a_recording_across_an_end_tells_the_episodes_of_each_world_apart(page, stage):
    page.paused_at_start()
    page.say("horizon", 3)
    page.say("speed", 0.1)  # and so the dream's last frame is shown for round(1.5 s * 0.1 / 0.04 s) steps
    page.say("record", True)
    views = []
    for step in range(1, 11):
        page.say("step")
        views.append(page.until(lambda header, step=step: header["step"] == step)[0])
    page.say("record", False)
    header, _ = page.until(lambda header: header["saved"])
    with np.load(stage.out / header["saved"] / "episode.npz") as episode:
        np.testing.assert_array_equal(episode["dream_steps"], [0, 1, 2, 3, 3, 3, 3, 3, 0, 1, 2])
        np.testing.assert_array_equal(episode["dream_seeds"], [0] * 8 + [1] * 3)
        np.testing.assert_array_equal(episode["dream_cut"], [False] * 3 + [True] * 5 + [False] * 3)
        still = [True] * 3 + [False] * 5 + [True] * 2
        for name in ("actions", "rewards"):
            np.testing.assert_array_equal(np.isfinite(episode[f"dream_{name}"].reshape(10)), still)
            assert np.isfinite(episode[f"truth_{name}"]).all()
        np.testing.assert_array_equal(episode["truth_steps"], range(11))
        assert np.nansum(episode["dream_rewards"][:3]) == pytest.approx(views[6]["dream"]["total"])
        assert episode["truth_rewards"].sum() == pytest.approx(views[9]["truth"]["total"])
    assert [view["together"] for view in views] == [True] * 7 + [False] * 3


def test_a_recording_longer_than_memory_is_kept_in_parts_that_join(stage):
    game = Game(stage)
    game._history._memory_bytes = 8 * game._history.shown.bytes
    game.obey(Command("record", True, None))
    for _ in range(30):
        game.advance()
    game.close()
    parts = []
    for path in stage.out.glob("*/episode.npz"):
        with np.load(path) as episode:
            parts.append((int(episode["first_step"]), len(episode["dream_rewards"])))
    parts.sort()
    assert len(parts) > 3 and parts[0][0] == 0 and sum(parts[-1]) == 30
    assert all(first + count == then for (first, count), (then, _) in pairwise(parts))


def test_what_is_being_recorded_when_the_page_goes_is_kept(address, stage):
    with socket_to(address) as opened:
        page = Page(opened)
        page.paused_at_start()
        page.say("record", True)
        page.say("step")
        page.until(lambda header: header["recording"] and header["step"] == 1)
    wait_for(lambda: list(stage.out.glob("*/episode.npz")), 5)


def test_a_recording_that_finds_no_room_is_said_and_the_game_goes_on(page, stage):
    stage.out.write_text("a file where the folder should be")
    page.paused_at_start()
    page.say("record", True)
    page.say("step")
    page.until(lambda header: header["step"] == 1)
    page.say("record", False)
    header, _ = page.until(lambda header: header["note"])
    assert str(stage.out) in header["note"] and not header["recording"]
    page.say("step")
    page.until(lambda header: header["step"] == 2)


def test_history_forgets_the_oldest_when_memory_runs_out():
    pair = Pair(open_model(None, "InvertedPendulum", "cpu"), 1, 1000)
    scene = pair.begin(0)
    history = History(memory_bytes=4 * scene.bytes)
    history.begin(scene)
    for step in range(10):
        assert history.full == (step >= 3)
        history.add(pair.step(history.shown, STILL, 5))
    assert (history.oldest, history.newest, history.shown.step) == (7, 10, 10)
    history.show(0)
    assert history.shown.step == 7
    assert [scene.step for scene in history.since(0)] == [7]
    history.show(9)
    assert [scene.step for scene in history.since(8)] == [8, 9]
    pair.close()
