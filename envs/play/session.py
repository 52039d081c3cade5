"""The thread in which one visitor's game runs, and the flow between it and a page.

Nothing here grows with what a page sends or fails to read: wishes wait in a short queue, and no step is taken while
more than a few views are unseen.
"""

import contextlib
import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from procosm.envs.play.game import Game, Stage
from procosm.envs.play.protocol import Command
from procosm.world_model.errors import ProcosmError

WISHES = 64
UNSEEN_VIEWS = 4
LISTEN_S = 0.25
"""Longest wait for a wish before looking whether the page has gone."""


class Session:
    """One page's game, in a thread of its own, because models and renderers block.

    Args:
        stage: what is played.
        post: sends text or bytes to the page, called from this thread; its future is done when the socket took them.
        hang_up: closes the connection to the page.
    """

    def __init__(self, stage: Stage, post: Callable[[str | bytes], Future], hang_up: Callable[[], Future]) -> None:
        self._stage, self._post, self._hang_up = stage, post, hang_up
        self._wishes: queue.Queue[Command] = queue.Queue(WISHES)
        self._sends: deque[Future] = deque()
        self._views = self._seen = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="procosm-play", daemon=True)

    def start(self) -> None:
        """Begin to play."""
        self._thread.start()

    @property
    def playing(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def offer(self, wish: Command) -> bool:
        """Whether there was room for a page's wish; if not, offer it again a little later."""
        with contextlib.suppress(queue.Full):
            self._wishes.put_nowait(wish)
            return True
        return False

    def close(self) -> None:
        """End the game and wait until what it held is free."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with contextlib.closing(Game(self._stage)) as game:
                self._post(json.dumps(game.welcome()))
                self._play(game)
        except ProcosmError as error:
            self._fail(str(error))
        except Exception as error:
            logging.getLogger("procosm").exception("a game of procosm play crashed")
            self._fail(f"{type(error).__name__}: {error}. This is a fault in procosm; its terminal shows where")

    def _fail(self, why: str) -> None:
        """Tell the page that its game is over and give its seat back; the page may begin another."""
        if not self._closed.is_set():
            self._post(json.dumps({"kind": "error", "message": why})).add_done_callback(lambda _: self._hang_up())

    def _play(self, game: Game) -> None:
        stepped_s = time.monotonic()
        while not self._closed.is_set():
            self._obey(game, LISTEN_S if game.paused else stepped_s + game.period_s - time.monotonic())
            wait_s = game.period_s
            late_s = time.monotonic() - stepped_s - wait_s
            if not game.paused and late_s >= 0 and self._keeps_up():
                game.advance()
                # A step that is a little late does not delay the next; one that is very late does not hurry it.
                stepped_s += wait_s if late_s < wait_s else wait_s + late_s
            if game.changed and self._keeps_up():
                self._views += 1
                self._sends.append(self._post(game.view(self._views)))

    def _keeps_up(self) -> bool:
        """Whether the page draws, and its socket takes, what is sent."""
        while self._sends and self._sends[0].done():
            self._sends.popleft()
        return self._views - self._seen < UNSEEN_VIEWS and len(self._sends) < UNSEEN_VIEWS

    def _obey(self, game: Game, wait_s: float) -> None:
        """Wait for a wish, then fulfil all that are there."""
        if game.changed or not self._keeps_up():
            wait_s = 0.01  # a view is waiting to be sent
        with contextlib.suppress(queue.Empty):
            for patience_s in (min(max(wait_s, 0.0), LISTEN_S), *[0.0] * WISHES):
                wish = self._wishes.get(timeout=patience_s)
                if wish.name == "seen":
                    self._seen = min(max(self._seen, wish.value), self._views)
                else:
                    game.obey(wish)
