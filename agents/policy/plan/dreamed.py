"""What the dream makes of actions: many candidates at once, each in a copy of the memory of its moment."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.interface import Memory
from procosm.world_model.threads import one_thread

Value = Callable[[np.ndarray], np.ndarray]
"""(b, …) observations to (b,) returns still to come, in the task's units."""
Act = Callable[[np.ndarray], np.ndarray]
"""(b, …) observations to (b, a) actions."""


class Moment:
    """n moments that plans begin in.

    Args:
        model: the world model; it must tell rewards. latents: (n, context, c, h, w), newest last.
        memory: what the model remembers of them. gamma: discount of each step.
        observation: what a policy or value sees: ``state``, ``features`` or ``latent``.
        value: of what comes after the last step; None counts nothing.
    """

    def __init__(
        self, model: WorldModel, latents: Tensor, memory: Memory, gamma: float,
        observation: str = "latent", value: Value | None = None,
    ) -> None:  # fmt: skip
        if "reward" not in model.capabilities:
            raise TaskError(f"plans need rewards, and the world model of {model.task.id} tells none: log them")
        self._model, self._latents, self._memory = model, latents, memory
        self._gamma, self._observation, self._value = gamma, observation, value

    def returns(self, actions: np.ndarray) -> np.ndarray:
        """(n, k, h, a) actions to (n, k) discounted returns."""
        n, k, h, _ = actions.shape
        given = torch.from_numpy(actions).to(self._latents.device).flatten(0, 1)  # (n k, h, a)
        return self._dream(k, h, lambda t, _: given[:, t])[1].reshape(n, k)

    def rolled(self, act: Act, noise: np.ndarray, clip: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, Any]:
        """Let a policy act in k dreams of each moment.

        Args:
            act: the policy. noise: (n, k, h, a), added to its actions. clip: keeps them within the bounds.

        Returns:
            what was done (n, k, h, a), float32, and the returns (n, k).
        """
        n, k, h, a = noise.shape
        flat = noise.reshape(n * k, h, a)

        def choose(t: int, seen: np.ndarray) -> Tensor:
            return torch.from_numpy(clip(act(seen) + flat[:, t])).to(self._latents.device)

        done, returns = self._dream(k, h, choose)
        return done.reshape(n, k, h, a), returns.reshape(n, k)

    @one_thread()
    @torch.inference_mode()
    def _dream(self, k: int, h: int, choose: Callable[[int, Any], Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """h steps of k copies of each moment: what was done (n k, h, a), and the returns (n k,)."""
        slots = torch.arange(len(self._latents), device=self._latents.device).repeat_interleave(k)
        memory, window = self._memory.take(slots), self._latents[slots]
        read: Mapping[str, Tensor] = self._model.dynamics.read(memory)
        total, alive = np.zeros(len(slots)), np.ones(len(slots), bool)
        done: list[np.ndarray] = []
        discount = 1.0
        for t in range(h):
            action = choose(t, self._shown(read, window))
            memory, prediction = self._model.step(memory, action)
            read, done = prediction.readouts, [*done, action.cpu().numpy()]
            if self._observation == "latent":
                window = torch.cat([window[:, 1:], prediction.latents[:, None]], dim=1)
            reward = read["reward"].double().cpu().numpy()
            if self._model.reward_range is not None:
                reward = np.clip(reward, *self._model.reward_range)  # nobody is paid for extrapolation
            total += discount * alive * reward
            discount *= self._gamma
            if "termination" in read:
                alive &= read["termination"].cpu().numpy() <= 0.5
        if self._value is not None:
            total += discount * alive * self._value(self._shown(read, window))
        if not np.isfinite(total).all():
            raise ProcosmError(f"the world model of {self._model.task.id} predicts returns that are no numbers")
        return np.stack(done, axis=1), total

    def _shown(self, read: Mapping[str, Tensor], window: Tensor) -> np.ndarray:
        return (window if self._observation == "latent" else read[self._observation]).float().cpu().numpy()
