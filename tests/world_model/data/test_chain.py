"""The whole chain: Minari to shards, to LeRobot v3.0, to episodes; numbers to the bit, video as its codec has it."""

from dataclasses import replace

import numpy as np

from procosm.world_model.curation.curate import CurateConfig, curate
from procosm.world_model.data.datasets import load_episodes
from procosm.world_model.data.episodes import write_dataset
from procosm.world_model.data.ingest import ExportConfig, IngestConfig, export, ingest
from procosm.world_model.data.lerobot_writer import QUALITY
from procosm.world_model.data.task import Signal
from procosm.world_model.data.video import decode
from procosm.world_model.data.video_stream import encode_part
from tests.world_model.curation import scenes

TASK = replace(scenes.TASK, signals={"state": Signal((2,), "frame"), **scenes.TASK.signals})


def log(seed: int):
    episode = scenes.episode(seed, 20 + seed, TASK)
    state = np.sin(1e3 * episode.signals["proprio"]).astype(np.float32)  # every bit of its mantissa is in use
    return replace(episode, signals={**episode.signals, "state": state})


def test_minari_to_shards_to_lerobot_to_episodes(tmp_path):
    logs = [log(seed) for seed in range(4)]
    write_dataset(tmp_path / "minari", TASK, ((each, None) for each in logs), {}, None)
    (tmp_path / "minari" / "task.json").unlink()  # what Minari alone would have written
    shards = curate(CurateConfig(data=tmp_path / "minari", out=tmp_path / "shards", fps=20.0, action_logs=0))
    lerobot = export(ExportConfig(data=shards, out=tmp_path / "lerobot"))
    ours = ingest(IngestConfig(data=lerobot, out=tmp_path / "run"))
    found = {each.actions.tobytes(): each for each in load_episodes(ours)}
    assert len(found) == len(logs)
    errors = []
    for each in logs:
        there = found[each.actions.tobytes()]  # bit for bit
        for signal in ("state", "proprio", "reward"):
            np.testing.assert_array_equal(there.signals[signal], each.signals[signal], err_msg=signal)
        assert there.terminated == each.terminated
        # The error of the video is that of one pass through the codec, and no step of the chain adds to it.
        once, _ = decode(encode_part(each.frames, TASK.dt_s, QUALITY), "once")
        np.testing.assert_array_equal(there.frames, once)
        errors.append(np.square(there.frames.astype(float) - each.frames).mean())
    psnr_db = 10 * np.log10(255**2 / np.mean(errors))
    assert psnr_db > 30  # measured 31.4: tiles of all colours at half the colour's resolution
