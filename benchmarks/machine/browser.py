"""A headless Chromium, driven over its DevTools protocol: enough to look at a page and to press real keys in it."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio",
         "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0")  # fmt: skip
KEYS = {" ": "Space", "Enter": "Enter", "ArrowLeft": "ArrowLeft", "ArrowRight": "ArrowRight", "ArrowUp": "ArrowUp",
        "ArrowDown": "ArrowDown", "Tab": "Tab", "Escape": "Escape", "?": "Slash"}  # fmt: skip
CODES = {" ": 32, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9,
         "Escape": 27, "?": 191}  # fmt: skip


def find_chromium() -> str | None:
    """The path of a Chromium on this machine, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One Chromium with one page.

    Args:
        path: of the program. width, height: of the page in CSS pixels. dark: whether it prefers dark colours.
        phone: whether it is a touch screen with two device pixels for each CSS pixel.
    """

    def __init__(
        self, path: str, width: int = 1200, height: int = 900, dark: bool = False, phone: bool = False
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._numbers = itertools.count(1)
        self._open = contextlib.ExitStack()
        address = f"ws://127.0.0.1:{self._port()}{self._path}"
        self._socket = self._open.enter_context(connect(address, max_size=None, open_timeout=20))
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._page = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.shape(width, height, phone)
        self.do(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def shape(self, width: int, height: int, phone: bool = False) -> None:
        """Make the page another size."""
        scale = 2 if phone else 1
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _port(self) -> int:
        """The port that Chromium chose, once it has written it down."""
        file = Path(self._folder.name) / "DevToolsActivePort"
        wait_for(lambda: file.is_file() and file.read_text(encoding="utf-8").count("\n") >= 1, 30)
        port, self._path = file.read_text(encoding="utf-8").split("\n")[:2]
        return int(port)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._answer({"method": method, "params": parameters})

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a DevTools method on the page; returns its result."""
        return self._answer({"method": method, "params": parameters, "sessionId": self._page})

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, **message}))
        while True:
            answer = json.loads(self._socket.recv(timeout=30))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{message['method']}: {answer['error']['message']}")
                return answer["result"]

    def open(self, url: str) -> None:
        """Go to a page."""
        self.do("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript is in the page."""
        result = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, script: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true in the page."""
        wait_for(lambda: self.value(script), seconds, script)

    def down(self, key: str) -> None:
        """Press a key and keep it down."""
        code = KEYS.get(key) or f"Key{key.upper()}"
        number = CODES.get(key) or ord(key.upper())
        text = {"Enter": "\r", "Tab": ""}.get(key, key if len(key) == 1 else "")
        self.do("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", key=key, code=code, text=text,
                windowsVirtualKeyCode=number)  # fmt: skip

    def up(self, key: str) -> None:
        """Let a key go."""
        code = KEYS.get(key) or f"Key{key.upper()}"
        self.do("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        self.down(key)
        self.up(key)

    def mouse(self, event: str, x: float, y: float) -> None:
        """A mouse event at a place: ``mousePressed``, ``mouseMoved`` or ``mouseReleased``, with the left button."""
        self.do("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", buttons=1, clickCount=1)

    def picture(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"])


def wait_for(true: Callable[[], Any], seconds: float, what: str = "it") -> None:
    """Wait until ``true()`` holds.

    Raises:
        TimeoutError: it did not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)
