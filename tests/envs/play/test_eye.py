"""A camera that is moved: keys move the eye, the dream answers, MuJoCo shows what is seen from the commanded pose."""

from dataclasses import replace

import numpy as np
import pytest

from procosm.benchmarks.machine.browser import Browser, find_chromium
from procosm.benchmarks.machine.play_speed import serving
from procosm.envs.play.game import Stage
from procosm.envs.play.server import PlayServer
from procosm.envs.truth.gallery import FOV_Y_DEG, MOST
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.checkpoint import save
from procosm.world_model.conditioning.rays import CameraConfig
from tests.conftest import restless_model
from tests.envs.play.conftest import Page, socket_to

FORWARD = [0, 0, -1, 0, 0, 0]
LEFT = [0, 0, 0, 0, 1, 0]


@pytest.fixture(scope="module")
def task():
    env = MujocoEnv("Gallery-v0", frame_size=32, camera="eye")
    env.close()
    return env.task


@pytest.fixture
def address(task, tmp_path):
    """A server of an untrained model that is told of rays alone."""
    camera = CameraConfig(FOV_Y_DEG, task.dt_s)
    model = restless_model(task, change=lambda config: replace(config, camera=camera, acts=False))
    folder = save(tmp_path / "world_model", replace(model, resets=model.starts[:, -1]))
    with serving(PlayServer(Stage(folder, None, "no policy here", tmp_path / "out", set()))) as where:
        yield where


def steps(page: Page, stick: list[float], count: int) -> list[np.ndarray]:
    """Frames (2, H, W, 3) of the steps after the first scene, under one motion."""
    seen = []
    page.paused_at_start()
    page.say("steer", stick)
    for number in range(1, count + 1):
        page.say("step")
        header, frames = page.until(lambda header, number=number: header["step"] == number)
        assert header["stick"] == pytest.approx(stick, abs=1e-6)
        seen.append(frames)
    return seen


def test_the_server_moves_the_eye_and_the_dream_answers(address, task):
    with socket_to(address) as socket:
        page = Page(socket)
        assert "camera" in page.welcome["conditions"] and page.welcome["motors"] == 6
        header, begun = page.paused_at_start()
        ahead, still = steps(page, FORWARD, 3), steps(page, [0] * 6, 3)
    env = MujocoEnv.from_task(task)
    first, _ = env.reset(seed=header["truth"]["seed"])
    assert np.array_equal(first, begun[1])
    for (dream, truth), (other, resting) in zip(ahead, still, strict=True):
        assert np.array_equal(truth, env.step(np.array(FORWARD, np.float32) * MOST)[0])
        assert np.array_equal(resting, begun[1]), "who does not move sees a room that stands still"
        assert (dream != other).any()
    env.close()


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine: apt-get install chromium")
def test_keys_of_the_page_move_the_eye(address):
    with Browser(find_chromium(), 390, 844, phone=True) as browser:
        browser.open(f"http://{address}/")
        browser.wait("typeof view !== 'undefined' && view?.step > 0")
        browser.press(" ")
        browser.wait("view.paused && drag.length === 6")
        hint = browser.value("document.querySelector('#hint').textContent")
        assert hint.startswith("You move the eye: press W A S D, Q E, arrows")
        names = browser.value("[...document.querySelectorAll('.motor span:first-child')].map((one) => one.textContent)")
        assert names == ["Aside", "Up", "Back", "Look up", "Turn left", "Roll"]
        for key, motor, way in (
            *(("a", 0, -1), ("d", 0, 1), ("q", 1, -1), ("e", 1, 1), ("w", 2, -1), ("s", 2, 1)),
            *(("ArrowUp", 3, 1), ("ArrowDown", 3, -1), ("ArrowLeft", 4, 1), ("ArrowRight", 4, -1)),
            *(("z", 5, 1), ("x", 5, -1)),
        ):
            browser.down(key)
            wanted = [0.5 * way if i == motor else 0 for i in range(6)]
            browser.wait(f"JSON.stringify(JSON.parse(sentStick)) === '{str(wanted).replace(' ', '')}'")
            browser.up(key)
            browser.wait("sentStick === '[0,0,0,0,0,0]'")
        box = "document.querySelector('#dream canvas').getBoundingClientRect()"
        left, top, width = (browser.value(f"{box}.{side}") for side in ("left", "top", "width"))
        browser.mouse("mousePressed", left + 0.8 * width, top + 0.5 * width)
        browser.wait("Math.abs(JSON.parse(sentStick)[4] + 0.6) < 0.01")  # to the right of the picture: it turns right
        browser.mouse("mouseReleased", left + 0.8 * width, top + 0.5 * width)
        browser.value("navigator.getGamepads = () => [{ axes: [0, -0.4, 0, 0] }], null")  # a stick pushed away: forward
        browser.wait("Math.abs(JSON.parse(sentStick)[2] + 0.4) < 0.01")
        browser.value("navigator.getGamepads = () => [], null")
        before = browser.value("view.step")
        browser.down("w")
        browser.wait("JSON.parse(sentStick)[2] === -0.5")
        browser.press("n")
        browser.wait(f"view.step === {before + 1} && Math.abs(view.stick[2] + 0.5) < 0.01 && !fresh")
        browser.up("w")
        assert browser.value("document.documentElement.scrollWidth") == 390
