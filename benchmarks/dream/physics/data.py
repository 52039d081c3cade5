"""What the world model of the physics scenarios learns from, and what it is judged on: videos without actions.

Every draw comes from (seed, split, scenario, number). A training film is cut in three at random moments, so that one
window in twenty begins with a frame that shows no past; a film to judge by begins at a random moment and is left whole.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from procosm.benchmarks.dream.physics.film import DT_S, FRAME_SIZE, FRAMES, STATE_SIZE, Film, film
from procosm.benchmarks.dream.physics.scenarios import SCENARIOS
from procosm.envs.truth.backend import RENDERER
from procosm.envs.truth.render import VERSION
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.data.task import MAIN, Task, Twin, View, logged_signals
from procosm.world_model.provenance import provenance

CONDITION, SCORED = 9, 33
CLIP = CONDITION + SCORED
SPLITS = ("train", "holdout", "constant", "test")
SHORTEST_PIECE, LONGEST_PIECE = 14, 26
HELD_OUT = 2
"""Films of each scenario in each of the two held-out parts that training reports on."""

TASK = Task(
    id="physics",
    views=(View(MAIN, FRAME_SIZE, FRAME_SIZE),),
    action_low=(-1.0,),  # nobody acts: the one action is always zero
    action_high=(1.0,),
    action_repeat=1,
    dt_s=DT_S,
    max_episode_steps=CLIP - 1,
    signals=logged_signals(STATE_SIZE),
    twin=Twin("physics", {}, RENDERER, {MAIN: {"views": 4}}, STATE_SIZE, VERSION),
)


def draws(seed: int, split: str, name: str, number: int) -> tuple[int, ...]:
    """The seed of one film."""
    return seed, SPLITS.index(split), list(SCENARIOS).index(name), number


def first_frame(drawn: tuple[int, ...]) -> int:
    """The moment at which a film to judge by begins."""
    return int(np.random.default_rng((*drawn, 1)).integers(FRAMES - CLIP + 1))


def write_films(path: Path, videos: int, seed: int) -> Path:
    """Make the dataset: ``videos`` training films of each scenario, four cameras each; whole or not at all."""
    write_dataset(path, TASK, _episodes(videos, seed), provenance({}), env_spec="{}")
    return path


def _episodes(videos: int, seed: int) -> Iterator[tuple[Episode, np.ndarray]]:
    plan = [("train", n) for n in range(videos)]
    plan += [(kind, n) for kind in ("holdout", "constant") for n in range(HELD_OUT)]
    wanted = [(name, kind, number) for kind, number in plan for name in SCENARIOS]
    for name, kind, number in tqdm(wanted, desc="films", unit="film"):
        drawn = draws(seed, kind, name, number)
        taken = film(name, drawn)
        for part in _cuts(kind, drawn):
            yield from _cut(taken, kind, part)


def _cuts(kind: str, drawn: tuple[int, ...]) -> list[slice]:
    """The moments of a film that become one episode each."""
    if kind != "train":
        first = first_frame(drawn)
        return [slice(first, first + CLIP)]
    rng = np.random.default_rng((*drawn, 1))
    ends = np.cumsum(rng.integers(SHORTEST_PIECE, LONGEST_PIECE + 1, size=2))
    return [slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], FRAMES)]


def _cut(taken: Film, kind: str, part: slice) -> Iterator[tuple[Episode, np.ndarray]]:
    """One part of a film as an episode of each camera."""
    for frames, states in zip(taken.frames[:, part], taken.states[:, part], strict=True):
        steps = len(frames) - 1
        nothing = np.zeros((steps, 1), np.float32)
        signals = {"state": states, "reward": nothing[:, 0]}
        yield Episode(frames, nothing, False, kind, signals=signals), taken.physics[part]
