"""Autoregressive dynamics: the next frame, token by token (Cosmos §5.2 and §6.3, arXiv 2501.03575).

A discrete tokenizer makes n tokens of a frame. The transformer predicts each from those before it, in its frame and in
the ``context`` frames before, and from what was done before each frame. The most probable tokens are taken, or they are
drawn. What the tokens mean (state or features, reward, end) is read off the latents that they stand for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.autoregressive.cost import draft_flops, frame_flops, video_flops
from procosm.world_model.autoregressive.loss import video_loss
from procosm.world_model.autoregressive.medusa import generate
from procosm.world_model.autoregressive.memory import AutoregressiveMemory
from procosm.world_model.autoregressive.sampling import draw_uniforms
from procosm.world_model.autoregressive.transformer import AutoregressiveTransformer, TransformerConfig
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.share import share
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import MEAN, Condition, DiscreteTokenizer, Prediction, Sampling
from procosm.world_model.past import context_window, past_actions, with_oldest_actions_unknown
from procosm.world_model.readouts import ReadoutName, Readouts


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Shape and loss of autoregressive dynamics."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """The network that predicts tokens."""
    context: Annotated[int, Field(ge=2, le=64)] = 3
    """Past frames the network sees."""
    z_weight: Annotated[float, Field(ge=0, le=1)] = 3e-4
    """Weight of the z-loss."""
    medusa_weight: Annotated[float, Field(ge=0, le=10)] = 0.2
    """Weight of the first Medusa head's loss."""
    readouts: tuple[ReadoutName, ...] = ("reward", "termination", "state")
    """What it learns to tell beside latents: the state where one is logged, features where none is."""
    features: Annotated[int, Field(ge=1, le=128)] = 64
    """Numbers of features, where it tells them."""
    action_cost: bool = False
    """Whether what the action alone costs is fitted to the reward beforehand, see OutcomeHead."""
    patch: ClassVar[int] = 1
    """Latents along each side of a token."""


