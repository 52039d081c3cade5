"""Does a dream show what is to be seen from where its camera is sent?

    python -m procosm.benchmarks.dream.camera --out runs/bench/camera

A camera is moved through a room that stands still (``Gallery-v0``). World models learn from the same logs, told of its
motion as Plücker rays, as the action's embedding, or not at all. Held-out motions then send the camera along, and every
generated frame is compared with MuJoCo's picture from the commanded pose, beside the last frame that was given: by
PSNR and SSIM, and by the pose that known landmarks say it is seen from (``camera_pose``). ``low`` and ``high`` are 95 %
intervals over windows.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.open_loop import choose_windows, open_loop
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.camera_pose import pose_rows
from procosm.benchmarks.dream.fidelity.ssim import ssim
from procosm.benchmarks.dream.views import films_of, real_films
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.truth.gallery import FOV_Y_DEG
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model import checkpoint, command
from procosm.world_model.conditioning.rays import CameraConfig
from procosm.world_model.data.episodes import is_whole, load_episodes, load_task
from procosm.world_model.settings import Count
from procosm.world_model.threads import one_thread
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.train import TrainConfig, train

FRAME = 32
HORIZONS = (1, 4, 8, 16)
UNITS = {"psnr_db": "dB", "ssim": "1"}
ARMS: dict[str, dict[str, bool]] = {
    "rays": {"acts": False, "rays": True},
    "actions": {"acts": True, "rays": False},
    "told nothing": {"acts": False, "rays": False},
}


@dataclass(frozen=True)
class CameraBenchConfig(OnDevice):
    """How much is logged and learned."""

    out: Path
    """Folder for data and checkpoints; what is finished there is not made again."""
    result: Path = RESULTS / "camera.json"
    """Where the result goes."""
    logged: Count = 6000
    """Steps of the camera, a tenth of them held out."""
    steps: Count = 2000
    """Of the main stage of training."""
    seeds: Count = 1
    """Of training, from 0 up."""
    windows: Count = 48
    """Held-out windows that judge."""


def sizes(steps: int, dt_s: float, acts: bool, rays: bool) -> Preset:
    """The small preset for frames of 32 pixels, told what an arm is told."""
    small = preset("small")
    dynamics = replace(
        small.dynamics,
        acts=acts,
        camera=CameraConfig(FOV_Y_DEG, dt_s) if rays else None,
    )
    made = replace(small, tokenizer=replace(small.tokenizer, latent_channels=12, linear_path=True), dynamics=dynamics)
    made = made.with_stage("tokenizer", steps=max(1, steps // 4), batch=24)
    made = made.with_stage("state_head", steps=max(1, steps // 2), batch=64)
    made = made.with_stage("manifold", steps=max(1, steps // 2), batch=128)
    made = made.with_stage("diffusion", steps=steps, batch=32)
    return made.with_stage("unroll", steps=max(1, steps // 8), batch=16, growth_gate=None, extensions=0)


@one_thread()
def measure(config: CameraBenchConfig) -> Path:
    """Train all arms, judge them, and write what came of it; after each seed what there is so far."""
    data = config.out / "data"
    if not is_whole(data):
        collect(
            CollectConfig(
                env="Gallery-v0", out=config.out, steps=config.logged, frame_size=FRAME, camera=("eye",), wide=0.0,
                constant=0.0, policy="noise:1", processes=1,
            )
        )  # fmt: skip
    task = load_task(data)
    held_out = [episode for episode in load_episodes(data) if episode.kind == "holdout"]
    windows = choose_windows(held_out, 3, max(HORIZONS), config.windows, 0)
    env = MujocoEnv.from_task(task)
    rows: list[dict[str, Any]] = []
    written = config.result
    for seed in range(config.seeds):
        films: dict[str, np.ndarray] = {}
        for arm, told in ARMS.items():
            out = config.out / f"{arm.replace(' ', '-')}-seed{seed}" / "world_model"
            if not checkpoint.is_model(out):
                asks = TrainConfig(data=data, out=out, seed=seed, device=config.device)
                train(asks, sizes(config.steps, task.dt_s, **told))
            model = checkpoint.load(out, config.resolved())
            for row in open_loop(model, windows, None, 0, {"ssim": lambda seen, true, last: ssim(seen, true)}):
                if row["metric"] in UNITS and row["horizon"] in HORIZONS:
                    unit = UNITS[str(row["metric"])]
                    rows.append({"task": task.id, "arm": arm, "seed": seed, **row, "unit": unit})
            films = films or real_films(model, windows)
            films[arm] = films_of(model, windows)
        rows += [{"task": task.id, "seed": seed, **row} for row in pose_rows(env, films, windows, HORIZONS, 0)]
        details = {"logged": config.logged, "steps": config.steps, "seeds": seed + 1}
        written = record(config.result.stem, rows, config.result.parent, details)
    env.close()
    return written


if __name__ == "__main__":
    command.main(measure, CameraBenchConfig)
