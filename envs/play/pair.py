"""The dream and MuJoCo side by side: they begin from one picture, and each ends and begins again alone.

A step is a function of the scene before it, so that going back is stepping again from an earlier scene.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from procosm.envs.dreams.dreams import Moment
from procosm.envs.dreams.reward import no_reward
from procosm.envs.dreams.starts import given_start
from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError
from procosm.world_model.interface import Solver

ENDLESS = 10**9
"""Steps of a truth env that this module cuts off itself: going back, an episode's steps begin again to count."""


class Actions(NamedTuple):
    """What to do in each world, (a,) float32 in the task's units; what a world that is over is told does not matter."""

    dream: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Side:
    """One of the two worlds after a step of the game.

    Attributes:
        frame: (H, W, 3) uint8.
        seed: of its episode; no two episodes of a game have the same.
        step: steps of its episode so far. total: their return; None in a dream whose model has learned no reward.
        action: (a,) float32 in the task's units, that led here. reward: for it. Both are None where it took none,
            because its episode has just begun or is over; reward also where the dream's model has learned none.
        termination: probability that the last step ended the task; in MuJoCo 0 or 1.
        ended: whether the task is over. cut: whether its time is up.
        rested: steps of the game that its last frame has been shown for.
    """

    frame: np.ndarray
    seed: int
    step: int = 0
    total: float | None = 0.0
    action: np.ndarray | None = None
    reward: float | None = None
    termination: float = 0.0
    ended: bool = False
    cut: bool = False
    rested: int = 0

    @property
    def over(self) -> bool:
        """Whether its episode goes no further."""
        return self.ended or self.cut

    def after(
        self, frame: np.ndarray, action: np.ndarray, reward: float | None, termination: float, **over: bool
    ) -> "Side":
        """The same episode a step later."""
        taken = np.array(action, np.float32)
        total = None if reward is None or self.total is None else self.total + reward
        return Side(frame, self.seed, self.step + 1, total, taken, reward, termination, **over)

    def resting(self) -> "Side":
        """The same last frame for a step longer."""
        return replace(self, action=None, reward=None, rested=self.rested + 1)


