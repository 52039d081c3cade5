"""The benchmark of a new robot: its control has actions that mean nothing, and all arms have equal steps."""

import numpy as np

from procosm.benchmarks.dream.new_robot import in_another_order, sizes
from procosm.world_model.data.episodes import Episode, load_episodes, write_dataset
from tests.conftest import simulated_task


def test_the_control_has_the_same_actions_in_another_order(tmp_path):
    task = simulated_task("Any-v0", 16, 2, actions=3)
    generator = np.random.default_rng(1)
    episode = Episode(
        frames=generator.integers(0, 256, (21, 16, 16, 3), np.uint8),
        actions=generator.uniform(-1, 1, (20, 3)).astype(np.float32),
        terminated=False,
        kind="train",
        signals={"state": np.zeros((21, 2), np.float32), "reward": np.zeros(20, np.float32)},
    )
    write_dataset(tmp_path / "data", task, [(episode, None)], {}, None)
    (mixed,) = load_episodes(in_another_order(tmp_path / "data", tmp_path / "shuffled"))
    assert np.array_equal(mixed.frames, episode.frames) and not np.array_equal(mixed.actions, episode.actions)
    assert sorted(map(tuple, mixed.actions)) == sorted(map(tuple, episode.actions))


def test_all_arms_have_equal_steps_and_the_unrolled_stage_is_never_prolonged():
    stages = sizes(400).stages
    assert stages["unroll"].extensions == 0 and stages["unroll"].growth_gate is None
    assert {stage.steps for stage in stages.values()} == {200, 400, 50}
