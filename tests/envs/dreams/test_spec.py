"""Gymnasium owns the time limit of every id, and a spec makes the same environment again from anywhere."""

import dataclasses
import json
import pickle
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from minari import MinariDataset

from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.dreams.spec import NO_LIMIT, PortableSpec, with_time_limit
from procosm.envs.dreams.weights import SHIPPED
from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model.errors import TaskError

LIMITS = {"none given": (None, 7), "shorter": (3, 3), "longer": (12, 12), "without": (NO_LIMIT, None)}
MOST = 15


def lengths(env) -> tuple[list[int], list[tuple[bool, bool]]]:
    """At which of the first steps episodes ended, in all slots, and how: (terminated, truncated)."""
    env.reset(seed=0)
    ends, ways = [], []
    for step in range(1, MOST + 1):
        _, _, terminated, truncated, _ = env.step(np.zeros(env.action_space.shape, np.float32))
        assert np.all(truncated) == np.any(truncated)
        if np.any(terminated) or np.any(truncated):
            ends.append(step)
            ways.append((bool(np.any(terminated)), bool(np.all(truncated))))
            if not isinstance(env, gym.vector.VectorEnv):
                break
    return ends, ways


def remade(make, spec: EnvSpec):
    return make(EnvSpec.from_json(spec.to_json()))


@pytest.fixture
def dreams_of_seven_steps(checkpoint_of, truth_env) -> str:
    """A checkpoint on disk whose task, an ordinary one, is cut after seven steps."""
    return str(checkpoint_of(dataclasses.replace(truth_env.unwrapped.task, max_episode_steps=7)))


@pytest.mark.parametrize("case", LIMITS)
def test_gym_make_owns_the_limit_of_a_dream_and_env_spec_tells_it(linear_world, case):
    asked, expected = LIMITS[case]
    env = gym.make("procosm.envs:Procosm/World-v0", checkpoint=linear_world, max_episode_steps=asked)
    for made in (env, gym.make(env.spec)):  # a spec remembers also that there is none
        assert made.spec.max_episode_steps == expected
        assert lengths(made) == (([expected], [(False, True)]) if expected else ([], []))


def test_a_spec_can_be_given_another_limit_or_none(linear_world):
    spec = gym.make("procosm.envs:Procosm/World-v0", checkpoint=linear_world, max_episode_steps=3).spec
    assert lengths(gym.make(spec, max_episode_steps=9))[0] == [9]
    assert lengths(gym.make(spec, max_episode_steps=NO_LIMIT))[0] == []
    spec.max_episode_steps = 5
    assert lengths(gym.make(spec))[0] == [5]
    endless = gym.make(spec, max_episode_steps=NO_LIMIT).spec
    assert lengths(gym.make(endless, max_episode_steps=4))[0] == [4]
    endless.max_episode_steps = 6
    assert lengths(gym.make(endless))[0] == [6]
    assert lengths(spec.make(max_episode_steps=2))[0] == [2]


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
@pytest.mark.parametrize("case", LIMITS)
def test_make_vec_cuts_where_a_loop_over_limited_dreams_does(linear_world, case, mode):
    asked, expected = LIMITS[case]
    options = {"checkpoint": linear_world, "max_episode_steps": asked}
    env = gym.make_vec("procosm.envs:Procosm/World-v0", num_envs=2, autoreset_mode=mode, **options)
    loop = gym.make_vec(
        "procosm.envs:Procosm/World-v0", num_envs=2, vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode[mode]}, **options,
    )  # fmt: skip
    expected_ends = list(range(expected, MOST + 1, expected + (mode == "NEXT_STEP"))) if expected else []
    for made in (env, gym.make_vec(env.spec)):
        assert made.spec.max_episode_steps == expected
        assert lengths(made) == lengths(loop) == (expected_ends, [(False, True)] * len(expected_ends))


def test_a_vector_spec_can_be_given_another_limit(linear_world):
    for asked in (None, 3):
        spec = gym.make_vec("procosm.envs:Procosm/World-v0", 2, checkpoint=linear_world, max_episode_steps=asked).spec
        spec.max_episode_steps = 5
        assert lengths(gym.make_vec(spec))[0] == [5, 11]
        assert lengths(gym.make_vec(spec, max_episode_steps=4))[0] == [4, 9, 14]


@pytest.mark.parametrize("wrong", [0, -2, 2.5, "7", True, np.float64(3), [3]])
def test_other_limits_are_our_error(linear_world, wrong):
    for make in (WorldModelEnv, WorldModelVectorEnv):
        with pytest.raises(TaskError, match="max_episode_steps"):
            make(linear_world, max_episode_steps=wrong)


def test_numpys_numbers_are_limits(linear_world):
    assert lengths(WorldModelEnv(linear_world, max_episode_steps=np.int64(4)))[0] == [4]
    assert lengths(gym.make_vec("Procosm/World-v0", 1, checkpoint=linear_world, max_episode_steps=np.uint8(4)))[0] == [
        4, 9, 14,
    ]  # fmt: skip


@pytest.mark.parametrize("case", LIMITS)
def test_the_twin_is_cut_where_its_dream_is(dreams_of_seven_steps, case):
    asked, expected = LIMITS[case]
    for options in ({"checkpoint": dreams_of_seven_steps}, {"task": "Reacher-v5"}):
        own = expected if asked else {"checkpoint": 7, "task": 50}[next(iter(options))]
        env = gym.make(
            "procosm.envs:Procosm/Truth-v0", observation="state", render_mode=None, max_episode_steps=asked, **options
        )
        for made in (env, remade(gym.make, env.spec)):
            assert made.spec.max_episode_steps == own
        if "task" in options:
            assert lengths(env)[0] == [own] * (own is not None and own <= MOST)
            assert env.unwrapped.task.max_episode_steps == 50


