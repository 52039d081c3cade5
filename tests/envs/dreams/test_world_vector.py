"""The batched dream against a recurrence computed by hand, Gymnasium's own SyncVectorEnv, and itself elsewhere."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model.errors import ProcosmError, TaskError

MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
SLOTS, STEPS = 5, 40


class HandDream:
    """One dream of the linear world in plain NumPy: what every slot must do, written again from its definition."""

    def __init__(self, starts: np.ndarray, seed: int) -> None:
        self.starts, self.generator = starts, seeding.np_random(seed)[0]
        self.begin()

    def begin(self) -> np.ndarray:
        self.start = int(self.generator.integers(len(self.starts)))
        self.generator.integers(2**63)  # the seed of the noise, which the sampler's mean does not use
        self.stack = self.starts[self.start].reshape(3, 4).copy()
        self.steps = 0
        return self.state()

    def state(self) -> np.ndarray:
        return np.array([self.stack[-1, 0], self.stack[-1, 0] - self.stack[-2, 0]])

    def step(self, action: float) -> tuple[float, bool, bool]:
        push = np.array([0.5, -0.25, 0.0, 1.0])
        newest = 0.9 * self.stack[-1] + push * np.clip(action, -1, 1)
        self.stack = np.concatenate([self.stack[1:], newest[None]])
        self.steps += 1
        return float(np.clip(newest.mean(), -0.5, 0.6)), bool(newest[0] > 1.5), self.steps >= 7


def some_actions(seed: int = 0, bias: float = 0.5) -> np.ndarray:
    """(STEPS, SLOTS, 1), some of them beyond the bounds and pushed towards the end of the dream."""
    return np.random.default_rng(seed).normal(bias, 0.8, (STEPS, SLOTS, 1)).astype(np.float32)


@pytest.mark.parametrize("mode", MODES)
def test_both_autoreset_modes_do_what_a_loop_by_hand_does(linear_world, mode):
    env = WorldModelVectorEnv(linear_world, SLOTS, observation="latent", autoreset_mode=mode)
    by_hand = [HandDream(linear_world.starts.numpy(), 11 + slot) for slot in range(SLOTS)]
    observed, infos = env.reset(seed=11)
    assert infos["start"].tolist() == [dream.start for dream in by_hand]
    finished, ends = [False] * SLOTS, [0, 0]
    for actions in some_actions():
        observed, rewards, terminations, truncations, infos = env.step(actions)
        for slot, dream in enumerate(by_hand):
            if mode is AutoresetMode.NEXT_STEP and finished[slot]:
                dream.begin()
                expected = (0.0, False, False)
            else:
                expected = dream.step(actions[slot, 0])
            assert rewards[slot] == pytest.approx(expected[0], abs=1e-5)
            assert (terminations[slot], truncations[slot]) == expected[1:]
            finished[slot] = expected[1] or expected[2]
            ends[0] += expected[1]
            ends[1] += expected[2]
            if mode is AutoresetMode.SAME_STEP and finished[slot]:
                assert infos["_final_obs"][slot] and infos["_final_info"][slot]
                np.testing.assert_allclose(infos["final_obs"][slot].reshape(3, 4), dream.stack, atol=1e-5)
                np.testing.assert_allclose(infos["final_info"]["state"][slot], dream.state(), atol=1e-5)
                assert infos["final_info"]["start"][slot] == dream.start
                dream.begin()
            elif "_final_obs" in infos:
                assert not infos["_final_obs"][slot] and infos["final_obs"][slot] is None
            np.testing.assert_allclose(observed[slot].reshape(3, 4), dream.stack, atol=1e-5)
            np.testing.assert_allclose(infos["state"][slot], dream.state(), atol=1e-5)
            assert infos["start"][slot] == dream.start
    assert min(ends) >= 5, "both kinds of ending must have occurred"


def assert_same(ours, theirs) -> None:
    """Equal structure, dtypes and values, to rounding."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, tuple) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("observation", ["pixels", ("state", "latent")])
