"""How should a denoising network be told of actions? Four arms, trained alike on the same latents.

    python -m procosm.benchmarks.dream.injection --data RUN/data --world-model RUN/world_model

``timestep embedding`` is what ships (Cosmos-Predict2): actions add to the embedding that modulates every block.
``cross-attention``: every block attends to them, one token for each past latent. ``channel concat``: they are channels
of the input beside the latents. ``shuffled actions``: the first, trained on actions of other windows, which must lose.
Tokenizer and data are the checkpoint's; each arm dreams open loop on held-out windows. arXiv 2511.00062, table 20, has
the same arms on Bridge: Latent L2 .28, .28, .35 and FVD 146, 159, 267.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.windows import Table, context_index, cut, draw
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.transformer import DiffusionTransformer
from procosm.world_model.encoding import encode
from procosm.world_model.errors import ProcosmError
from procosm.world_model.layers import Block, fourier_features
from procosm.world_model.settings import Count, Seed
from procosm.world_model.threads import one_thread
from procosm.world_model.training.stage import Optimizer, StageConfig, rate
from procosm.world_model.training.train import read_tables


class Concatenated(DiffusionTransformer):
    """What is told of actions are channels of every patch."""

    def __init__(self, config: Any, latent_shape: tuple[int, int, int], context: int, told: int) -> None:
        super().__init__(config, latent_shape, context, told)
        self.patch_in = nn.Linear(self.patch_in.in_features + told, config.width, bias=False)
        del self.action

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        context: Tensor,
        action: Tensor,
        text: Tensor | None = None,
        motion: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Tensor:
        """See DiffusionTransformer; words and a camera are not made use of."""
        patches = self.patchify(torch.cat([x, context], dim=1).flatten(1, 2))
        tokens = self.patch_in(torch.cat([patches, action[:, None].expand(-1, patches.shape[1], -1)], dim=2))
        return self.run(tokens, self.of_noise(c_noise), None)

    def of_noise(self, c_noise: Tensor) -> list[tuple[Tensor, ...]]:
        """Modulations of the noise level alone."""
        features = fourier_features(c_noise, self.config.width)
        shared, embedding = self.time_out(F.silu(self.time_hidden(features))), self.embedding_norm(features)
        return [modulate(embedding, shared) for modulate in self.modulations()]


class Crossed(Concatenated):
    """Every block attends to what is told of actions, an embedded token for each number."""

    def __init__(self, config: Any, latent_shape: tuple[int, int, int], context: int, told: int) -> None:
        super().__init__(config, latent_shape, context, told)
        d = config.width
        self.patch_in = nn.Linear(self.patch_in.in_features - told, d, bias=False)
        self.tokens = nn.Parameter(torch.randn(2, told, d) * 0.1)  # a number times the one, plus the other
        self.cross = nn.ModuleList(nn.MultiheadAttention(d, config.heads, batch_first=True) for _ in self.blocks)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        context: Tensor,
        action: Tensor,
        text: Tensor | None = None,
        motion: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Tensor:
        """See DiffusionTransformer; words and a camera are not made use of."""
        tokens = self.patch_in(self.patchify(torch.cat([x, context], dim=1).flatten(1, 2)))
        told, parts = action[..., None] * self.tokens[0] + self.tokens[1], self.of_noise(c_noise)
        for block, cross, attention, mlp in zip(self.blocks, self.cross, parts[:-1:2], parts[1:-1:2], strict=True):
            tokens = tokens + cross(self.norm(tokens), told, told, need_weights=False)[0]
            tokens = cast(Block, block)(tokens, attention, mlp, self.cos, self.sin)
        shift, scale = parts[-1]
        return self.unpatchify(self.patch_out(torch.addcmul(shift, self.norm(tokens), 1 + scale)))[:, None]


ARMS: dict[str, Callable[..., DiffusionTransformer]] = {
    "timestep embedding": DiffusionTransformer,
    "cross-attention": Crossed,
    "channel concat": Concatenated,
    "shuffled actions": DiffusionTransformer,
}


@dataclass(frozen=True)
class InjectionConfig(OnDevice):
    """What is trained, and how long."""

    data: Path
    """Folder of a dataset."""
    world_model: Path
    """Folder of a checkpoint of diffusion dynamics trained on it: its tokenizer and the sizes of its network."""
    out: Path = RESULTS / "injection.json"
    """Where the result goes."""
    steps: Count = 300
    """Of each arm's training."""
    batch: Count = 64
    """Windows in a batch."""
    seeds: Count = 3
    """Trainings of each arm."""
    horizon: Count = 8
    """Steps of a dream."""
    windows: Count = 100
    """Held-out windows."""
    seed: Seed = 0
    """The first seed."""


