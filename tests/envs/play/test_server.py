"""Strangers are refused; a page that floods, vanishes or crashes costs nobody else anything."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from procosm.benchmarks.machine.browser import wait_for
from procosm.benchmarks.machine.play_speed import serving
from procosm.benchmarks.memory import forget_peak, peak_bytes
from procosm.envs.dreams.weights import SHIPPED
from procosm.envs.play.command import PlayConfig, play
from procosm.envs.play.game import Stage
from procosm.envs.play.protocol import PlayError, parse
from procosm.envs.play.server import SEATS, PlayServer
from procosm.envs.truth import backend
from procosm.world_model.errors import CheckpointError
from procosm.world_model.files import read_tensors, write_tensors
from tests.envs.play.conftest import Page, socket_to


def get(address: str, path: str = "/", **headers: str) -> tuple[int, dict, bytes]:
    """Status, headers and body of a plain request."""
    request = urllib.request.Request(f"http://{address}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_the_page_and_its_files_are_served_and_nothing_else(address):
    status, headers, body = get(address)
    assert status == 200 and b"<canvas" in body and headers["Content-Type"].startswith("text/html")
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"") and b"https://" not in body
    for name in ("play.js", "plots.js", "play.css", "icon.svg"):
        assert get(address, f"/{name}")[0] == 200
    for path in (
        "/index.html/..",
        "/../server.py",
        "/server.py",
        "/saved/x/film.mp4",
        "/saved/../film.mp4",
        "//etc/passwd",
    ):
        assert get(address, path)[0] == 404


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://{address}", "http://127.0.0.1:1", ""])
def test_a_game_opens_from_its_own_page_only(address, origin):
    with pytest.raises(InvalidStatus, match="403"):
        socket_to(address, origin.format(address=address) or "http://")


def test_names_that_strangers_point_here_are_refused(address):
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "[::1",
        "",
        "[evil]:80",
        "8.8.8.8",
    ):
        assert get(address, Host=host)[0] == 403
    with socket.create_connection(tuple(address.split(":"))) as bare:
        bare.sendall(f"GET / HTTP/1.1\r\nHost: {address}\r\nHost: evil.example\r\n\r\n".encode())
        assert bare.recv(100).startswith(b"HTTP/1.1 403")
    assert get(address, Host="[::1]:80")[0] == 200
    assert get(address, Host=f"localhost:{address.split(':')[1]}")[0] == 200


def test_a_network_address_needs_its_token(stage):
    with serving(PlayServer(stage, token="secret")) as address:
        assert get(address)[0] == get(address, "/?token=wrong")[0] == 403
        assert get(address, "/?token=secret", Host="my.machine:7680")[0] == 200
        for name in re.findall(rb'(?:src|href)="([^"]+)"', get(address, "/?token=secret")[2]):
            assert get(address, f"/{name.decode()}")[0] == 200, "a browser asks for them without the token"
        with pytest.raises(InvalidStatus, match="403"):
            socket_to(address)
        with socket_to(address, query="?token=secret") as opened:
            assert Page(opened).welcome["task"] == "InvertedPendulum-v5"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_listening_to_a_network_must_be_asked_for(host):
    with pytest.raises(PlayError, match="--open-to-network"):
        play(PlayConfig(host=host))


def test_the_command_opens_to_a_network_with_a_token_and_ends_with_ctrl_c():
    arguments = ["play", "--host", "0.0.0.0", "--open-to-network", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "procosm.agents.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background a shell has it ignored
    ) as process:
        port, token = re.search(r":(\d+)/\?token=(\S{22})", process.stdout.readline()).groups()
        assert get(f"127.0.0.1:{port}")[0] == 403
        assert get(f"127.0.0.1:{port}", f"/?token={token}")[0] == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and errors.endswith("The page is closed.\n") and "Traceback" not in errors


def test_a_port_in_use_is_one_clear_error(address):
    port = int(address.split(":")[1])
    with pytest.raises(PlayError, match=f"port {port} is in use.*--port 0"):
        play(PlayConfig(port=port))


def test_missing_and_truncated_checkpoints_are_our_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no .*nowhere"):
        play(PlayConfig(tmp_path / "nowhere"))
    folder = shutil.copytree(SHIPPED / "InvertedPendulum", tmp_path / "world_model")
    path = folder / "tokenizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"tokenizer.safetensors is damaged"):
        play(PlayConfig(folder))


@pytest.mark.parametrize(
    "message",
    [
        "", "[]", "null", "{}", '{"do": "fly"}', '{"do": ["steer"]}', '{"do": "steer", "value": [2]}', "[" * 2000,
        '{"do": "steer", "value": []}', '{"do": "steer", "value": [NaN]}', '{"do": "steer", "value": ["1"]}',
        '{"do": "pause", "value": 1}', '{"do": "denoising", "value": 17}', '{"do": "denoising", "value": true}',
        '{"do": "horizon", "value": 0}', '{"do": "speed", "value": Infinity}', '{"do": "show", "value": -1}',
        '{"do": "step", "value": 3}', '{"do": "pilot", "value": "robot"}', '{"do": "pilot", "value": ""}',
        '{"do": "seen", "value": 1e3}',
        '{"do": "steer", "value": [0], "sent_ms": "now"}', b"\xff",
        '{"do": "speed", "value": 1' + "0" * 1900 + "}",
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused(message):
    with pytest.raises(PlayError, match="reload it"):
        parse(message)


def test_nonsense_ends_one_game_with_a_message(address):
    with socket_to(address) as bad, socket_to(address) as good:
        Page(bad)
        other = Page(good)
        bad.send('{"do": "fly"}')
        said = [each for each in bad if isinstance(each, str)]
        assert "no command" in json.loads(said[-1])["message"]
        other.view()
    with socket_to(address) as long:
        Page(long)
        with pytest.raises(ConnectionClosed):
            long.send("x" * 5000)
            for _ in range(100):
                long.recv(timeout=10)


def raw_socket(address: str) -> socket.socket:
    """A seat taken over a bare socket that nobody reads, so that it answers no ping either."""
    host, port = address.split(":")
    bare = socket.create_connection((host, int(port)), timeout=5)
    bare.sendall(
        f"GET /play HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return bare


def test_a_client_that_floods_is_put_out_and_nobody_else_notices(stage):
    server = PlayServer(stage)
    frame = bytes([0x81, 0x80 | 42]) + bytes(4) + b'{"do":"steer","value":[1],"sent_ms":1}' + b"    "
    with serving(server) as address, socket_to(address) as calm:
        page = Page(calm)
        page.view()
        with raw_socket(address) as flood:
            begun = 0
            while begun < 30_000:  # its game has opened and shown something; nothing is read after that
                begun += len(flood.recv(2**16))
            forget_peak()
            before = peak_bytes()
            flood.settimeout(0.05)
            with pytest.raises(ConnectionError):  # the server hung up
                while True:
                    with contextlib.suppress(TimeoutError):
                        flood.send(frame * 20_000)
                    page.view()
            assert (peak_bytes() - before) / 2**20 < 12
            wait_for(lambda: server.seated == 1, 5)
        page.view()


def test_a_client_that_never_says_what_it_saw_gets_few_views(page):
    with pytest.raises(TimeoutError):
        for _ in range(50):
            page.socket.recv(timeout=0.7)
    page.say("seen", 2**40)
    page.view()


def test_a_vanished_client_frees_its_seat(stage):
    server = PlayServer(stage, patience_s=0.4)
    with serving(server) as address:
        with raw_socket(address) as killed:
            wait_for(lambda: server.seated == 1, 5)
            killed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: server.seated == 0, 5)
        with raw_socket(address):  # silent, as when its network is cut
            wait_for(lambda: server.seated == 1, 5)
            wait_for(lambda: server.seated == 0, 10)


def test_the_seats_are_counted_and_given_on(stage):
    server = PlayServer(stage)
    with serving(server) as address, contextlib.ExitStack() as opened:
        seats = [opened.enter_context(socket_to(address)) for _ in range(SEATS)]
        for each in seats:
            Page(each)
        with socket_to(address) as late:
            assert "seats are taken" in json.loads(late.recv(timeout=10))["message"]
        seats[0].close()
        wait_for(lambda: server.seated == SEATS - 1, 5)
        with socket_to(address) as lucky:
            assert Page(lucky).welcome["kind"] == "welcome"


def test_one_crashed_dream_ends_with_a_message_and_the_others_go_on(tmp_path):
    """Weights damaged on disk while the server runs: the game that reads them says so."""
    folder = shutil.copytree(SHIPPED / "InvertedPendulum", tmp_path / "world_model")
    stage = Stage(folder, None, "none", tmp_path / "out", set())
    with serving(PlayServer(stage)) as address, socket_to(address) as first:
        before = Page(first)
        before.view()
        weights = folder / "dynamics.safetensors"
        good, tensors = weights.read_bytes(), read_tensors(weights)
        write_tensors(weights, {name: tensor * float("nan") for name, tensor in tensors.items()})
        with socket_to(address) as second:
            said = json.loads(second.recv(timeout=10))
            assert said["kind"] == "error" and "is damaged" in said["message"]
        (folder / "dynamics.safetensors").write_bytes(b"short")
        with socket_to(address) as third:
            assert "is damaged" in json.loads(third.recv(timeout=10))["message"]
        weights.write_bytes(good)
        for _ in range(3):
            before.view()
        with socket_to(address) as fourth:
            Page(fourth).view()


def test_where_mujoco_cannot_draw_the_same_frames_the_dream_is_played_alone(stage, monkeypatch):
    """In a process that can only cast rays, MuJoCo's frames would be other pixels than the model's."""
    monkeypatch.setattr(backend, "RENDERER", "raycast")
    with serving(PlayServer(stage)) as address, socket_to(address) as opened:
        page = Page(opened)
        assert "MUJOCO_GL=egl" in page.welcome["without_truth"]
        page.say("step")
        header, frames = page.until(lambda header: header["paused"] and header["step"] > 0)
        assert header["truth"] is header["difference"] is None and frames.shape == (1, 64, 64, 3)
        page.say("record", True)
        page.say("step")
        page.say("record", False)
        header, _ = page.until(lambda header: header["saved"])
        with np.load(stage.out / header["saved"] / "episode.npz") as episode:
            assert not [name for name in episode if name.startswith("truth")]
