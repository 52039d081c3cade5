"""SHAC: a policy that follows the gradient of its return through the dream, as a learner of Stable-Baselines3.

Short-horizon actor-critic, Xu et al. 2022 (arXiv 2204.07137): a window of steps is dreamed with gradients, and a critic
tells what comes after it. As in Dreamer (arXiv 2301.04104, §3) the λ-returns of all states of a window count, and an
end counts by its probability. The actor does not go one step along the gradient of its weights: as in PODS (Mora et al.
2021, PMLR 139) it learns to do what it did, moved along the gradient, so that a window teaches it many times (LOG.md,
"Policies that follow the gradient").

Axis letters: h step of a window, n dream, m state of a window (h n), a action.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

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
NOISE = 0.1
"""Deviation of actions before tanh: gradients need none, but states that differ teach more."""
MOVE, FARTHEST = 0.1, 3.0
"""How far actions are moved, root mean square, and at most in units of that; from bound to bound is 2."""
STEEPEST = 0.5
"""Norm of a gradient of weights at most, of the actor's and of the critic's."""


class Lesson(NamedTuple):
    """What a window taught.

    Attributes:
        observed: (m, …). noise: (m, a), with which the actor acted. returns: (m,), λ-returns, scaled.
        reached: (m,), probability that a dream was still going on.
        gradient: (m, a), of the return by the action in [-1, 1].
    """

    observed: Tensor
    noise: Tensor
    returns: Tensor
    reached: Tensor
    gradient: Tensor


class SHAC(BaseAlgorithm):
    """A learner; its dreams begin anew with each ``learn``.

    Args:
        env: says how many dreams there are, what is observed and done; nothing is done in it.
        model: dreams with gradients. observation: ``state``, ``features`` or ``latent``, as in ``env``.
        trust_below: dreams trusted less are cut; None cuts none.
        n_steps: of a window. batch_size, n_epochs: of what actor and critic learn from it. gamma: discount of a step.
        common: other arguments of Stable-Baselines3's learners.

    Raises:
        TaskError: the model's steps have no gradient.
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
        kind: type[SquashedActorCritic] = self.policy_class  # type: ignore[assignment]  # there is no other alias
        policy = kind(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)
        policy.log_std.requires_grad_(False).fill_(math.log(NOISE))
        self.policy = policy.to(self.device)
        actor = policy.mlp_extractor.policy_net, policy.action_net
        critic = policy.mlp_extractor.value_net, policy.value_net
        self._weights = [[*first.parameters(), *last.parameters()] for first, last in (actor, critic)]

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
        """A window of every dream, and what actor and critic learn from it."""
        noise = torch.randn(self.n_steps, self.n_envs, *self.action_space.shape, device=self.device)  # type: ignore[misc]
        tasks = [
            partial(self._window, part, noise[:, slice(*span)]) for part, span in zip(parts, self._spans, strict=True)
        ]
        lesson = Lesson(*(torch.cat(each) for each in zip(*run_each(tasks), strict=True)))
        wanted = self._moved(lesson)
        policy, losses = self.policy, dict[str, Tensor]()
        for _ in range(self.n_epochs):
            for some in torch.randperm(len(wanted), device=self.device).split(self.batch_size):
                part = Lesson(*(each[some] for each in lesson))
                errors = {
                    "actor": (policy.unit_action(part.observed, part.noise) - wanted[some]).square().mean(1),
                    "critic": (policy.predict_values(part.observed)[:, 0] - part.returns).square(),
                }
                losses = {name: (part.reached * error).mean() for name, error in errors.items()}
                policy.optimizer.zero_grad()
                torch.stack(list(losses.values())).sum().backward()
                for weights in self._weights:
                    torch.nn.utils.clip_grad_norm_(weights, STEEPEST)
                policy.optimizer.step()
        for name, loss in losses.items():
            self.logger.record(f"train/{name}_loss", float(loss.detach()))
        self.logger.dump(self.num_timesteps)

    def _window(self, dreams: GradientDreams, noise: Tensor) -> Lesson:
        """What some dreams teach."""
        window = dreams.window(self.policy.unit_action, noise)
        after = window.observed[1:]
        values = self.policy.predict_values(after.flatten(0, 1)).view(after.shape[:2])
        discount, trace = self.gamma * window.goes_on, LAMBDA * ~window.cut
        returns = lambda_returns(self._scale * window.rewards, discount, values, trace)
        reached = (window.goes_on.detach() * ~window.cut).cumprod(0)
        reached = torch.cat([torch.ones_like(reached[:1]), reached[:-1]])
        gradient = torch.stack(torch.autograd.grad((reached * returns).sum(), window.actions))
        parts = window.observed[:-1].detach(), noise, returns.detach(), reached, gradient
        return Lesson(*(part.flatten(0, 1) for part in parts))

    @torch.no_grad()
    def _moved(self, lesson: Lesson) -> Tensor:
        """(m, a), what would have earned more than what was done."""
        size = lesson.gradient.square().mean().sqrt().clamp_min(1e-12)
        step = MOVE * (lesson.gradient / size).clamp(-FARTHEST, FARTHEST)
        return (self.policy.unit_action(lesson.observed, lesson.noise) + step).clamp(-1, 1)


def lambda_returns(rewards: Tensor, discount: Tensor, values: Tensor, trace: Tensor) -> Tensor:
    """G_t = r_t + γ_t ((1 − λ_t) v_{t+1} + λ_t G_{t+1}), the last of which ends with its value; all (h, n).

    Sutton & Barto 2018, equation 12.24.
    """
    following, found = values[-1], list[Tensor]()
    for r, gamma, v, lam in zip(*(each.flip(0) for each in (rewards, discount, values, trace)), strict=True):
        following = r + gamma * ((1 - lam) * v + lam * following)
        found.append(following)
    return torch.stack(found[::-1])
