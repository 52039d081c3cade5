"""Every kind of post-trained model is an environment by its folder alone, keeps to the contract, plays in the browser,
and says what it is told.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from procosm.benchmarks.machine.browser import Browser, find_chromium
from procosm.benchmarks.machine.play_speed import serving
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.play.game import Stage
from procosm.envs.play.server import PlayServer
from procosm.envs.truth.gallery import FOV_Y_DEG
from procosm.envs.truth.tabletop import INSTRUCTIONS
from procosm.world_model import checkpoint
from procosm.world_model.conditioning.rays import CameraConfig
from procosm.world_model.conditioning.text import TextConfig
from procosm.world_model.data.episodes import load_task
from procosm.world_model.data.task import Task
from procosm.world_model.training.post import PostTrainConfig, post_train
from procosm.world_model.training.presets import preset
from tests.conftest import restless_model, simulated_task
from tests.envs.play.conftest import Page, socket_to
from tests.envs.test_registered import checked

STAGES = {name: replace(stage, steps=2) for name, stage in preset("debug").stages.items() if name != "tokenizer"}


@dataclass(frozen=True)
class Kind:
    """One kind: what is logged, what it begins from, how it is post-trained, and what it is told then.

    Attributes:
        change: of the config of the base's dynamics. other: the base is of another robot, of so many actions.
    """

    env: str
    conditions: frozenset[str]
    asked: dict[str, Any]
    cameras: tuple[str, ...] = ()
    change: Callable[[Any], Any] = lambda config: config
    other: int = 0


def rays(config: Any) -> Any:
    return replace(config, camera=CameraConfig(FOV_Y_DEG, 0.1), acts=False)


def words_alone(config: Any) -> Any:
    return replace(config, text=TextConfig(), acts=False)


KINDS = {
    "text": Kind("Tabletop-v0", frozenset({"actions", "text"}), {"add": ("text",)}, ("above",)),
    "camera": Kind("Gallery-v0", frozenset({"camera"}), {}, ("eye",), rays),
    "views": Kind("Workbench-v0", frozenset({"actions", "views"}), {"add": ("views",)}, ("above", "wrist")),
    "actions": Kind(
        "Tabletop-v0",
        frozenset({"actions", "text"}),
        {"add": ("actions",), "injection": "cross-attention"},
        ("above",),
        words_alone,
    ),
    "new robot": Kind("InvertedPendulum-v5", frozenset({"actions"}), {"method": "lora", "lora_rank": 2}, other=3),
}


def base_of(kind: Kind, task: Task) -> Any:
    """What the kind begins from: of the log's own task, or of another robot."""
    known = simulated_task("Old-v0", 32, 6, actions=kind.other) if kind.other else task
    return restless_model(known, change=kind.change)


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory) -> tuple[Kind, Path]:
    """The kind, and the folder of a model of it: moved, its base and its log gone."""
    kind, home = KINDS[request.param], tmp_path_factory.mktemp("made")
    settings = {"frame_size": 32, "processes": 1, "wide": 0.0, "constant": 0.0, "holdout": 0.3, "policy": "noise:1"}
    data = collect(CollectConfig(kind.env, home / "log", steps=150, camera=kind.cameras, **settings))
    base = base_of(kind, load_task(data))
    assert base.conditions != kind.conditions or kind.other or not kind.asked
    asked = PostTrainConfig(checkpoint.save(home / "base", base), data, home / "model", device="cpu", **kind.asked)
    folder = shutil.move(post_train(asked, STAGES), tmp_path_factory.mktemp("elsewhere") / "world_model")
    shutil.rmtree(home)
    return kind, Path(folder)


def opened(folder: Path, **options: Any) -> gym.Env:
    return gym.make("procosm.envs:Procosm/World-v0", checkpoint=str(folder), **options)


@pytest.mark.filterwarnings("ignore:.*WARN")  # of the checkers, about units and small pictures
def test_it_is_an_environment_that_keeps_to_the_contract_and_says_what_it_is_told(made):
    kind, folder = made
    env = opened(folder, render_mode="rgb_array")
    assert env.unwrapped.conditions == kind.conditions
    check_env(env.unwrapped)
    checked(opened(folder, observation="state", render_mode="rgb_array").unwrapped)
    if len(kind.cameras) > 1:
        assert set(env.reset(seed=0)[0]) == set(kind.cameras)


def test_its_dreams_answer_to_what_they_are_told(made):
    kind, folder = made
    env = opened(folder, observation="latent")

    def end(way: float, options: dict[str, Any]) -> np.ndarray:
        env.reset(seed=0, options=options)
        for _ in range(3):
            seen, *_ = env.step(np.full(env.action_space.shape, way, np.float32) * env.action_space.high)
        return seen

    assert not np.array_equal(end(-1.0, {}), end(1.0, {}))
    if "text" in kind.conditions:
        first, second = ({"instruction": text} for text in (INSTRUCTIONS[0], INSTRUCTIONS[7]))
        assert np.array_equal(end(0.0, first), end(0.0, first))
        assert not np.array_equal(end(0.0, first), end(0.0, second))


def test_it_is_played_beside_mujoco(made, tmp_path):
    kind, folder = made
    stage = Stage(folder, None, "no policy here", tmp_path / "out", set())
    with serving(PlayServer(stage)) as address, socket_to(address) as socket:
        page = Page(socket)
        assert set(page.welcome["conditions"]) == kind.conditions
        _, begun = page.paused_at_start()
        page.say("step")
        _, after = page.until(lambda header: header["step"] == 1)
        assert begun.shape == after.shape and len(after) == 2 and (after[0] != begun[0]).any()


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine: apt-get install chromium")
def test_the_page_plays_it_and_names_what_it_is_told(made, tmp_path):
    kind, folder = made
    stage = Stage(folder, None, "no policy here", tmp_path / "out", set())
    with serving(PlayServer(stage)) as address, Browser(find_chromium(), 390, 844, phone=True) as browser:
        browser.open(f"http://{address}/")
        browser.wait("typeof view !== 'undefined' && view?.step > 1")
        told = browser.value("document.querySelector('#conditions').textContent")
        assert told == f"told of {' and '.join(sorted(kind.conditions))}"
