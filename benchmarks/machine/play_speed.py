"""How fast is a played dream? Pictures a second over the socket and in a browser, and what one step is spent on.

    python -m procosm.benchmarks.machine.play_speed

Everything runs on the machine that is measured: model, MuJoCo, server and browser share its cores. A dream that ends is
replaced at once, so that the pause before the next one does not count; the first picture of the next comes out of turn,
which is why a little more than real time is reached.
"""

import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from websockets.sync.client import connect
from websockets.typing import Origin

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.machine.browser import Browser, find_chromium
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.dreams.dreams import Dreams
from procosm.envs.dreams.weights import find_checkpoint
from procosm.envs.play.game import Stage
from procosm.envs.play.policy import find_policy
from procosm.envs.play.protocol import FASTEST, unpack
from procosm.envs.play.server import PlayServer
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.files import write_bytes
from procosm.world_model.settings import Count, Positive

WARM_UP = 20
BROWSER = "headless Chromium, 390 x 844, software rendering"
COUNT = """new Promise((done) => {
  let pictures = 0, last = 0;
  const began = performance.now();
  const look = () => {
    if (view.view !== last) { pictures++; last = view.view; }
    if (view.dream.ended || view.dream.cut) say("new");
    const seconds = (performance.now() - began) / 1000;
    if (seconds < SECONDS) requestAnimationFrame(look); else done(pictures / seconds);
  };
  look();
})"""


@dataclass(frozen=True)
class PlaySpeedConfig(OnDevice):
    """What to time, and for how long."""

    checkpoint: Path | None = None
    """A checkpoint or run folder; left out, the InvertedPendulum that ships."""
    seconds: Positive = 8.0
    """How long pictures are counted."""
    steps: Count = 200
    """Steps of which each part is timed."""
    out: Path = RESULTS
    """Folder of the result file."""


@contextmanager
def serving(server: PlayServer) -> Iterator[str]:
    """Serve in a thread of its own; gives host and port."""
    ready = threading.Event()
    where: dict[str, Any] = {}

    async def run() -> None:
        async with server.listen("127.0.0.1", 0) as port:
            where.update(port=port, loop=asyncio.get_running_loop(), stop=asyncio.Event())
            ready.set()
            await where["stop"].wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    if not ready.wait(20):
        raise RuntimeError("the server did not start within 20 s")
    try:
        yield f"127.0.0.1:{where['port']}"
    finally:
        where["loop"].call_soon_threadsafe(where["stop"].set)
        thread.join()


def socket_rate(address: str, seconds: float, speed: float) -> float:
    """Views a second that a page which draws nothing gets."""
    with connect(f"ws://{address}/play", origin=Origin(f"http://{address}"), compression=None, max_size=2**24) as page:
        page.recv()
        page.send(json.dumps({"do": "speed", "value": speed}))
        views, began = -WARM_UP, time.perf_counter()
        while views <= 0 or time.perf_counter() - began < seconds:
            header, _ = unpack(page.recv(decode=False))
            page.send(json.dumps({"do": "seen", "value": header["view"]}))
            if header["dream"]["ended"] or header["dream"]["cut"]:
                page.send(json.dumps({"do": "new", "value": None}))
            views += 1
            if views == 0:
                began = time.perf_counter()
        return views / (time.perf_counter() - began)


def browser_rate(address: str, path: str, seconds: float, speed: float) -> float:
    """Pictures a second that a browser on the same machine draws."""
    with Browser(path, 390, 844, phone=True) as browser:
        browser.open(f"http://{address}/")
        browser.wait("typeof view !== 'undefined' && view?.step > 2")
        browser.value(f"say('speed', {speed})")
        time.sleep(1)
        return browser.value(COUNT.replace("SECONDS", str(seconds)))


def photograph(address: str, path: str, picture: Path) -> None:
    """A picture of the page while the policy that belongs to the checkpoint plays."""
    with Browser(path, 1280, 800) as browser:
        browser.open(f"http://{address}/")
        browser.wait("typeof view !== 'undefined' && view?.step > 50", 60)
        browser.press(" ")
        browser.wait("view.paused && !fresh")
        write_bytes(picture, browser.picture())


def parts(model: WorldModel) -> dict[str, Callable[[], object]]:
    """What a step is made of, each as a function to time."""
    dreams, truth = Dreams(model, 1), MujocoEnv.from_task(model.task)
    dreams.restart(np.zeros(1, np.int64), [np.random.default_rng(0)], [0])
    frame, _ = truth.reset(seed=0)
    action = np.zeros((1, len(model.task.action_low)), np.float32)
    seen = torch.from_numpy(frame)[None, None].to(model.starts.device)
    return {
        "dynamics, one denoising step": lambda: dreams.advance(action),
        "decoder": dreams.frames,
        "encoder (only for a policy that sees MuJoCo)": torch.inference_mode()(lambda: model.tokenizer.encode(seen)),
        "MuJoCo, physics and picture": lambda: truth.step(action[0]),
    }


def milliseconds(step: Callable[[], object], count: int) -> list[float]:
    """Times of ``count`` calls after a few that are not counted."""
    times = []
    for _ in range(WARM_UP + count):
        began = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # else the next call pays for this one
        times.append(1e3 * (time.perf_counter() - began))
    return times[WARM_UP:]


def play_speed(config: PlaySpeedConfig) -> Path:
    """Time everything and write ``results/play.json``."""
    folder = find_checkpoint(config.checkpoint, "InvertedPendulum")
    model, rows = load(folder, config.device), []
    threads = torch.get_num_threads()
    common = {"task": model.task.id, "frame_size": model.task.height, "products": "float32"}
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        for name, step in parts(model).items():
            times = milliseconds(step, config.steps)
            low, high = np.percentile(times, [10, 90])
            row = {"metric": f"milliseconds of {name}", "value": statistics.median(times), "unit": "ms"}
            rows.append({**row, **common, "threads": count, "n": len(times), "low": float(low), "high": float(high)})
    torch.set_num_threads(1)  # as the command does
    real_s = 1 / model.task.dt_s
    chromium = find_chromium()
    stage = Stage(folder, None, "", Path("runs/play"), set(), config.device)
    with serving(PlayServer(stage)) as address:
        for speed in (1.0, FASTEST):
            pace: dict[str, Any] = {**common, "unit": "pictures/s", "threads": 1, "asked_for": speed * real_s}
            rate = socket_rate(address, config.seconds, speed)
            rows.append({"metric": "pictures per second over the socket", "value": rate, **pace})
            if chromium:
                rate = browser_rate(address, chromium, config.seconds, speed)
                rows.append({"metric": "pictures per second in a browser", "value": rate, "browser": BROWSER, **pace})
    interval = "value of a time is the median of n steps; low and high are the 10th and 90th percentile"
    details = {"interval": interval} | ({} if chromium else {"browser": "not measured: no Chromium here"})
    path = record("play", rows, config.out, details)
    if chromium:
        with serving(PlayServer(replace(stage, policy=find_policy(folder)))) as address:
            photograph(address, chromium, config.out / "figures" / "play.png")
    for row in rows:
        asked = f"of {row['asked_for']:.0f} asked for" if "asked_for" in row else f"{row['threads']} threads"
        print(f"{row['metric']:62} {row['value']:8.2f} {row['unit']:10} {asked}")
    return path


if __name__ == "__main__":
    command.main(play_speed, PlaySpeedConfig)