@one_thread()
def benchmark(config: InjectionConfig) -> Path:
    """Train and judge every arm, and write what came of it.

    Raises:
        ProcosmError: a checkpoint of another family.
    """
    device = config.resolved()
    model = load(config.world_model, device)
    if not isinstance(model.dynamics, DiffusionDynamics):
        raise ProcosmError(f"{config.world_model} is no diffusion model: give one trained with --family diffusion")
    context = model.dynamics.context
    tables = read_tables(config.data, model.dynamics, device)
    latents = {kind: _encoded(model, tables[kind]) for kind in ("train", "holdout")}
    held_out = tables["holdout"]
    chosen = torch.linspace(0, len(held_out.steps) - 1, min(config.windows, len(held_out.steps))).long()
    judged = cut(held_out, held_out.steps[chosen.to(device)], context, config.horizon, latents["holdout"])
    rows: list[dict[str, Any]] = []
    for seed in range(config.seed, config.seed + config.seeds):
        for arm in tqdm(ARMS, desc=f"seed {seed}"):
            shape = model.dynamics.config
            dynamics, count = trained(arm, shape, model.task, tables["train"], latents["train"], config, seed)
            errors = judge(dynamics, judged)
            told = {"task": model.task.id, "arm": arm, "seed": seed, "n": len(chosen)}
            rows.append({**told, "metric": "parameters", "value": count, "unit": "1"})
            for method, found in errors.items():
                rows += [
                    {**told, "metric": "latent_mse", "method": method, "horizon": step, "value": value}
                    | {"unit": "standardised latent²"}
                    for step, value in enumerate(found, 1)
                ]
    return record(config.out.stem, rows, config.out.parent, {"steps": config.steps, "batch": config.batch})


def _encoded(model: WorldModel, table: Table) -> Tensor:
    """(n, c, h, w) of every frame of a table."""
    return encode(model.tokenizer, table.seen(torch.arange(len(table.frames))), table.device)


def trained(
    arm: str, shape: DynamicsConfig, task: Any, table: Any, z: Tensor, config: InjectionConfig, seed: int
) -> tuple[DiffusionDynamics, int]:
    """Dynamics whose network is the arm's, after training, and the parameters of the network."""
    torch.manual_seed(seed)
    shape = dataclasses.replace(shape, readouts=("state",) if task.state_size else ("features",))
    _, c, h, w = z.shape
    dynamics = DiffusionDynamics(shape, (c, h, w), len(task.action_low), task.state_size)
    told = dynamics.net.action.hidden_d.in_features
    dynamics.net = ARMS[arm](shape.transformer, (c, h, w), shape.context, told)
    dynamics.action_low.copy_(torch.tensor(task.action_low))
    dynamics.action_high.copy_(torch.tensor(task.action_high))
    dynamics.to(table.device)  # drawn on the CPU: the same on every device
    dynamics.fit_residual(z[context_index(table, table.steps, 2)], z[table.steps + 1])
    stage = StageConfig(config.steps, config.batch, 1.5e-3)
    optimizer = Optimizer(dynamics.net, stage)
    for step in range(config.steps):
        at, generator = draw(table, config.batch, seed + 1, step)
        batch = cut(table, at, shape.context, 1, z)
        if arm == "shuffled actions":
            batch = dataclasses.replace(batch, actions=batch.actions.roll(1, 0))
        dynamics.diffusion_loss(batch, generator)[0].backward()
        optimizer.step(rate(step, stage))
        dynamics.zero_grad(set_to_none=True)
    return dynamics.eval(), sum(p.numel() for p in dynamics.net.parameters())


@torch.no_grad()
def judge(dynamics: DiffusionDynamics, window: Batch) -> dict[str, list[float]]:
    """Mean squared latent error by horizon: of the dream, under other windows' actions, of the copied last frame."""
    k, unit = dynamics.context, dynamics.standardised(window).actions
    future = window.latents[:, k:]
    counted = window.mask.sum(0).clamp_min(1)

    def dreamed(actions: Tensor) -> Tensor:
        latents = window.latents[:, :k]
        for h in range(future.shape[1]):
            latents = torch.cat([latents, dynamics.advance(latents[:, -k:], actions[:, h : h + k])[:, None]], dim=1)
        return latents[:, k:]

    found = {
        "dream": dreamed(unit),
        "shuffled actions": dreamed(unit.roll(1, 0)),
        "copy last frame": window.latents[:, k - 1 : k].expand_as(future),
    }
    return {
        name: ((each - future).square().flatten(2).mean(2) * window.mask).sum(0).div(counted).tolist()
        for name, each in found.items()
    }


if __name__ == "__main__":
    command.main(benchmark, InjectionConfig)