def test_made_by_anyone_else_an_entry_point_puts_the_tasks_own_limit():
    class Endless(PortableSpec, gym.Env):
        pass

    def entry_point() -> gym.Env:
        return with_time_limit(Endless(), 7)

    assert isinstance(entry_point(), gym.wrappers.TimeLimit)


@pytest.fixture
def elsewhere(tiny_checkpoint, tmp_path, monkeypatch):
    """Ways to name a checkpoint that mean nothing from another folder, and a step into one."""
    monkeypatch.setenv("HOME", str(tiny_checkpoint.parent.parent))
    monkeypatch.chdir(tiny_checkpoint.parent)
    relative = f"{tiny_checkpoint.parent.name}/{tiny_checkpoint.name}"
    ways = {
        "path": tiny_checkpoint,
        "relative path": Path(tiny_checkpoint.name),
        "relative": tiny_checkpoint.name,
        "run": ".",
        "dotted": f"../{relative}",
        "home": f"~/{relative}",
        "home path": Path(f"~/{relative}"),
    }
    return ways, lambda: monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_spec_opens_the_same_checkpoint_from_another_folder(elsewhere, make):
    ways, leave = elsewhere
    options = {"observation": ("latent", "state"), "denoising_steps": np.int64(1), "starts": np.array([2, 3])}
    more = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP, "num_envs": 2} if make is gym.make_vec else {}
    made = {
        way: make("procosm.envs:Procosm/World-v0", checkpoint=path, **options, **more) for way, path in ways.items()
    }
    leave()
    expected = None
    for way, env in made.items():
        path = env.unwrapped.spec.kwargs["checkpoint"]
        assert isinstance(path, str) and Path(path).is_absolute() and "~" not in path and ".." not in path, way
        for spec in (pickle.loads(pickle.dumps(env.spec)), EnvSpec.from_json(env.spec.to_json())):
            assert spec == env.spec
            again = make(spec)
            observed = again.reset(seed=3)[0]
            expected = expected or observed
            assert all(np.array_equal(observed[kind], expected[kind]) for kind in expected)
            assert again.metadata.get("autoreset_mode") == env.metadata.get("autoreset_mode")


def test_a_twins_spec_opens_the_same_checkpoint_from_another_folder(truth_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(truth_checkpoint.parent.parent))
    monkeypatch.chdir(truth_checkpoint.parent)
    named = (truth_checkpoint, Path(truth_checkpoint.name), f"~/{truth_checkpoint.parent.name}/world_model")
    options = {"observation": ("latent", "state"), "render_mode": "rgb_array"}
    made = [gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=path, **options) for path in named]
    monkeypatch.chdir(tmp_path)
    for env in made:
        for spec in (pickle.loads(pickle.dumps(env.spec)), EnvSpec.from_json(env.spec.to_json())):
            assert spec == env.spec and json.loads(spec.to_json())["kwargs"]["checkpoint"] == str(truth_checkpoint)
            again = gym.make(spec)
            assert again.observation_space == env.observation_space and again.spec == env.spec


def test_devices_arrays_and_paths_are_taken_and_told_as_json_has_them(truth_checkpoint):
    camera = {"lookat": np.zeros(3), "azimuth": np.float32(90), "elevation": -45, "distance": np.float64(1.5)}
    model = Path(gym.__file__).with_name("envs") / "mujoco" / "assets" / "reacher.xml"
    for make, options in (
        (gym.make, {"id": "Procosm/World-v0", "checkpoint": truth_checkpoint, "device": torch.device("cpu")}),
        (gym.make_vec, {"id": "Procosm/World-v0", "checkpoint": truth_checkpoint, "device": torch.device("cpu")}),
        (gym.make, {"id": "Procosm/Truth-v0", "checkpoint": truth_checkpoint, "device": torch.device("cpu")}),
        (gym.make, {"id": "Procosm/ReacherTruth-v0", "camera": camera, "env_kwargs": {"xml_file": model}}),
        (gym.make, {"id": "Procosm/ReacherTruth-v0", "cameras": {"a": camera, "b": None}}),
    ):
        env = make(**options)
        spec = EnvSpec.from_json(env.spec.to_json())
        first, again = (each.reset(seed=0)[0] for each in (env, make(spec)))
        np.testing.assert_array_equal(np.stack(list(first.values())) if isinstance(first, dict) else first,
                                      np.stack(list(again.values())) if isinstance(again, dict) else again)  # fmt: skip


def test_minari_recovers_the_environment_of_a_dataset(tmp_path):
    settings = {"env": "Reacher", "frame_size": 32, "steps": 100, "processes": 1, "wide": 0.0}
    dataset = MinariDataset(collect(CollectConfig(out=tmp_path, **settings)))
    env = dataset.recover_environment()
    assert env.spec.max_episode_steps == 50 and env.observation_space == dataset.observation_space
    assert dataset.recover_environment(max_episode_steps=80).spec.max_episode_steps == 80


def test_what_ships_is_limited_as_its_tasks_are():
    expected = {"InvertedPendulum": 1000, "Reacher": 50}
    assert {path.name for path in SHIPPED.iterdir()} == set(expected)
    for name, limit in expected.items():
        assert gym.make(f"procosm.envs:Procosm/{name}-v0").spec.max_episode_steps == limit
        assert gym.make_vec(f"procosm.envs:Procosm/{name}-v0").spec.max_episode_steps == limit