def test_equals_gymnasiums_sync_vector_env_of_single_dreams(linear_world, mode, observation):
    native = WorldModelVectorEnv(linear_world, SLOTS, observation=observation, autoreset_mode=mode)
    loop = SyncVectorEnv([lambda: WorldModelEnv(linear_world, observation=observation)] * SLOTS, autoreset_mode=mode)
    assert native.observation_space == loop.observation_space
    assert native.action_space == loop.action_space
    assert_same(native.reset(seed=3), loop.reset(seed=3))
    for actions in some_actions(seed=1):
        ours = native.step(actions)
        assert_same(ours, loop.step(actions))
        ended = ours[2] | ours[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            assert_same(native.reset(options={"reset_mask": ended}), loop.reset(options={"reset_mask": ended}))


def test_a_dream_that_ends_leaves_every_bit_of_its_neighbours(linear_world):
    """The same batch twice; in the second one slot 2 is driven into its end, early and often."""
    calm, driven = (WorldModelVectorEnv(linear_world, SLOTS, observation="latent") for _ in range(2))
    others = np.array([0, 1, 3, 4])
    first, second = calm.reset(seed=0)[0], driven.reset(seed=0)[0]
    ends = 0
    for actions in some_actions(bias=0.0):
        pushed = actions.copy()
        actions[2], pushed[2] = 0.0, 1.0
        first, _, _, _, _ = calm.step(actions)
        second, _, terminations, _, _ = driven.step(pushed)
        ends += terminations[2]
        assert np.array_equal(first[others], second[others])
    assert ends >= 3 and not np.array_equal(first[2], second[2])


def test_masked_reset_touches_the_masked_slots_only(linear_world):
    env = WorldModelVectorEnv(linear_world, SLOTS, observation="latent")
    env.reset(seed=0)
    before = env.step(some_actions()[0])[0]
    mask = np.array([False, True, False, True, False])
    after, infos = env.reset(options={"reset_mask": mask, "start": 4})
    assert np.array_equal(before[~mask], after[~mask])
    np.testing.assert_array_equal(after[mask], linear_world.starts.numpy()[[4, 4]])
    assert infos["_start"].tolist() == mask.tolist() and infos["start"].tolist() == [0, 4, 0, 4, 0]


def test_seeds_int_list_and_none(linear_world):
    env = WorldModelVectorEnv(linear_world, 3, observation="latent")
    by_int = env.reset(seed=20)[0]
    unseeded = env.reset()[0]
    assert np.array_equal(by_int, env.reset(seed=[20, 21, 22])[0])
    assert np.array_equal(unseeded, env.reset()[0]), "an unseeded reset goes on drawing from the slots' generators"
    mixed = env.reset(seed=[None, 21, None])[0]
    assert np.array_equal(mixed[1], by_int[1])
    fresh = [WorldModelVectorEnv(linear_world, 64, observation="latent").reset()[0] for _ in range(2)]
    assert not np.array_equal(*fresh)


def test_starts_are_chosen_by_option_or_by_list(linear_world):
    env = WorldModelVectorEnv(linear_world, 3, observation="latent", starts=[2, 5])
    starts = np.concatenate([env.reset(seed=seed)[1]["start"] for seed in range(10)])
    assert set(starts.tolist()) == {2, 5}
    assert env.reset(options={"start": [7, 0, 1]})[1]["start"].tolist() == [7, 0, 1]
    assert env.reset(seed=0, options={"start": [None, 9, None]})[1]["start"][1] == 9


def test_the_decoder_runs_only_for_pixels(linear_world):
    tokenizer = linear_world.tokenizer
    for observation in ("latent", "state", ("latent", "state")):
        env = WorldModelVectorEnv(linear_world, SLOTS, observation=observation, autoreset_mode="SAME_STEP")
        env.reset(seed=0)
        tokenizer.decoded = 0
        for actions in some_actions():
            env.step(actions)
        assert tokenizer.decoded == 0
    env = WorldModelVectorEnv(linear_world, SLOTS)
    env.reset(seed=0)
    tokenizer.decoded = 0
    env.step(some_actions()[0])
    assert tokenizer.decoded == SLOTS


def test_noise_belongs_to_the_slot_and_is_drawn_only_for_more_steps(linear_world):
    options = {"observation": "latent", "denoising_steps": 3, "max_episode_steps": 48}
    batch = WorldModelVectorEnv(linear_world, 3, **options)
    single = WorldModelEnv(linear_world, **options)
    plain = WorldModelVectorEnv(linear_world, 3, observation="latent")
    observed, infos = batch.reset(seed=8)
    assert_same(observed[2], single.reset(seed=10)[0])
    assert infos["start"].tolist() == plain.reset(seed=8)[1]["start"].tolist(), "starts do not depend on the sampler"
    noises = []
    for _ in range(35):
        before, (after, *_) = observed, batch.step(np.zeros((3, 1)))
        assert_same(after[2], single.step(np.zeros(1))[0])
        noises.append((after[:, -1] - 0.9 * before[:, -1]) / 0.3)
        observed = after
    noises = np.concatenate(noises).ravel()
    assert len(np.unique(noises.round(4))) > 0.95 * len(noises), "no number is drawn twice"
    # mean and variance of standard normal draws, within five standard errors
    assert abs(noises.mean()) < 5 / len(noises) ** 0.5 and abs(noises.var() - 1) < 5 * (2 / len(noises)) ** 0.5


def test_observations_and_infos_belong_to_the_caller(linear_world):
    first, second = (WorldModelVectorEnv(linear_world, 2, observation=("latent", "state")) for _ in range(2))
    for env in (first, second):
        env.reset(seed=0)
    for actions in some_actions()[:6, :2]:
        ours, theirs = first.step(actions), second.step(actions)
        assert_same(ours, theirs)
        for spoilt in (*ours[0].values(), ours[1], ours[2], ours[3], *ours[4].values()):
            spoilt[:] = 1


def test_steps_beyond_bounds_are_clipped_and_bad_actions_refused(linear_world):
    first, second = (WorldModelVectorEnv(linear_world, 2, observation="latent") for _ in range(2))
    for env in (first, second):
        env.reset(seed=0)
    assert_same(first.step(np.full((2, 1), 30.0)), second.step(np.full((2, 1), 1.0)))
    bad = {
        "shape \\(1, 2\\)": np.zeros((1, 2)),
        "shape \\(3, 1\\)": np.zeros((3, 1)),
        "index \\[1, 0\\] is nan": np.array([[0.0], [np.nan]]),
        "index \\[0, 0\\] is inf": np.array([[np.inf], [0.0]]),
        "array of numbers": [["left"], ["right"]],
    }
    for message, actions in bad.items():
        with pytest.raises(TaskError, match=message):
            first.step(actions)
    assert_same(first.step(np.zeros((2, 1))), second.step(np.zeros((2, 1))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_envs": 0},
        {"denoising_steps": 0},
        {"max_episode_steps": 0},
        {"observation": "touch"},
        {"observation": ()},
        {"observation": ("state", "state")},
        {"autoreset_mode": "sometimes"},
        {"render_mode": "human"},
        {"starts": "train"},
        {"starts": [11]},
        {"starts": [-1]},
        {"starts": [0.5]},
        {"sampling": 3},
        {"sampling": {"solver": "heun"}},
        {"sampling": {"steps": 3}},
        {"sampling": {"temperature": 0.0}},
    ],
)
def test_wrong_arguments_are_our_error(linear_world, wrong):
    with pytest.raises(TaskError):
        WorldModelVectorEnv(linear_world, **wrong)


def test_wrong_calls_are_our_error(linear_world):
    env = WorldModelVectorEnv(linear_world, 2)
    with pytest.raises(TaskError, match="call reset"):
        env.step(np.zeros((2, 1)))
    with pytest.raises(TaskError, match="first reset"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=0)
    for options in (
        {"beginning": 1},
        {"start": 11},
        {"start": [0]},
        {"reset_mask": np.zeros(2, bool)},
        {"reset_mask": [True, True]},
    ):
        with pytest.raises(TaskError):
            env.reset(options=options)
    with pytest.raises(TaskError, match="3 seeds for 2 slots"):
        env.reset(seed=[1, 2, 3])


def test_a_model_that_predicts_no_number_is_reported(linear_world):
    linear_world.starts[3] = float("nan")
    env = WorldModelVectorEnv(linear_world, 2)
    with pytest.raises(ProcosmError, match=r"slot 1.*window 3"):
        env.reset(seed=0, options={"start": [0, 3]})


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SameStep"])
def test_gymnasiums_statistics_wrapper_counts_the_episodes(linear_world, mode):
    env = RecordEpisodeStatistics(WorldModelVectorEnv(linear_world, SLOTS, observation="state", autoreset_mode=mode))
    env.reset(seed=0)
    episodes = 0
    for _ in range(50):
        _, _, _, _, infos = env.step(np.zeros((SLOTS, 1)))
        if "episode" in infos:
            assert infos["episode"]["l"][infos["_episode"]].tolist() == [7] * int(infos["_episode"].sum())
            episodes += infos["_episode"].sum()
    # No push, so every dream lasts its 7 steps; NEXT_STEP spends an eighth step on the reset.
    assert episodes == SLOTS * (50 // (8 if mode == "NEXT_STEP" else 7))


def test_render_decodes_the_newest_latents(linear_world):
    env = WorldModelVectorEnv(linear_world, 2, observation="latent", render_mode="rgb_array")
    observed, _ = env.reset(seed=0)
    frames = env.render()
    assert [frame.shape for frame in frames] == [(40, 40, 3)] * 2 and env.metadata["render_fps"] == 25
    brightness = np.round(observed[:, -1, 0] * 20 + 128)
    np.testing.assert_array_equal(np.stack(frames)[:, ::20, ::20, 1], brightness)
    assert WorldModelVectorEnv(linear_world, 2).render() is None


DREAM = """
import sys, hashlib, numpy as np
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
for steps in (1, 3):
    env = WorldModelVectorEnv(sys.argv[1], 8, observation=("pixels", "latent"), denoising_steps=steps)
    rng, digest = np.random.default_rng(0), hashlib.sha256()
    observed, infos = env.reset(seed=4)
    for _ in range(10):
        actions = rng.uniform(-1, 1, env.action_space.shape)
        observed, rewards, terminations, _, infos = env.step(actions)
        for values in (*observed.values(), rewards, terminations, infos["state"]):
            digest.update(values.tobytes())
    print(digest.hexdigest())
"""


def test_two_processes_dream_the_same_bits(tiny_checkpoint):
    command = [sys.executable, "-c", DREAM, str(tiny_checkpoint)]
    dreams = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert dreams[0] == dreams[1] and len(set(dreams[0])) == 2


def test_make_vec_opens_the_real_model(tiny_checkpoint):
    env = gym.make_vec("procosm.envs:Procosm/World-v0", num_envs=4, checkpoint=str(tiny_checkpoint))
    assert isinstance(env, WorldModelVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observed, _ = env.reset(seed=0)
    assert observed in env.observation_space
    same = gym.make_vec(env.spec)
    assert same.num_envs == 4
    assert np.array_equal(same.reset(seed=0)[0], observed)


@pytest.mark.parametrize("drawn", [{}, {"denoising_steps": 3, "sampling": {"churn": 2.0}}], ids=str)
def test_slot_of_the_real_model_equals_the_single_env_step_by_step(tiny_checkpoint, drawn):
    """From the same latents; each step only rounds differently, because the batch is another size."""
    options = {"observation": ("latent", "state"), **drawn}
    batch = WorldModelVectorEnv(tiny_checkpoint, 6, autoreset_mode="DISABLED", **options)
    single = WorldModelEnv(batch.dreams.model, **options)
    observed, infos = batch.reset(seed=30)
    alone, info = single.reset(seed=34)
    assert infos["start"][4] == info["start"]
    assert np.array_equal(observed["latent"][4], alone["latent"])
    rng = np.random.default_rng(0)
    for _ in range(6):
        single.dreams.resume(0, batch.dreams.moment(4))
        actions = rng.uniform(-1, 1, batch.action_space.shape)
        observed, rewards, terminations, _, _ = batch.step(actions)
        alone, reward, terminated, _, _ = single.step(actions[4])
        for kind, values in alone.items():
            np.testing.assert_allclose(observed[kind][4], values, rtol=1e-4, atol=1e-4)
        assert rewards[4] == pytest.approx(reward, abs=1e-4) and terminations[4] == terminated


@pytest.mark.parametrize("num_envs", [3, 64, 100])
def test_dreams_have_the_same_bits_with_any_number_of_threads_and_leave_the_users_number_alone(num_envs):
    def dreamed(threads: int) -> list[bytes]:
        torch.set_num_threads(threads)
        env = gym.make_vec(
            "procosm.envs:Procosm/InvertedPendulum-v0", num_envs=num_envs, observation=("latent", "pixels")
        )
        shown = [env.reset(seed=0)[0]] + [env.step(np.full(env.action_space.shape, 0.5))[0] for _ in range(3)]
        assert torch.get_num_threads() == threads
        return [values.tobytes() for observed in shown for values in observed.values()]

    before = torch.get_num_threads()
    try:
        assert dreamed(1) == dreamed(2) == dreamed(3)
    finally:
        torch.set_num_threads(before)
