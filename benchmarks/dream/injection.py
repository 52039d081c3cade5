"""How should a denoising network be told of actions? Four arms, trained alike on the same latents.

    python -m procosm.benchmarks.dream.injection --data RUN/data --world-model RUN/world_model

``timestep embedding`` is what ships (Cosmos-Predict2): actions add to the embedding that modulates every block.
``cross-attention``: every block attends to them, one token for each past latent. ``channel concat``: they are channels
of the input beside the latents. ``shuffled actions``: the first, trained on actions of other windows, which must lose.
Tokenizer and data are the checkpoint's; each arm dreams open loop on held-out windows. arXiv 2511.00062, table 20, has
the same arms on Bridge: Latent L2 .28, .28, .35 and FVD 146, 159, 267.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.conditioning.injection import Injection
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.windows import Table, context_index, cut, draw
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.encoding import encode
from procosm.world_model.errors import ProcosmError
from procosm.world_model.readouts import ReadoutName
from procosm.world_model.settings import Count, Seed
from procosm.world_model.threads import one_thread
from procosm.world_model.training.stage import Optimizer, StageConfig, rate
from procosm.world_model.training.train import read_tables

ARMS: dict[str, Injection] = {
    "timestep embedding": "timestep",
    "cross-attention": "cross-attention",
    "channel concat": "channels",
    "shuffled actions": "timestep",
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
    readouts: tuple[ReadoutName] = ("state",) if task.state_size else ("features",)
    shape = dataclasses.replace(shape, readouts=readouts, injection=ARMS[arm])
    _, c, h, w = z.shape
    dynamics = DiffusionDynamics(shape, (c, h, w), len(task.action_low), task.state_size)
    dynamics.action_low.copy_(torch.tensor(task.action_low))
    dynamics.action_high.copy_(torch.tensor(task.action_high))
    dynamics.to(table.device)  # drawn on the CPU: the same on every device
    dynamics.fit_residual([(z[context_index(table, table.steps, 2)], z[table.steps + 1])])
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
