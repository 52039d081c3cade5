"""docs/curation.md from top to bottom, on a LeRobot folder of drawn films: no reward, no simulator."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.data.lerobot_writer import code, write_lerobot
from procosm.world_model.data.logs import LogsConfig, open_logs, read_log
from tests.world_model.curation import scenes

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "curation.md").read_text(), re.DOTALL)
    for line in block.strip().splitlines()
]


def square(frames: np.ndarray) -> np.ndarray:
    """Drawn films of 48 by 64 pixels on a square of 64, as tokenizers want them."""
    return np.pad(frames, ((0, 0), (8, 8), (0, 0), (0, 0)), mode="edge")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_runs_from_a_lerobot_folder_to_a_dream(tmp_path):
    """Of all formats' signals only the robot's own state is logged."""
    view = replace(scenes.TASK.views[0], height=64)
    task = replace(scenes.TASK, views=(view,), signals={"proprio": scenes.TASK.signals["proprio"]})
    films = (scenes.episode(seed, 60) for seed in range(24))
    episodes = (
        replace(e, frames=square(e.frames), signals={"proprio": e.signals["proprio"]}, terminated=False) for e in films
    )
    write_lerobot(tmp_path / "logs" / "push", task, (code(episode, task) for episode in episodes))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "procosm"
        run = subprocess.run(
            [sys.executable, "-m", "procosm.agents.cli", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, f"{command}\n{run.stderr[-3000:]}"
    assert json.loads((tmp_path / "runs/push/data/curation.json").read_text())["kept"] >= 20
    check_judged(tmp_path / "runs/push/evaluation")
    check_played(tmp_path / "runs/push/world_model", environment)
    imagined = load_episodes(tmp_path / "runs/imagined/data")
    logs = open_logs(LogsConfig(data=tmp_path / "export/imagined"))
    for name, dream in zip(logs.names, imagined, strict=True):
        np.testing.assert_array_equal(read_log(logs, name).episode.actions, dream.actions)


def check_judged(folder: Path) -> None:
    """Held-out clips are judged by horizon, beside what must be worse, and what cannot be judged is named."""
    rows = list(csv.DictReader((folder / "open_loop.csv").read_text().splitlines()))
    methods = {row["method"] for row in rows}
    assert methods == {"dream", "shuffled actions", "copy last frame", "tokenizer"}
    psnr = [row for row in rows if row["metric"] == "psnr_db" and row["method"] == "dream"]
    assert [int(row["horizon"]) for row in psnr] == list(range(1, 33))
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in psnr)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "returns" in metrics["left_out"] and ("growth" in metrics) != ("growth" in metrics["left_out"])


def check_played(world_model: Path, environment: dict[str, str]) -> None:
    """The page opens, and the same dream as an environment steps."""
    command = [sys.executable, "-m", "procosm.agents.cli", "play", str(world_model), "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as page:
        address = re.search(r"http://\S+", page.stdout.readline()).group()
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.status == 200
        page.terminate()

    import gymnasium as gym

    env = gym.make("procosm.envs:Procosm/World-v0", checkpoint=str(world_model), reward=lambda *_: np.zeros(1))
    frame, _ = env.reset(seed=0)
    dreamt = [env.step(env.action_space.sample())[0] for _ in range(5)]
    assert frame.shape == (64, 64, 3) and all(np.isfinite(each).all() for each in dreamt)
    env.close()
