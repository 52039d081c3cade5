"""Near-duplicates: clips that show the same motion, whatever their colours, their crop or their codec."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from procosm.world_model.curation.motion import grey

MOMENTS, CELLS, SOFTNESS = 32, 3, 0.09
"""Of the embedding: moments of a clip, cells of a picture's side, and blur of its changes as a share of that side."""
SAME_ACTIONS = 0.95
"""Cosine of two clips' actions from which on they may be one recording: demonstrations of one task look alike, but a
person never moves twice in the same way."""
CLUSTER = 1000
"""Clips of a cluster on average: pairs are compared within a cluster only."""
ITERATIONS = 20
BLOCK = 256
"""Clips that are compared with all others of their cluster at once."""


def embed(frames: np.ndarray) -> np.ndarray:
    """float32 (288,) of length 1: where and when a clip (n, H, W, 3) changes.

    Brightness is stretched between its percentiles, so that colours and exposure hardly matter; its changes are
    blurred and summed in 3 by 3 cells, so that a crop or a codec's noise hardly does; and each cell's course is
    centred, so that two clips of one scene are alike only if the same things move at the same times.
    """
    import cv2

    pictures = grey(frames).astype(np.float32)
    low, high = np.percentile(pictures, (2, 98))
    pictures = np.clip((pictures - low) / max(high - low, 8.0), 0, 1)
    change = np.abs(np.diff([cv2.GaussianBlur(picture, (0, 0), 1.5) for picture in pictures], axis=0))
    softness = SOFTNESS * max(pictures.shape[1:])
    spread = [cv2.GaussianBlur(each, (0, 0), softness) for each in change]
    cells = np.stack([cv2.resize(each, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for each in spread])
    return _course(cells.reshape(len(cells), -1))


def embed_actions(actions: np.ndarray) -> np.ndarray:
    """float32 (32 a,) of length 1: the course of a clip's actions (T, a)."""
    return _course(actions.astype(np.float32))


def _course(rows: np.ndarray) -> np.ndarray:
    """(n, k) at 32 moments, each column centred, all of length 1; a course that never changes has a direction too."""
    moments = np.linspace(0, len(rows) - 1, MOMENTS)
    before = np.floor(moments).astype(int)
    share = (moments - before)[:, None]
    course = rows[before] * (1 - share) + rows[np.minimum(before + 1, len(rows) - 1)] * share
    course = course - course.mean(0)
    if float(np.linalg.norm(course)) < 1e-6:
        course[0, 0] = 1.0
    return (course / np.linalg.norm(course)).astype(np.float32).ravel()


@dataclass(frozen=True)
class Duplicate:
    """A clip that is left out: its index, that of the better one it repeats, and how alike the two are, to 1."""

    clip: int
    original: int
    likeness: float


def find_duplicates(
    embeddings: np.ndarray, acted: np.ndarray, rank: Sequence, likeness: float, seed: int = 0
) -> list[Duplicate]:
    """Clips that repeat a better one: k-means, then pairs within each cluster, the best of each group kept.

    Args:
        embeddings: (n, d), each of length 1. acted: (n, e), those of the actions.
        rank: of each clip, a key that sorts the better one first.
        likeness: cosine of embeddings from which on two clips with the same actions are one. seed: of k-means.
    """
    order = np.array(sorted(range(len(embeddings)), key=lambda clip: (rank[clip], clip)), int)
    found: list[Duplicate] = []
    for members in _clusters(embeddings, seed):
        ranked = [clip for clip in order.tolist() if clip in members]
        found += _in_cluster(embeddings, acted, np.array(ranked, int), likeness)
    return sorted(found, key=lambda each: each.clip)


def _clusters(embeddings: np.ndarray, seed: int) -> list[set[int]]:
    """k-means on the sphere, from scipy; small sets are one cluster."""
    from scipy.cluster.vq import kmeans2

    count = -(-len(embeddings) // CLUSTER)
    if count <= 1:
        return [set(range(len(embeddings)))] if len(embeddings) else []
    _, labels = kmeans2(embeddings, count, ITERATIONS, minit="++", seed=seed, missing="warn")
    return [set(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]


def _in_cluster(embeddings: np.ndarray, acted: np.ndarray, ranked: np.ndarray, likeness: float) -> list[Duplicate]:
    """Of clips in their order of rank, those that repeat one that is kept."""
    kept: list[int] = []
    found = []
    for begin in range(0, len(ranked), BLOCK):
        block = ranked[begin : begin + BLOCK]
        others = ranked[: begin + BLOCK]
        same = acted[block] @ acted[others].T >= SAME_ACTIONS
        alike = np.where(same, embeddings[block] @ embeddings[others].T, -1.0)
        for row, clip in enumerate(block.tolist()):
            places = [place for place in kept if alike[row, place] >= likeness]
            if places:
                best = max(places, key=lambda place: alike[row, place])
                found.append(Duplicate(clip, int(ranked[best]), float(alike[row, best])))
            else:
                kept.append(begin + row)
    return found
