"""The page itself, in a headless Chromium with real key presses that move the real dream."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from procosm.benchmarks.machine.browser import Browser, find_chromium
from procosm.benchmarks.machine.play_speed import serving
from procosm.envs.dreams.weights import SHIPPED
from procosm.envs.play.command import PlayConfig, find_stage
from procosm.envs.play.game import Stage
from procosm.envs.play.server import PlayServer
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
    game, begun = browser.value("view.game"), shown(browser, "dream")

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
    assert browser.value("view.game") == game
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
    picture = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("RGB"))
    assert picture.shape == (1688, 780, 3) and picture.std() > 20


def test_trust_is_shown_with_words_and_only_where_the_pictures_cannot_be_compared(browser, address):
    browser.open(f"http://{address}/")
    browser.wait("typeof view !== 'undefined' && view?.step > 0")
    browser.value("say('pause', true)")
    browser.wait("view.paused && !fresh")
    assert 0 <= browser.value("view.trust") <= 1 and browser.value("PLOTS.trust.figure.hidden")
    browser.value("greet({ ...welcome, without_truth: 'MuJoCo cannot draw here' }), (fresh = true), null")
    browser.wait("!PLOTS.trust.figure.hidden")
    assert "how likely MuJoCo" in browser.value("PLOTS.trust.figure.textContent")
    browser.value("series.forEach((one) => (one.trust = null)), (fresh = true), null")
    browser.wait("PLOTS.trust.figure.hidden")  # as where a checkpoint cannot tell it


def test_the_keys_are_a_dialog_that_leaves_the_pictures_and_the_focus_where_they_are(browser, address):
    browser.open(f"http://{address}/")
    browser.wait("typeof view !== 'undefined' && view?.step > 0")
    browser.value("document.querySelector('#pause').focus()")
    place = "[scrollY, document.querySelector('#dream canvas').getBoundingClientRect().top, document.activeElement.id]"
    before = browser.value(place)
    assert before[2] == "pause"
    for leave in ("Escape", "?", "Enter"):  # the last presses Close, which has the focus
        browser.press("?")
        browser.wait("document.querySelector('#keys').open && document.querySelector('#keys').matches(':modal')")
        assert browser.value(place)[:2] == before[:2]
        assert browser.value("document.activeElement.closest('dialog')?.id") == "keys"
        box = "document.querySelector('#keys').getBoundingClientRect()"
        assert browser.value(f"{box}.left") >= 0 and browser.value(f"{box}.right") <= 390
        assert browser.value(f"{box}.bottom") <= 844
        paused = browser.value("view.paused")
        browser.press("c")  # what is behind the dialog hears no key
        browser.press(leave)
        browser.wait("!document.querySelector('#keys').open")
        assert browser.value(place) == before
        assert browser.value("view.paused") == paused and not browser.value("view.recording")
    browser.press("Enter")  # and the button that has the focus again is pressed as ever
    browser.wait("view.paused")


def test_the_plots_name_their_lines_and_begin_with_no_false_zero(browser, address):
    browser.open(f"http://{address}/")
    browser.wait("typeof view !== 'undefined' && view?.step > 0")
    browser.value("say('pause', true)")
    browser.wait("view.paused")
    browser.press("Enter")
    browser.wait("view.step === 0 && view.game === 2 && !fresh")
    assert browser.value("[view.dream.reward, view.truth.reward]") == [None, None]
    assert browser.value("PLOTS.reward.figure.hidden"), "there is no reward before the first step"
    browser.press("n")
    browser.wait("view.step === 1 && !fresh")
    words = {
        name: browser.value(f"PLOTS.{name}.figure.querySelector('output').textContent")
        for name in ("reward", "end", "latency")
    }
    for name, text in words.items():
        assert "dream " in text and "MuJoCo " in text, name
    assert "policy " in words["latency"] and "1.00" in words["reward"]


@pytest.mark.parametrize("task", ["InvertedPendulum", "Reacher"])
def test_at_first_sight_the_policy_steers_and_a_motor_key_takes_over(browser, task, tmp_path):
    with serving(PlayServer(find_stage(PlayConfig(Path(task), out=tmp_path)))) as address:
        browser.open(f"http://{address}/")
        browser.wait("typeof view !== 'undefined' && view?.step > 3 && !fresh")
        assert browser.value("document.querySelector('#pilot input:checked').value") == "policy"
        assert browser.value("view.speed") == (1 if task == "InvertedPendulum" else 0.5)  # one second is soon over
        assert "to take over" in browser.value("document.querySelector('#hint').textContent")
        rows = "[...document.querySelectorAll('.motor input')].map((bar) => bar.getBoundingClientRect().width)"
        widths, room = browser.value(rows), browser.value("document.querySelector('#motors').clientWidth")
        assert all(width >= 0.95 * room for width in widths) and len(widths) == (1 if task == "InvertedPendulum" else 2)
        assert browser.value("document.documentElement.scrollWidth") == 390
        weakness = browser.value("document.querySelector('#weakness').checkVisibility() ? "
                                 "document.querySelector('#weakness').textContent : ''")  # fmt: skip
        assert ("target is pale and fades" in weakness) == (task == "Reacher") and bool(weakness) == (task == "Reacher")
        browser.press("ArrowRight")
        browser.wait("view.pilot === 'human' && document.querySelector('#pilot input:checked').value === 'human'")
        browser.wait("document.querySelector('#hint').textContent.startsWith('You steer')")
        browser.press("m")
        browser.wait("view.pilot === 'policy'")


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