@dataclass(frozen=True)
class Scene:
    """Both worlds after a step of the game: all that is shown, and all that is needed to go on from here.

    Attributes:
        step: steps of the game since it began; each world counts its own besides.
        dream, truth: the two worlds; truth is None where MuJoCo cannot be shown.
        together: whether they began at the same step from the same picture, so that they can be compared.
        trust: the dream's own ``info["trust"]``; None where the environment gives none.
        moment, physics: where the dream and MuJoCo go on from.
        spent_ms: milliseconds that each part took.
    """

    step: int
    dream: Side
    truth: Side | None
    together: bool
    trust: float | None
    moment: Moment
    physics: np.ndarray | None
    spent_ms: dict[str, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether no world goes further; the next step begins both anew, from one picture."""
        return self.dream.over and (self.truth is None or self.truth.over)

    @property
    def seed(self) -> int:
        """Of the episode that began last."""
        return max(self.dream.seed, self.truth.seed) if self.truth else self.dream.seed

    @property
    def bytes(self) -> int:
        """Memory that keeping this scene takes, nearly."""
        return (2 if self.truth else 1) * self.dream.frame.nbytes + 2 * self.moment.latents.nbytes


class Pair:
    """A dream of a world model and the MuJoCo task it was learned from.

    Belongs to one thread: MuJoCo's renderer draws only in the thread that made it.

    Attributes:
        without_truth: why MuJoCo cannot be shown; empty where it can.
        without_reward: why the dream shows no reward; empty where it does.
        instruction: what dreams are told in words from their next beginning on; None: what was asked for where the
            window that they begin with was logged, or nothing where they begin with MuJoCo's picture.
    """

    def __init__(self, model: WorldModel, denoising_steps: int, horizon: int, solver: Solver = "euler") -> None:
        """Open both worlds; neither has begun.

        Args:
            model: the world model.
            denoising_steps: of each step of the dream.
            horizon: steps after which a dream is cut off; MuJoCo is cut off at its task's own limit.
            solver: how the dream draws where it takes several denoising steps.

        Raises:
            TaskError: an argument out of range.
        """
        self.model, self._solver = model, solver
        self._rewarded = "reward" in model.capabilities
        self.without_reward = (
            "" if self._rewarded else f"No rewards of {model.task.id} were logged: the dream has none."
        )
        self._latest: Scene | None = None
        self.instruction: str | None = None
        self.configure(denoising_steps, horizon)
        self._truth: MujocoEnv | None = None
        self._truth_seed = 0
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
        reward = None if self._rewarded else no_reward
        sampling = {"solver": self._solver}
        self._dream = WorldModelEnv(self.model, "latent", denoising_steps, horizon, reward=reward, sampling=sampling)
        self._dream.reset(seed=0)
        self._latest = None

    def begin(self, seed: int) -> Scene:
        """The first scene of a game: MuJoCo reset with ``seed``, and the dream of a world that looks like it.

        Without MuJoCo the dream begins with one of the checkpoint's own windows.
        """
        self._latest = self._begin(0, seed)
        return self._latest

    def step(self, scene: Scene, actions: Actions, hold: int) -> Scene:
        """The scene after ``scene``, which may be any that this pair has made.

        A world goes on as its action says. One that is over shows its last frame for ``hold`` steps, then begins anew
        while the other goes on; where both are over, both begin anew at once, from one picture.

        Raises:
            TaskError: an action of another shape, or not finite.
            ProcosmError: the model predicted something that is not a number.
        """
        if scene.over:
            self._latest = self._begin(scene.step + 1, scene.seed + 1)
            return self._latest
        if scene is not self._latest:
            self._go_back(scene)
        began = time.perf_counter()
        dream, trust = self._step_dream(scene, actions.dream, hold)
        dreamed = time.perf_counter()
        truth, physics = self._step_truth(scene, actions.truth, hold)
        spent = {"dream": 1e3 * (dreamed - began), "truth": 1e3 * (time.perf_counter() - dreamed)}
        same = dream.seed == scene.dream.seed and truth is not None and truth.seed == dream.seed
        moment = self._dream.dreams.moment(0)
        self._latest = Scene(scene.step + 1, dream, truth, same, trust, moment, physics, spent)
        return self._latest

    def _begin(self, step: int, seed: int) -> Scene:
        """Both worlds at the beginning of an episode."""
        told = {} if self.instruction is None else {"instruction": self.instruction}
        self._dream.reset(seed=seed, options=told)
        dreams = self._dream.dreams
        truth = physics = None
        if self._truth is not None:
            real, info = self._reset_truth(seed)
            truth, physics = Side(real, seed), info["physics"]
            begun = given_start(self.model, {"frames": real[None]}, (1,))
            assert begun is not None
            words = (self.instruction,) if self.instruction is not None else begun.said
            dreams.begin(np.zeros(1, np.int64), begun._replace(said=words))
        dream, trust = self._dream_begun(seed), None if dreams.trust is None else float(dreams.trust[0])
        return Scene(step, dream, truth, truth is not None, trust, dreams.moment(0), physics)

    def _reset_truth(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        assert self._truth is not None
        self._truth_seed = seed
        shown, info = self._truth.reset(seed=seed)
        return self.model.task.join(shown), info

    def _go_back(self, scene: Scene) -> None:
        """Make both worlds what they were in ``scene``."""
        self._dream.dreams.resume(0, scene.moment)
        if self._truth is not None and scene.truth is not None and scene.physics is not None:
            if scene.truth.seed != self._truth_seed:  # some tasks keep their target outside of the physics state
                self._reset_truth(scene.truth.seed)
            self._truth.set_physics(scene.physics)

    def _step_dream(self, scene: Scene, action: np.ndarray, hold: int) -> tuple[Side, float | None]:
        before = scene.dream
        if before.over and before.rested < hold:
            return before.resting(), scene.trust
        if before.over:
            told = {} if self.instruction is None else {"instruction": self.instruction}
            _, info = self._dream.reset(seed=scene.seed + 1, options=told)
            return self._dream_begun(scene.seed + 1), _trust(info)
        _, reward, ended, cut, info = self._dream.step(action)
        frame, chance = self._dream.dreams.frames()[0], float(self._dream.dreams.termination[0])
        paid = reward if self._rewarded else None
        return before.after(frame, action, paid, chance, ended=ended, cut=cut), _trust(info)

    def _dream_begun(self, seed: int) -> Side:
        return Side(self._dream.dreams.frames()[0], seed, total=0.0 if self._rewarded else None)

    def _step_truth(self, scene: Scene, action: np.ndarray, hold: int) -> tuple[Side | None, np.ndarray | None]:
        before = scene.truth
        if self._truth is None or before is None:
            return None, None
        if before.over and before.rested < hold:
            return before.resting(), scene.physics
        if before.over:
            frame, info = self._reset_truth(scene.seed + 1)
            return Side(frame, scene.seed + 1), info["physics"]
        shown, reward, ended, cut, info = self._truth.step(action)
        frame = self.model.task.join(shown)
        cut = cut or before.step + 1 >= self.model.task.max_episode_steps
        return before.after(frame, action, reward, float(ended), ended=ended, cut=cut), info["physics"]

    def latents_of_truth(self, frames: list[np.ndarray]) -> torch.Tensor:
        """(1, context, c, h, w), what the model sees in MuJoCo's frames, of which the last are looked at."""
        frames = frames[-self.model.dynamics.context :]
        missing = self.model.dynamics.context - len(frames)
        latents = self.model.encode(np.stack(frames))  # (t, c, h, w)
        return torch.cat([latents[:1].expand(missing, -1, -1, -1), latents])[None]

    def close(self) -> None:
        """Free MuJoCo's renderer, in the thread that made it."""
        if self._truth is not None:
            self._truth.close()


def _trust(info: dict) -> float | None:
    return float(info["trust"]) if "trust" in info else None
