"""Dreams through which gradients go, a window of steps at a time: from what is earned back to what was done.

Axis letters: h step of a window, n dream, a action.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from procosm.envs.dreams.starts import Windows
from procosm.envs.trust.trust import watch
from procosm.world_model.errors import TaskError
from procosm.world_model.interface import DifferentiableDynamics, Memory
from procosm.world_model.model import WorldModel

Actor = Callable[[Tensor, Tensor], Tensor]
"""(n, a) actions in [-1, 1], with gradients, for (n, …) observations and (n, a) standard normal numbers."""


@dataclass(frozen=True)
class Window:
    """What n dreams went through in h steps.

    Attributes:
        observed: (h + 1, n, …), what the actor saw before each step, and after the last.
        actions: h times (n, a), what the actor did, in [-1, 1].
        rewards: (h, n), in the task's own units.
        goes_on: (h, n), probability that the step did not end the task.
        cut: (h, n) bool, whether the dream is no longer to be trusted after the step.
    """

    observed: Tensor
    actions: list[Tensor]
    rewards: Tensor
    goes_on: Tensor
    cut: Tensor


class GradientDreams:
    """n dreams that begin together. One that ends is dreamed to the end of its window, and begins anew with the next.

    Attributes:
        lives: return and length of each dream that has ended, as Stable-Baselines3 has them.
    """

    def __init__(
        self,
        model: WorldModel,
        observation: str,
        count: int,
        rng: np.random.Generator,
        trust_below: float | None = None,
    ) -> None:
        """Begin.

        Args:
            model: the world model, with rewards of its own and steps that have gradients (``check_gradient``).
            observation: ``state``, ``features`` or ``latent``.
            count: n.
            rng: draws the windows that dreams begin with, out of all.
            trust_below: dreams trusted less are cut; None cuts none.
        """
        self._model, self._observation, self._rng = model, observation, rng
        self._dynamics, self._starts = cast(DifferentiableDynamics, model.dynamics), Windows(model, "wide")
        low, high = (torch.from_numpy(each).to(model.starts.device) for each in model.task.bounds)
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._slots = torch.arange(count, device=model.starts.device)
        self._trust_below = trust_below or 0.0
        self._watch = None if trust_below is None or model.trust is None else watch(model.trust, count)
        self._alive = torch.ones_like(self._slots, dtype=torch.bool)
        self._earned, self._lived = torch.zeros(2, count, device=model.starts.device)
        self.lives: list[dict[str, float]] = []
        self._memory, self._latents = self._begin(self._slots)

    def _begin(self, slots: Tensor) -> tuple[Memory, Tensor]:
        start = self._starts.start(self._rng.choice(self._starts.usable, len(slots)).tolist())
        memory = self._model.begin(start.latents, start.condition(self._model))
        if self._watch is not None:
            self._watch.begin(slots, self._watched(self._dynamics.read(memory)))
        return memory.take(torch.arange(len(slots), device=slots.device)), start.latents

    def window(self, actor: Actor, noise: Tensor) -> Window:
        """As many steps as there is (h, n, a) noise; gradients go back to the first of them."""
        self._renew()
        seen, actions = [self._shown(self._dynamics.read(self._memory))], list[Tensor]()
        steps = list[tuple[Tensor, Tensor, Tensor]]()
        for each in noise:
            actions.append(actor(seen[-1], each))
            action = self._middle + self._half * actions[-1]
            self._memory, told = self._dynamics.step_with_gradient(self._memory, action)
            self._latents = torch.cat([self._latents[:, 1:], told.latents[:, None]], dim=1)
            reward = told.readouts["reward"].clamp(*self._model.reward_range)  # type: ignore[misc]  # it has rewards
            goes_on = 1 - told.readouts.get("termination", torch.zeros_like(reward))
            seen.append(self._shown(told.readouts))
            steps.append((reward, goes_on, self._cut(action.detach(), told.readouts)))
            self._count(*(part.detach() for part in steps[-1]))
        with torch.no_grad():
            self._memory, self._latents = self._memory.take(self._slots), self._latents.detach()
        return Window(torch.stack(seen), actions, *map(torch.stack, zip(*steps, strict=True)))

    def finish(self) -> None:
        """Count the dreams that are still going on among those that have ended."""
        self._end(self._slots)

    def _shown(self, read: Mapping[str, Tensor]) -> Tensor:
        return self._latents if self._observation == "latent" else read[self._observation]

    def _watched(self, read: Mapping[str, Tensor]) -> Tensor:
        return (read["state"] if "state" in read else read["features"]).detach().float()

    def _cut(self, action: Tensor, read: Mapping[str, Tensor]) -> Tensor:
        if self._watch is None:
            return torch.zeros_like(self._alive)
        return self._watch.advance(action, self._watched(read)) < self._trust_below

    def _count(self, reward: Tensor, goes_on: Tensor, cut: Tensor) -> None:
        self._earned += reward * self._alive
        self._lived += self._alive
        self._alive &= (goes_on >= 0.5) & ~cut

    def _renew(self) -> None:
        """Begin anew where a dream has ended."""
        slots = self._slots[~self._alive]
        if len(slots):
            self._end(slots)
            begun, latents = self._begin(slots)
            self._memory.put(slots, begun)
            self._latents = self._latents.index_copy(0, slots, latents)

    def _end(self, slots: Tensor) -> None:
        earned, lived = self._earned[slots].tolist(), self._lived[slots].tolist()
        self.lives += [{"r": r, "l": length} for r, length in zip(earned, lived, strict=True)]
        self._earned[slots], self._lived[slots], self._alive[slots] = 0, 0, True


def check_gradient(model: WorldModel) -> None:
    """Refuse a model whose steps have no gradient.

    Raises:
        TaskError: it is one.
    """
    if not hasattr(model.dynamics, "step_with_gradient"):
        raise TaskError(
            f"steps of the world model of {model.task.id} have no gradient that a policy could follow: practise in it "
            "with --algorithm ppo or sac"
        )
