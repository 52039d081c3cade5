"""The server of ``procosm play``: one page, its seats, and who may sit down.

A browser lets any web site open a WebSocket to this machine, so a connection must come from the page served here: its
Origin must be the address it asks for. On loopback that address must be a loopback name as well, which stops names
that strangers make point here. Where the server listens to a network, a token in the address takes that part.
"""

import asyncio
import contextlib
import errno
import hmac
import http
import ipaddress
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from procosm.envs.play.game import Stage
from procosm.envs.play.protocol import MESSAGE_BYTES, PlayError, parse
from procosm.envs.play.record import EPISODE, FILM
from procosm.envs.play.session import Session

SEATS = 4
"""Games at once: each takes a thread, a renderer and a history."""
MESSAGES_PER_S, BURST = 400, 2000
"""What a page may send for long, and at once; a hand on a stick and sixty pictures a second make 120 messages."""
FULL_S = 0.005
"""How long a message waits before it is offered again to a game whose queue is full."""
PATIENCE_S = 10.0
"""A page that does not answer a ping for so long has vanished."""
PAGE = Path(__file__).with_name("page")
GAME = "/play"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
    ".npz": "application/zip",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a name or address can only be this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


class PlayServer:
    """Serves the page and a game to each that opens it.

    Args:
        stage: what is played.
        token: what the address must hold; empty where only this machine can connect.
        patience_s: seconds without an answer after which a page counts as gone.
    """

    def __init__(self, stage: Stage, token: str = "", patience_s: float = PATIENCE_S) -> None:
        self._stage, self._token, self._patience_s = stage, token, patience_s
        self._files = {f"/{path.name}": path for path in PAGE.iterdir()}
        self._files["/"] = self._files.pop("/index.html")
        self.seated = 0

    @contextlib.asynccontextmanager
    async def listen(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the context lasts; gives the port, which is chosen where ``port`` is 0.

        Raises:
            PlayError: the port is taken, or this machine cannot listen there.
        """
        try:
            server: Server = await serve(
                self._sit_down,
                host,
                port,
                process_request=self._answer,
                compression=None,  # frames are sent faster than they are compressed
                max_size=MESSAGE_BYTES,
                max_queue=8,
                ping_interval=self._patience_s,
                ping_timeout=self._patience_s,
                close_timeout=1,
                server_header=None,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                why = f"port {port} is in use, perhaps by another `procosm play`: --port 0 takes any that is free"
            else:
                why = f"cannot listen on {host}, port {port}: {error.strerror or error}"
            raise PlayError(why) from error
        async with server:
            yield server.sockets[0].getsockname()[1]

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse strangers; answer with a file, or let a WebSocket open."""
        asked, _, query = request.path.partition("?")
        why = self._refusal(request, asked, query)
        if why:
            return connection.respond(http.HTTPStatus.FORBIDDEN, f"{why}\n")
        if asked == GAME:
            return None
        path = self._file(asked)
        if path is None:
            return connection.respond(http.HTTPStatus.NOT_FOUND, "There is no such page; the game is at /\n")
        body = path.read_bytes()
        about = {"Content-Type": TYPES[path.suffix], "Content-Length": str(len(body)), "Connection": "close"}
        headers = Headers({**HEADERS, **about})
        return Response(http.HTTPStatus.OK, "OK", headers, body)

    def _file(self, path: str) -> Path | None:
        """A file of the page, or of a dream recorded since the server began."""
        parts = path.split("/")
        if len(parts) == 4 and parts[1] == "saved" and parts[2] in self._stage.saved and parts[3] in (FILM, EPISODE):
            return self._stage.out / parts[2] / parts[3]
        return self._files.get(path)

    def _refusal(self, request: Request, asked: str, query: str) -> str:
        """Why a request is refused; empty where it is not."""
        host = _only(request, "Host")
        name = re.fullmatch(r"(\[[^\]]+\]|[^:]+)(:\d+)?", host)
        if not name or not (self._token or is_loopback(name[1])):
            return f"this server answers to names of this machine only, not to {host!r}"
        if asked == GAME and _only(request, "Origin") != f"http://{host}":
            return "a game is opened by the page served here, not by another site"
        given = parse_qs(query).get("token", [""])[0]
        # Style and script of the page are no secret, and a browser asks for them without the token.
        public = asked != "/" and asked in self._files
        if self._token and not public and not hmac.compare_digest(given.encode(), self._token.encode()):
            return "the address lacks its token: open the address that `procosm play` printed"
        return ""

    async def _sit_down(self, connection: ServerConnection) -> None:
        """One page's game, from the open socket to the free seat."""
        if self.seated >= SEATS:
            text = f"All {SEATS} seats are taken: close another page of this server and begin again."
            await _send(connection, json.dumps({"kind": "error", "message": text}))
            return
        self.seated += 1
        loop = asyncio.get_running_loop()
        session = Session(
            self._stage,
            post=lambda data: asyncio.run_coroutine_threadsafe(_send(connection, data), loop),
            hang_up=lambda: asyncio.run_coroutine_threadsafe(connection.close(), loop),
        )
        session.start()
        try:
            await _listen(connection, session)
        except PlayError as error:
            await _send(connection, json.dumps({"kind": "error", "message": str(error)}))
        finally:
            await asyncio.to_thread(session.close)
            self.seated -= 1


def _only(request: Request, header: str) -> str:
    """The value of a header that stands there once; otherwise empty."""
    values = request.headers.get_all(header)
    return values[0] if len(values) == 1 else ""


async def _listen(connection: ServerConnection, session: Session) -> None:
    """Hand a page's wishes to its game until the page goes.

    Raises:
        PlayError: it sends what is no command, or too much.
    """
    spare, then_s = float(BURST), time.monotonic()
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            now_s = time.monotonic()
            spare, then_s = min(BURST, spare + MESSAGES_PER_S * (now_s - then_s)) - 1, now_s
            if spare < 0:
                raise PlayError(f"a page sent more than {MESSAGES_PER_S} messages a second: reload it")
            wish = parse(message)
            while session.playing and not session.offer(wish):
                await asyncio.sleep(FULL_S)


async def _send(connection: ServerConnection, data: str | bytes) -> None:
    # A page may go at any moment; that it did is noticed where messages are received.
    with contextlib.suppress(ConnectionClosed):
        await connection.send(data)
