"""The dream and MuJoCo side by side: both begin with the same real frame and take the same actions.

A step is a function of the scene before it, so that going back is stepping again from an earlier scene.
"""

import time
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch

from procosm.envs.dreams import Moment
from procosm.envs.mujoco import MujocoEnv
from procosm.envs.world import WorldModelEnv
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError

ENDLESS = 10**9
"""Steps of a truth env that is cut off by nothing but its dream."""


@dataclass(frozen=True)
class Side:
    """One of the two worlds after a step.

    Attributes:
        frame: (H, W, 3) uint8.
        reward: of the last step. total: of all steps so far.
        termination: probability that the last step ended the task; in MuJoCo 0 or 1.
        ended: whether it goes no further; a world that has ended keeps its last frame.
    """

    frame: np.ndarray
    reward: float = 0.0
    total: float = 0.0
    termination: float = 0.0
    ended: bool = False


@dataclass(frozen=True)
class Scene:
    """Both worlds after a step: all that is shown, and all that is needed to go on from here.

    Attributes:
        step: steps since both began.
        action: (a,) float32, in the task's units, that led here; zeros at the beginning.
        dream, truth: the two worlds; truth is None where MuJoCo cannot be shown.
        cut: whether the dream is as long as it may be.
        trust: the dream's own ``info["trust"]``; None where the environment gives none.
        moment, physics: where the dream and MuJoCo go on from.
        spent_ms: milliseconds that each part took.
    """

    step: int
    action: np.ndarray
    dream: Side
    truth: Side | None
    cut: bool
    trust: float | None
    moment: Moment
    physics: np.ndarray | None
    spent_ms: dict[str, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether the dream goes no further."""
        return self.dream.ended or self.cut

    @property
    def bytes(self) -> int:
        """Memory that keeping this scene takes, nearly."""
        return (2 if self.truth else 1) * self.dream.frame.nbytes + 2 * self.moment.latents.nbytes


class Pair:
    """A dream of a world model and the MuJoCo task it was learned from.

    Belongs to one thread: MuJoCo's renderer draws only in the thread that made it.

    Attributes:
        without_truth: why MuJoCo cannot be shown; empty where it can.
    """

    def __init__(self, model: WorldModel, denoising_steps: int, horizon: int) -> None:
        """Open both worlds; neither has begun.

        Args:
            model: the world model.
            denoising_steps: of each step of the dream.
            horizon: steps after which a dream is cut off.

        Raises:
            TaskError: an argument out of range.
        """
        self.model = model
        self._latest: Scene | None = None
        self.configure(denoising_steps, horizon)
        self._truth: MujocoEnv | None = None
        self.without_truth = ""
        try:
            truth = MujocoEnv.from_task(model.task, max_episode_steps=ENDLESS)
            truth.reset(seed=0)  # only drawing shows whether this machine can draw
            self._truth = truth
        except TaskError as error:
            self.without_truth = str(error)

    def configure(self, denoising_steps: int, horizon: int) -> None:
        """Change how the dream goes on, without beginning anew.

        Raises:
            TaskError: an argument out of range.
        """
        self._dream = WorldModelEnv(self.model, "pixels", denoising_steps, horizon)
        self._dream.reset(seed=0)
        self._latest = None

    def begin(self, seed: int) -> Scene:
        """Both worlds at the beginning: MuJoCo reset with ``seed``, and the dream of a world that looks like it.

        Without MuJoCo the dream begins with one of the checkpoint's held-out windows.
        """
        _, info = self._dream.reset(seed=seed)
        dreams = self._dream.dreams
        truth = physics = None
        if self._truth is not None:
            real, info = self._truth.reset(seed=seed)
            truth, physics = Side(real), info["physics"]
            begun = self._look([real])
            dreams.begin(np.zeros(1, np.int64), begun)
        nothing, dream = np.zeros(len(self.model.task.action_low), np.float32), Side(dreams.frames()[0])
        self._latest = Scene(0, nothing, dream, truth, False, _trust(info), dreams.moment(0), physics)
        return self._latest

    def step(self, scene: Scene, action: np.ndarray) -> Scene:
        """The scene that ``action`` (a,) leads to from ``scene``, which may be any that this pair has made.

        Raises:
            TaskError: an action of another shape, or not finite.
            ProcosmError: the model predicted something that is not a number.
        """
        if scene is not self._latest:
            self._dream.dreams.resume(0, scene.moment)
            if self._truth is not None and scene.physics is not None:
                self._truth.set_physics(scene.physics)
        began = time.perf_counter()
        frame, reward, terminated, cut, info = self._dream.step(action)
        dreamed = time.perf_counter()
        chance = float(self._dream.dreams.termination[0])
        dream = Side(cast(np.ndarray, frame), reward, scene.dream.total + reward, chance, terminated)
        truth, physics = self._step_truth(scene, action)
        spent = {"dream": 1e3 * (dreamed - began), "truth": 1e3 * (time.perf_counter() - dreamed)}
        self._latest = Scene(
            scene.step + 1,
            np.array(action, np.float32),
            dream,
            truth,
            cut,
            _trust(info),
            self._dream.dreams.moment(0),
            physics,
            spent,
        )
        return self._latest

    def _step_truth(self, scene: Scene, action: np.ndarray) -> tuple[Side | None, np.ndarray | None]:
        before = scene.truth
        if self._truth is None or before is None:
            return None, None
        if before.ended:
            return replace(before, reward=0.0), scene.physics
        frame, reward, terminated, _, info = self._truth.step(action)
        return Side(frame, reward, before.total + reward, float(terminated), terminated), info["physics"]

    def latents_of_truth(self, scenes: list[Scene]) -> torch.Tensor:
        """(1, context, c, h, w), what the model sees in MuJoCo's frames up to the last of ``scenes``."""
        return self._look([scene.truth.frame for scene in scenes[-self.model.dynamics.context :] if scene.truth])

    @torch.inference_mode()
    def _look(self, frames: list[np.ndarray]) -> torch.Tensor:
        """(1, context, c, h, w), the latents of real frames; the first stands for those before it."""
        missing = self.model.dynamics.context - len(frames)
        seen = torch.from_numpy(np.stack(frames))[:, None].to(self.model.starts.device)  # (t, 1, H, W, 3)
        latents = self.model.tokenizer.encode(seen)[:, 0]  # (t, c, h, w)
        return torch.cat([latents[:1].expand(missing, -1, -1, -1), latents])[None]

    def close(self) -> None:
        """Free MuJoCo's renderer, in the thread that made it."""
        if self._truth is not None:
            self._truth.close()


def _trust(info: dict) -> float | None:
    return float(info["trust"]) if "trust" in info else None
