"""A saved policy at the wheel: it acts on what it sees of the dream, and of MuJoCo through the model's eyes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from procosm.envs.collect.policy_file import load_policy
from procosm.envs.collect.run_policy import STACK, observation_of
from procosm.envs.dreams.weights import SHIPPED
from procosm.envs.play.pair import Pair, Scene
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError

SHIPPED_POLICIES = Path(__file__).with_name("policies")
"""One zip for each world model that ships, by its name; made by ``python -m procosm.benchmarks.dream.ship_policy``."""


def find_policy(checkpoint: Path) -> Path | None:
    """The policy that belongs to a checkpoint folder: of its run, as ``procosm train-policy`` leaves it, or shipped."""
    ships = checkpoint.resolve().parent == SHIPPED
    path = SHIPPED_POLICIES / f"{checkpoint.name}.zip" if ships else checkpoint.parent / "policy" / "policy.zip"
    return path if path.is_file() else None


Opens = Callable[[Path, WorldModel, bool], Any]
"""Opens what acts, from its file, in a world model; the last says whether pickles are trusted. What it gives has
``observation_space``, ``action_space`` and ``predict``, as SB3's policies have; where it ``takes_words``, ``predict``
is told what was ``said``, a text for each observation."""


def load_saved(path: Path, model: WorldModel, trust_pickle: bool) -> Any:
    """A policy's zip, whatever the world model."""
    return load_policy(path, trust_pickle)


class SavedPilot:
    """A policy from its zip, acting without exploration.

    Which kind of observation it wants is told by its observation space: ``state`` (s,), ``features`` (f,), ``latent``
    (context, c, h, w), or three frames of ``pixels``.
    """

    def __init__(self, path: Path, model: WorldModel, trust_pickle: bool = False, opens: Opens = load_saved) -> None:
        """Open a policy.

        Raises:
            TaskError: no policy in ``path``, one for another task, or a pickle that is not trusted.
        """
        self._policy = opens(path, model, trust_pickle)
        shape, actions = self._policy.observation_space.shape, self._policy.action_space.shape
        if actions != (len(model.task.action_low),):
            raise TaskError(
                f"policy {path} gives actions {actions}, which does not fit {model.task.id}: take one that was trained "
                "in this world model"
            )
        self._kind, self._shape = observation_of(shape, model), shape
        self._takes_words = getattr(self._policy, "takes_words", False)

    def act(self, pair: Pair, scenes: Sequence[Scene], world: str) -> np.ndarray:
        """(a,) float32, what to do in a world (``dream`` or ``truth``), given the latest scenes, oldest first."""
        sides = [side for scene in scenes if (side := getattr(scene, world)) is not None]
        frames = [side.frame for side in sides if side.seed == sides[-1].seed]  # nothing of the episode before
        if self._kind == "pixels":
            seen = self._stack(frames)
        elif world == "truth":
            latents = pair.latents_of_truth(frames)
            look = latents if self._kind == "latent" else pair.model.read(self._kind, latents)
            seen = look[0].cpu().numpy()
        else:
            moment = scenes[-1].moment
            seen = moment.latents.cpu().numpy() if self._kind == "latent" else moment.read[self._kind]
        told = {"said": [scenes[-1].moment.said]} if self._takes_words else {}
        return np.asarray(self._policy.predict(seen, deterministic=True, **told)[0], np.float32)

    def _stack(self, frames: list[np.ndarray]) -> np.ndarray:
        """The last frames as channels; blank ones stand before the first."""
        blank = [np.zeros_like(frames[0])] * (STACK - len(frames))
        stacked = np.concatenate([*blank, *frames[-STACK:]], axis=-1)
        return stacked if stacked.shape == self._shape else stacked.transpose(2, 0, 1)
