"""Autoregressive dynamics: the next frame, token by token (Cosmos §5.2 and §6.3, arXiv 2501.03575).

A discrete tokenizer makes n tokens of a frame. The transformer predicts each from those before it, in its frame and in
the ``context`` frames before, and from what was done before each frame. The most probable tokens are taken, or they are
drawn. What the tokens mean (state or features, reward, end) is read off the latents that they stand for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.autoregressive.medusa import generate
from procosm.world_model.autoregressive.memory import AutoregressiveMemory
from procosm.world_model.autoregressive.sampling import draw_uniforms
from procosm.world_model.autoregressive.transformer import AutoregressiveTransformer, TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.heads import OutcomeHead, StateHead
from procosm.world_model.interface import MEAN, Condition, DiscreteTokenizer, Prediction, Sampling
from procosm.world_model.past import context_window, past_actions


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Shape and loss of autoregressive dynamics."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """The network that predicts tokens."""
    context: Annotated[int, Field(ge=2, le=64)] = 3
    """Past frames the network sees."""


class AutoregressiveDynamics(nn.Module):
    """Satisfies :class:`procosm.world_model.interface.Dynamics`."""

    stay_dense = ("*_head.*", "net.action.*", "net.text", "net.unembed", "net.medusa")
    """What sparse training leaves alone: the heads, which judge, embeddings and the last layers. Attention and MLPs are
    left to it."""
    readouts = frozenset({"reward", "termination", "state"})
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self, config: AutoregressiveConfig, tokenizer: DiscreteTokenizer, action_size: int, state_size: int
    ) -> None:
        """Dynamics of the tokens of one tokenizer, which it asks what they stand for.

        Raises:
            ProcosmError: the tokenizer's latents are continuous.
        """
        super().__init__()
        spec = tokenizer.spec
        if spec.vocabulary is None:
            raise ProcosmError(
                "autoregressive dynamics predict tokens, and this tokenizer's latents are continuous: give it levels"
            )
        self.config, self.context, self.grid = config, config.context, spec.shape[1:]
        # Not modules of it: they are the tokenizer's, and are stored with it.
        self._quantize, self._dequantize = tokenizer.quantize, tokenizer.dequantize
        self.net = AutoregressiveTransformer(
            config.transformer, self.grid, spec.vocabulary, config.context, action_size
        )
        self.state_head = StateHead(config.context, spec.shape, state_size)
        self.outcome_head = OutcomeHead(spec.shape, state_size, action_size)
        self.register_buffer("action_low", -torch.ones(action_size))
        self.register_buffer("action_high", torch.ones(action_size))
        self.mixed = False

    def unit_action(self, action: Tensor) -> Tensor:
        """The task's own units to [-1, 1]."""
        return 2 * (action - self.action_low) / (self.action_high - self.action_low) - 1

    @torch.inference_mode()
    def begin(self, latents: Tensor, condition: Condition | None = None) -> AutoregressiveMemory:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        seen = context_window(latents, self.context)
        tokens, b = self._quantize(seen).flatten(1), len(seen)
        past = self.unit_action(past_actions(seen, condition, self.context, len(self.action_low)))
        frames = torch.arange(self.context, device=seen.device).expand(b, -1)
        positions = torch.arange(tokens.shape[1] - 1, device=seen.device).expand(b, -1)
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=self.mixed):
            cache = self.net.empty_cache(b, None if condition is None else condition.text)
            # Nobody knows what was done before the first of the frames.
            self.net.act(cache, torch.cat([torch.full_like(past[:, :1], torch.nan), past], dim=1), frames)
            self.net.advance(cache, tokens[:, :-1], positions)
        cache.lengths.add_(tokens.shape[1] - 1)
        return AutoregressiveMemory(
            cache, tokens[:, -1].clone(), seen.clone(), self.state_head.physical(self.state_head(seen))
        )

    def read(self, memory: AutoregressiveMemory) -> Mapping[str, Tensor]:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        return {"state": memory.states}

    @torch.inference_mode()
    def step(
        self,
        memory: AutoregressiveMemory,
        action: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[AutoregressiveMemory, Prediction]:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        unit, n = self.unit_action(action), self.net.frame_tokens
        uniforms = None if draws is None or sampling.steps == 1 else draw_uniforms(draws, n, unit.device)
        with torch.autocast(unit.device.type, torch.bfloat16, enabled=self.mixed):
            self.net.act(memory.cache, unit[:, None], (memory.cache.lengths[:, None] + 1) // n)
            tokens = generate(self.net, memory.cache, memory.newest, uniforms, sampling).tokens
        latent = self._dequantize(tokens.unflatten(1, (1, *self.grid)))[:, 0]
        after = torch.cat([memory.latents[:, 1:], latent[:, None]], dim=1)
        head, before = self.outcome_head, self.state_head.standardise(memory.states)
        state = self.state_head(after)
        reward, logit = head(memory.latents[:, -1], latent, before, state, unit)
        states = self.state_head.physical(state)
        told = {"reward": reward * head.reward_std + head.reward_mean, "termination": logit.sigmoid(), "state": states}
        return AutoregressiveMemory(memory.cache, tokens[:, -1], after, states), Prediction(latent, told)
