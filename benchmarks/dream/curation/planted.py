"""Faults with a known answer, planted in video that has none of them.

Every function takes frames (n, H, W, 3) uint8, and where it needs them actions (n - 1, a), and a generator.
"""

import io

import av
import numpy as np

Clip = tuple[np.ndarray, np.ndarray]


def frozen(frames: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> Clip:
    """The picture stands still for a third of the clip, as when a camera stalls, and then goes on where it should."""
    length = len(frames) // 3
    begin = int(rng.integers(1, len(frames) - length))
    stalled = frames.copy()
    stalled[begin : begin + length] = frames[begin]
    return stalled, actions


def shaky(frames: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> Clip:
    """Each frame is moved by up to 4 % of its width, at random."""
    most = max(2, round(0.04 * frames.shape[2]))
    moves = rng.integers(-most, most + 1, (len(frames), 2))
    padded = np.pad(frames, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    height, width = frames.shape[1:3]
    return np.stack(
        [f[most + y : most + y + height, most + x : most + x + width] for f, (y, x) in zip(padded, moves, strict=True)]
    ), actions


def blurred(frames: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> Clip:
    """A lens out of focus: a Gaussian of 2 to 4 % of the width."""
    import cv2

    sigma = float(rng.uniform(0.02, 0.04)) * frames.shape[2]
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]), actions


def dark(frames: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> Clip:
    """A tenth to a quarter of the light, with a sensor's noise."""
    lit = frames * float(rng.uniform(0.1, 0.25)) + rng.normal(0, 2, frames.shape)
    return lit.clip(0, 255).astype(np.uint8), actions


def skewed(frames: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> Clip:
    """Actions lie two to five steps early or late."""
    return frames, np.roll(actions, int(rng.integers(2, 6)) * int(rng.choice([-1, 1])), axis=0)


def shuffled(frames: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> Clip:
    """Actions in any order."""
    return frames, rng.permutation(actions)


def recoloured(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another white balance, contrast, and brightness."""
    gains, gamma = rng.uniform(0.7, 1.3, 3), float(rng.uniform(0.7, 1.4))
    return (255 * (frames / 255 * gains).clip(0, 1) ** gamma).astype(np.uint8)


def cropped(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window of 85 to 95 % of each side, at the old size."""
    import cv2

    height, width = frames.shape[1:3]
    share = float(rng.uniform(0.85, 0.95))
    high, wide = round(height * share), round(width * share)
    y, x = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return np.stack([cv2.resize(f[y : y + high, x : x + wide], (width, height)) for f in frames])


def reencoded(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through H.264 at a quality that one sees."""
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": str(rng.integers(28, 36))})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    memory.seek(0)
    with av.open(memory, "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


FAULTS = {
    "frozen": frozen,
    "shaky": shaky,
    "blurred": blurred,
    "dark": dark,
    "time-skewed": skewed,
    "action-shuffled": shuffled,
}
COPIES = {"recolour": recoloured, "crop": cropped, "re-encode": reencoded}
