"""The page itself, in a headless Chromium with real key presses that move the real dream."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from procosm.benchmarks.browser import Browser, find_chromium
from procosm.benchmarks.play_speed import serving
from procosm.envs.play.game import Stage
from procosm.envs.play.server import PlayServer
from procosm.envs.weights import SHIPPED
from procosm.world_model.files import read_tensors, write_tensors

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    with Browser(find_chromium(), 390, 844, phone=True) as opened:
        yield opened


def shown(browser: Browser, world: str) -> np.ndarray:
    """(H, W, 3) the pixels in one of the page's canvases."""
    script = f"[...document.querySelector('#{world} canvas').getContext('2d').getImageData(0, 0, 64, 64).data]"
    return np.uint8(browser.value(script)).reshape(64, 64, 4)[..., :3]


def test_keys_alone_play_the_dream(browser, address):
    browser.open(f"http://{address}/")
    browser.wait("typeof view !== 'undefined' && view?.step > 1")
    browser.press(" ")
    browser.wait("view.paused")
    browser.press("Enter")
    browser.wait("view.step === 0 && view.paused && !fresh")
    seed, begun = browser.value("view.seed"), shown(browser, "dream")

    def pushed(key: str) -> np.ndarray:
        """The dream after three steps with an arrow held down."""
        browser.down(key)
        browser.wait(f"sentStick === '[{'' if key == 'ArrowRight' else '-'}0.5]'")
        for number in (1, 2, 3):
            browser.press("n")
            browser.wait(f"view.step === {number} && !fresh")
        browser.up(key)
        seen = shown(browser, "dream")
        np.testing.assert_array_equal(shown(browser, "difference"), np.abs(seen.astype(int) - shown(browser, "truth")))
        assert browser.value("view.stick[0]") == (0.5 if key == "ArrowRight" else -0.5)
        for number in (2, 1, 0):
            browser.press("b")
            browser.wait(f"view.step === {number} && !fresh")
        np.testing.assert_array_equal(shown(browser, "dream"), begun)
        return seen

    right, left = pushed("ArrowRight"), pushed("ArrowLeft")
    cart = np.arange(64)

    def place(frame: np.ndarray) -> float:
        """Where the yellow cart is, in pixels from the left."""
        yellow = (frame[..., 0] > 100) & (frame[..., 2] < 80)
        return float((yellow.sum(0) * cart).sum() / yellow.sum())

    assert place(right) > place(begun) + 0.3 > place(left) + 0.6, "the keys move the cart their way"
    assert browser.value("view.seed") == seed
    browser.press("c")
    browser.wait("view.recording && document.querySelector('#record').ariaPressed === 'true'")
    browser.press(" ")
    browser.wait("!view.paused && view.step > 1")
    browser.press("c")
    browser.wait("document.querySelectorAll('#note a').length === 2")
    assert browser.value("fetch(document.querySelector('#note a').href).then((answer) => answer.status)") == 200


def test_pointers_and_gamepads_steer_by_degrees(browser, address):
    browser.open(f"http://{address}/")
    browser.wait("typeof view !== 'undefined' && view?.step > 0")
    browser.press(" ")
    browser.wait("view.paused && drag.length === 1")
    box = "document.querySelector('#dream canvas').getBoundingClientRect()"
    left, top, width = (browser.value(f"{box}.{side}") for side in ("left", "top", "width"))
    browser.mouse("mousePressed", left + 0.5 * width, top + 50)
    browser.mouse("mouseMoved", left + 0.8 * width, top + 60)
    browser.wait("Math.abs(JSON.parse(sentStick)[0] - 0.6) < 0.01")
    browser.press("n")
    browser.wait("Math.abs(view.stick[0] - 0.6) < 0.01")
    browser.mouse("mouseReleased", left + 0.8 * width, top + 60)
    browser.wait("sentStick === '[0]'")
    browser.value("navigator.getGamepads = () => [null, { axes: [-0.4, 0.9] }], null")  # there is no pad to plug in
    browser.wait("sentStick === '[-0.4]'")
    browser.value("navigator.getGamepads = () => [{ axes: [0.05, 0] }], null")
    browser.wait("sentStick === '[0]'")


def test_it_fits_a_phone_and_names_its_controls(browser, address):
    browser.open(f"http://{address}/")
    browser.wait("typeof view !== 'undefined' && view?.step > 0")
    assert browser.value("document.documentElement.scrollWidth") == 390
    assert browser.value("document.querySelector('#transport').getBoundingClientRect().bottom") <= 844
    nameless = """[...document.querySelectorAll('button, input')].filter((one) => !(one.ariaLabel
        || one.textContent.trim() || [...one.labels].some((label) => label.textContent.trim()))).length"""
    assert browser.value(nameless) == 0
    reached = set()
    for _ in range(16):
        browser.press("Tab")
        reached.add(browser.value("document.activeElement.id || document.activeElement.name"))
    assert reached >= {"help", "pilot", "back", "pause", "step", "new", "record", "horizon", "denoising", "speed"}
    strangers = "performance.getEntriesByType('resource').filter((one) => !one.name.startsWith(location.origin)).length"
    assert browser.value(strangers) == 0
    trust = "[...document.querySelectorAll('#plots figure')].find((one) => one.textContent.startsWith('Trust')).hidden"
    browser.wait(f"!{trust}")  # the weights that ship tell their trust
    assert 0 <= browser.value("view.trust") <= 1
    browser.value("say('pause', true)")
    browser.wait("view.paused && !fresh")
    browser.value("series.forEach((one) => (one.trust = null)), (fresh = true), null")
    browser.wait(trust)  # as where a checkpoint cannot
    picture = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("RGB"))
    assert picture.shape == (1688, 780, 3) and picture.std() > 20


def test_a_crashed_dream_is_a_message_and_a_button_begins_again(browser, tmp_path: Path):
    folder = tmp_path / "world_model"
    folder.mkdir()
    for path in (SHIPPED / "InvertedPendulum").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "dynamics.safetensors"
    good, tensors = weights.read_bytes(), read_tensors(weights)
    write_tensors(weights, {name: tensor * float("nan") for name, tensor in tensors.items()})
    with serving(PlayServer(Stage(folder, None, "none", tmp_path / "out", set()))) as address:
        browser.open(f"http://{address}/")
        browser.wait("document.querySelector('#banner')?.hidden === false")
        assert "is damaged" in browser.value("document.querySelector('#banner p').textContent")
        weights.write_bytes(good)
        browser.value("document.querySelector('#again').click()")
        browser.wait("document.querySelector('#banner').hidden && view?.step > 1")
    browser.wait("!document.querySelector('#banner').hidden")
    assert "procosm play still running" in browser.value("document.querySelector('#banner p').textContent")
