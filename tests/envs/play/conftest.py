"""A real server on a free port, and a page's side of the protocol."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from procosm.benchmarks.machine.play_speed import serving
from procosm.envs.dreams.weights import SHIPPED
from procosm.envs.play.game import Stage
from procosm.envs.play.protocol import unpack
from procosm.envs.play.server import PlayServer


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """The pendulum that ships, nobody but the human to steer it."""
    return Stage(SHIPPED / "InvertedPendulum", None, "no policy here", tmp_path / "out", set())


@pytest.fixture
def address(stage: Stage) -> Iterator[str]:
    """Host and port of a server of ``stage``."""
    with serving(PlayServer(stage)) as where:
        yield where


class Page:
    """What the page does, without a browser: says wishes, reads views, tells which it has seen."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.welcome = json.loads(socket.recv(timeout=20))

    def say(self, wish: str, value: object = None, **more: object) -> None:
        self.socket.send(json.dumps({"do": wish, "value": value, **more}))

    def view(self) -> tuple[dict, np.ndarray]:
        """The next view: header and (1 or 2, H, W, 3) frames."""
        header, frames = unpack(self.socket.recv(timeout=20))
        self.say("seen", header["view"])
        return header, frames

    def until(self, fits: Callable[[dict], bool]) -> tuple[dict, np.ndarray]:
        """The first view whose header fits."""
        for _ in range(2000):
            header, frames = self.view()
            if fits(header):
                return header, frames
        raise AssertionError("no view fits")

    def paused_at_start(self) -> tuple[dict, np.ndarray]:
        """Stop, and go back to the first scene."""
        self.say("pause", True)
        self.until(lambda header: header["paused"])
        self.say("show", 0)
        return self.until(lambda header: header["step"] == 0)


def socket_to(address: str, origin: str | None = None, query: str = "") -> ClientConnection:
    """A WebSocket to the game, from the server's own page unless another origin is given."""
    return connect(
        f"ws://{address}/play{query}", origin=origin or f"http://{address}", compression=None, max_size=2**22
    )


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """A page with a seat."""
    with socket_to(address) as socket:
        yield Page(socket)
