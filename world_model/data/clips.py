"""Videos without anything beside them: from datasets and from video files, for what learns from frames alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.data.datasets import are_shards, load_episodes
from procosm.world_model.data.video_stream import frames_of
from procosm.world_model.errors import DatasetError

VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi")
HELD_OUT = 0.1
"""Share of each video file's frames, its last, that is held out."""


@dataclass(frozen=True)
class Clips:
    """Videos (t, H, W, 3) uint8 of any lengths and sizes: those to train on, and those held out."""

    train: list[np.ndarray]
    held_out: list[np.ndarray]


def load_clips(paths: Sequence[Path], least: int) -> Clips:
    """All videos of datasets (``procosm collect``), of shards, of video files, and of folders of these.

    Args:
        least: frames that what is held out of a video file must have; of shorter files nothing is.

    Raises:
        DatasetError: a path is none of these, or is damaged; or there is nothing.
    """
    clips = Clips([], [])
    for path in paths:
        for found in [path] if path.is_file() or _is_data(path) else _inside(path):
            if found.is_dir():
                for episode in load_episodes(found):
                    (clips.train if episode.kind == "train" else clips.held_out).append(episode.frames)
            else:
                frames = np.stack(list(frames_of(found)))
                held = round(HELD_OUT * len(frames))
                cut = len(frames) - (held if held >= least else 0)
                clips.train.append(frames[:cut])
                clips.held_out.append(frames[cut:])
    return clips


def _is_data(folder: Path) -> bool:
    return (folder / "task.json").exists() or are_shards(folder)


def _inside(folder: Path) -> list[Path]:
    """The datasets and video files in a folder, and in those below it."""
    if not folder.exists():
        raise DatasetError(
            f"there is no {folder}: give folders made by `procosm collect`, video files, or folders of them"
        )
    found = [path.parent for path in folder.rglob("task.json")]
    found += [path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS]
    if not found:
        raise DatasetError(f"{folder} holds neither a dataset nor a video ({', '.join(VIDEOS)})")
    return sorted(found)


class ClipSampler:
    """Cuts of equal size from videos, drawn as a function of seed and step alone.

    Args:
        clips: (t, H, W, 3) uint8 each; what is shorter than ``frames`` or smaller than ``height`` by ``width`` is left
            out.

    Raises:
        DatasetError: nothing is left.
    """

    def __init__(self, clips: Sequence[np.ndarray], frames: int, height: int, width: int) -> None:
        self.shape = (frames, height, width)
        self.clips = [c for c in clips if all(a >= b for a, b in zip(c.shape, self.shape, strict=False))]
        if not self.clips:
            largest = max((c.shape[:3] for c in clips), default=(0, 0, 0))
            raise DatasetError(
                f"no video has {frames} frames of {height} x {width} pixels, the largest has {largest[0]} of "
                f"{largest[1]} x {largest[2]}: give other --data, or a smaller --height and --width"
            )
        starts = np.array([len(c) - frames + 1 for c in self.clips])
        self.share = starts / starts.sum()  # every cut in time is as likely as any other

    def draw(self, count: int, seed: int, step: int) -> Tensor:
        """(count, frames, height, width, 3) uint8."""
        generator = np.random.default_rng((seed, step))
        cuts = []
        for index in generator.choice(len(self.clips), size=count, p=self.share):
            clip = self.clips[index]
            at = [generator.integers(whole - part + 1) for whole, part in zip(clip.shape, self.shape, strict=False)]
            cuts.append(clip[tuple(slice(a, a + part) for a, part in zip(at, self.shape, strict=True))])
        return torch.from_numpy(np.stack(cuts))
