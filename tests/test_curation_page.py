"""docs/curation.md from top to bottom, on a LeRobot folder of drawn films."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from procosm.world_model.data.lerobot_writer import write_lerobot
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
    task = replace(scenes.TASK, views=(replace(scenes.TASK.views[0], height=64),))
    episodes = (replace(scenes.episode(seed, 60), terminated=False) for seed in range(24))
    write_lerobot(tmp_path / "logs" / "push", task, (replace(e, frames=square(e.frames)) for e in episodes))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "procosm"
        run = subprocess.run(
            [sys.executable, "-m", "procosm.agents.cli", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, f"{command}\n{run.stderr[-3000:]}"
    assert json.loads((tmp_path / "shards/push/curation.json").read_text())["kept"] >= 20

    import gymnasium as gym

    env = gym.make(
        "procosm.envs:Procosm/World-v0", checkpoint=str(tmp_path / "runs/push/world_model"), reward=lambda *_: 0.0
    )
    frame, _ = env.reset(seed=0)
    dreamt = [env.step(env.action_space.sample())[0] for _ in range(5)]
    assert frame.shape == (64, 64, 3) and all(np.isfinite(each).all() for each in dreamt)
    env.close()