class AutoregressiveDynamics(Readouts):
    """Satisfies :class:`procosm.world_model.interface.Dynamics`."""

    stay_dense = ("*_head.*", "net.action.*", "net.text", "net.unembed", "net.medusa*")
    """What sparse training leaves alone: the heads, which judge, embeddings and the last layers. Attention and MLPs are
    left to it."""
    trained_whole = ("*_head.*", "net.action.*", "net.no_action", "net.text.*")
    """What is trained beside low-rank updates of the rest."""
    action_columns: ClassVar[dict[str, int]] = {"net.action.0.weight": 1}
    """How many actions stand among the columns of a weight, by its name."""

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
        self._tokenizer = (tokenizer,)  # no module of this one: its weights are stored once, by themselves
        self.net = AutoregressiveTransformer(
            config.transformer, self.grid, spec.vocabulary, config.context, action_size
        )
        sizes = config.features, config.context, spec.shape, action_size, state_size
        self.add_readouts(config.readouts, *sizes, config.action_cost)
        self.mixed = False

    def frame_flops(self) -> int:
        """FLOPs of one frame of a dream, by a pass for each of its tokens, none of them drafted."""
        net, vocabulary = self.net, self.net.unembed.out_features
        return frame_flops(net.config, self.context, net.frame_tokens, vocabulary, self.action_low.numel())

    def window_flops(self, horizon: int) -> int:
        """FLOPs of the network's forward pass in the loss of one window of so many steps."""
        net, frames = self.net, self.context + horizon
        n, vocabulary = net.frame_tokens, net.unembed.out_features
        whole = video_flops(net.config, frames, n, vocabulary, self.action_low.numel())
        return whole + draft_flops(net.config, (frames - 1) * n, vocabulary)

    @property
    def conditions(self) -> frozenset[str]:
        """What it is told beside frames."""
        return frozenset({"actions", "text"} if self.net.config.text_tokens else {"actions"})

    @property
    def tokenizer(self) -> DiscreteTokenizer:
        """What says which tokens latents are."""
        return self._tokenizer[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AutoregressiveDynamics":
        """Goes to another device or dtype together with the tokenizer."""
        cast(nn.Module, self.tokenizer)._apply(fn)
        return super()._apply(fn, recurse)

    @torch.inference_mode()
    def begin(self, latents: Tensor, condition: Condition | None = None) -> AutoregressiveMemory:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        seen = context_window(latents, self.context)
        tokens, b = self.tokenizer.quantize(seen).flatten(1), len(seen)
        past = self.unit_action(past_actions(seen, condition, self.context, len(self.action_low)))
        frames = torch.arange(self.context, device=seen.device).expand(b, -1)
        positions = torch.arange(tokens.shape[1] - 1, device=seen.device).expand(b, -1)
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=self.mixed):
            cache = self.net.empty_cache(b, self._text(condition))
            # Nobody knows what was done before the first of the frames.
            self.net.act(cache, torch.cat([torch.full_like(past[:, :1], torch.nan), past], dim=1), frames)
            self.net.advance(cache, tokens[:, :-1], positions)
        cache.lengths.add_(tokens.shape[1] - 1)
        newest = tokens[:, -self.net.frame_tokens :].clone()
        return AutoregressiveMemory(cache, newest, seen.clone(), self.reader.physical(self.reader(seen)))

    def _text(self, condition: Condition | None) -> Tensor | None:
        """The text of a condition; a ProcosmError where the network takes none, or none such."""
        if condition is None or condition.text is None:
            return None
        asked, given = (self.net.config.text_tokens, self.net.config.text_size), tuple(condition.text.shape[1:])
        if not asked[0] or given != asked:
            takes = f"takes {asked[0]} tokens of {asked[1]} numbers" if asked[0] else "takes no text"
            raise ProcosmError(f"a text of {given[0]} tokens of {given[1]} numbers was given, and this model {takes}")
        return condition.text

    def read(self, memory: AutoregressiveMemory) -> Mapping[str, Tensor]:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        return dict.fromkeys(self.readouts & {"state", "features"}, memory.read)

    @torch.inference_mode()
    def step(
        self,
        memory: AutoregressiveMemory,
        action: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[AutoregressiveMemory, Prediction]:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        unit, n, before = self.unit_action(action), self.net.frame_tokens, self.reader.standardise(memory.read)
        uniforms = None if draws is None or sampling.steps == 1 else draw_uniforms(draws, n, unit.device)
        with torch.autocast(unit.device.type, torch.bfloat16, enabled=self.mixed):
            self.net.act(memory.cache, unit[:, None], (memory.cache.lengths[:, None] + 1) // n)
            tokens = generate(self.net, memory.cache, memory.frame, uniforms, sampling).tokens
        latent = self.tokenizer.dequantize(tokens.unflatten(1, (1, *self.grid)))[:, 0]
        after = torch.cat([memory.latents[:, 1:], latent[:, None]], dim=1)
        reward, termination, read, *success = self.outcome(memory.latents[:, -1], before, after, unit)
        told = self.named(reward, termination, read, *success)
        return AutoregressiveMemory(memory.cache, tokens, after, read), Prediction(latent, told)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """``loss, metrics`` of the tokens of windows' frames, and of what their steps lead to.

        Args:
            batch: the whole batch, of which our share is computed.
        """
        k, horizon, rows = self.context, batch.mask.shape[1], share().rows(len(batch.latents))
        window = self.standardised(batch)
        actions, window = with_oldest_actions_unknown(window.actions, k)[rows], window.rows(rows)
        before = torch.cat([torch.full_like(actions[:, :1], torch.nan), actions], dim=1)
        there = torch.cat([window.mask.new_ones(len(window.mask), k), window.mask], dim=1)
        tokens = self.tokenizer.quantize(window.latents).flatten(2)
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.mixed):
            loss, metrics = video_loss(
                self.net, tokens, before, there, self.config.z_weight, self.config.medusa_weight, generator
            )
        for step in range(horizon):
            heads, told = self.head_loss(window.latents[:, step : step + k + 1], window, step)
            loss = loss + heads / horizon
            metrics |= {name: metrics.get(name, 0) + value / horizon for name, value in told.items()}
        return loss, metrics | {"loss": loss.detach()}
