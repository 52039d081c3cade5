"""SHAC: an actor that follows the gradient of its return through the dream, as a learner of Stable-Baselines3.

Short-horizon actor-critic, Xu et al. 2022 (arXiv 2204.07137): a window of steps is dreamed with gradients, the critic
tells what comes after it, and one gradient moves the actor. As in Dreamer (arXiv 2301.04104, §3) the actor seeks the
λ-returns of all states of the window, and an end counts by its probability.

Axis letters: h step of a window, n dream, a action.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from procosm.agents.policy.gradient_dreams import GradientDreams, check_gradient
from procosm.agents.policy.worlds import reward_scale
from procosm.envs.collect.squashed import SquashedActorCritic
from procosm.world_model.model import WorldModel, spans_of
from procosm.world_model.threads import run_each

LAMBDA = 0.95
"""Of λ-returns."""
STEEPEST = 0.5
"""Norm of a gradient at most, of the actor's and of the critic's."""


class SHAC(BaseAlgorithm):
    """A learner; its dreams begin anew with each ``learn``.

    Args:
        env: says how many dreams there are, what is observed and done; nothing is done in it.
        model: dreams with gradients. observation: ``state``, ``features`` or ``latent``, as in ``env``.
        trust_below: dreams trusted less are cut; None cuts none.
        n_steps: of a window. batch_size, n_epochs: of the critic. gamma: discount of each step.
        common: other arguments of Stable-Baselines3's learners.
    """

    policy_aliases: ClassVar[dict[str, Any]] = {"MlpPolicy": SquashedActorCritic}
    policy: SquashedActorCritic

    def __init__(
        self,
        env: VecEnv,
        model: WorldModel,
        observation: str,
        trust_below: float | None,
        n_steps: int,
        batch_size: int,
        n_epochs: int,
        gamma: float,
        **common: Any,
    ) -> None:
        check_gradient(model)
        super().__init__(env=env, support_multi_env=True, supported_action_spaces=(spaces.Box,), **common)
        self._dreaming = partial(GradientDreams, model, observation, trust_below=trust_below)
        self._spans = spans_of(self.n_envs, model.starts.device)
        self._scale = reward_scale(model, gamma)
        self.n_steps, self.batch_size, self.n_epochs, self.gamma = n_steps, batch_size, n_epochs, gamma
        self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        spaces_ = self.observation_space, self.action_space
        self.policy = self.policy_class(*spaces_, self.lr_schedule, **self.policy_kwargs).to(self.device)  # type: ignore[assignment]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "SHAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> "SHAC":
        """See SB3. Steps are those of all dreams together, in whole windows."""
        total, told = self._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        told.on_training_start(locals(), globals())
        parts = [
            self._dreaming(count=last - first, rng=np.random.default_rng(int(torch.randint(2**62, ()))))
            for first, last in self._spans
        ]
        while self.num_timesteps < total:
            told.on_rollout_start()
            self._iterate(parts)
            for _ in range(self.n_steps):
                self.num_timesteps += self.n_envs
                if not told.on_step():
                    return self
            told.on_rollout_end()
        assert self.ep_info_buffer is not None  # _setup_learn made it
        for part in parts:
            part.finish()
            self.ep_info_buffer.extend(part.lives)
        told.on_training_end()
        return self

    def _iterate(self, parts: Sequence[GradientDreams]) -> None:
        """A window of every dream, a step of the actor, and the critic's lesson."""
        noise = torch.randn(self.n_steps, self.n_envs, *self.action_space.shape, device=self.device)  # type: ignore[misc]
        tasks = [
            partial(self._window, part, noise[:, slice(*span)]) for part, span in zip(parts, self._spans, strict=True)
        ]
        found = run_each(tasks)
        weights = [(last - first) / self.n_envs for first, last in self._spans]
        for parameter, *gradients in zip(self._actor, *(gradient for gradient, *_ in found), strict=True):
            parameter.grad = sum(w * gradient for w, gradient in zip(weights, gradients, strict=True))  # type: ignore[assignment]
        self._step(self._actor)
        loss = self._fit(*(torch.cat(each) for each in list(zip(*found, strict=True))[1:]))
        self.logger.record("train/value_loss", loss)
        self.logger.dump(self.num_timesteps)

    @property
    def _actor(self) -> list[Tensor]:
        return [*self.policy.mlp_extractor.policy_net.parameters(), *self.policy.action_net.parameters()]

    @property
    def _critic(self) -> list[Tensor]:
        return [*self.policy.mlp_extractor.value_net.parameters(), *self.policy.value_net.parameters()]

    def _window(self, dreams: GradientDreams, noise: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]:
        """The actor's gradient in a window of some dreams; and, of each of its m states, what was observed (m, …),
        its λ-return (m,), and how probable it was to be reached (m,).
        """
        window = dreams.window(self.policy.unit_action, noise)
        after = window.observed[1:]
        values = self.policy.predict_values(after.flatten(0, 1)).view(after.shape[:2])
        discount, trace = self.gamma * window.goes_on, LAMBDA * ~window.cut
        returns = lambda_returns(self._scale * window.rewards, discount, values, trace)
        reached = (window.goes_on.detach() * ~window.cut).cumprod(0)
        reached = torch.cat([torch.ones_like(reached[:1]), reached[:-1]])
        gradient = torch.autograd.grad(-(reached * returns).mean(), self._actor)
        return gradient, window.observed[:-1].detach().flatten(0, 1), returns.detach().flatten(), reached.flatten()

    def _fit(self, observed: Tensor, returns: Tensor, reached: Tensor) -> float:
        """Teach the critic these returns; its last loss."""
        for _ in range(self.n_epochs):
            for part in torch.randperm(len(observed), device=self.device).split(self.batch_size):
                error = self.policy.predict_values(observed[part])[:, 0] - returns[part]
                loss = (reached[part] * error.square()).mean()
                loss.backward()
                self._step(self._critic)
        return float(loss.detach())

    def _step(self, parameters: list[Tensor]) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, STEEPEST)
        self.policy.optimizer.step()
        self.policy.optimizer.zero_grad()


def lambda_returns(rewards: Tensor, discount: Tensor, values: Tensor, trace: Tensor) -> Tensor:
    """G_t = r_t + γ_t ((1 − λ_t) v_{t+1} + λ_t G_{t+1}), the last of which ends with its value; all (h, n).

    Sutton & Barto 2018, equation 12.24.
    """
    following, found = values[-1], list[Tensor]()
    for r, gamma, v, lam in zip(*(each.flip(0) for each in (rewards, discount, values, trace)), strict=True):
        following = r + gamma * ((1 - lam) * v + lam * following)
        found.append(following)
    return torch.stack(found[::-1])
