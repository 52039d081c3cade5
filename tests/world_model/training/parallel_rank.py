"""What each process of tests of parallel training does: stages of a tiny model, their losses written down."""

import contextlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from procosm.sparse.baselines import make
from procosm.world_model.data.batch import Batch, random_batch
from procosm.world_model.data.share import share
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_json
from procosm.world_model.heads import StateHead
from procosm.world_model.sparsity import sparsify
from procosm.world_model.tokenizer.loss import TokenizerLoss, TokenizerLossConfig
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.training import stage
from procosm.world_model.training.parallel import Parallel, first_alone, joined, rank
from procosm.world_model.training.stage import StageConfig, run_stage

BATCH, HORIZON, STEPS = 4, 2, 6
CONFIG = StageConfig(STEPS, BATCH, 3e-3)


def windows(dynamics: DiffusionDynamics, step: int) -> tuple[Batch, torch.Generator]:
    """A batch that is a function of the step."""
    g = torch.Generator().manual_seed(step)
    k, a, s = dynamics.context, len(dynamics.action_low), len(dynamics.state_head.mean)
    window = Batch(
        frames=torch.empty(0),
        latents=torch.randn(BATCH, k + HORIZON, *dynamics.latent_shape, generator=g),
        actions=torch.rand(BATCH, k - 1 + HORIZON, a, generator=g) * 2 - 1,
        signals={
            "state": torch.randn(BATCH, k + HORIZON, s, generator=g),
            "reward": torch.randn(BATCH, HORIZON, generator=g),
        },
        ends=torch.zeros(BATCH, HORIZON),
        mask=torch.ones(BATCH, HORIZON),
    )
    return window, g


def dynamics() -> DiffusionDynamics:
    torch.manual_seed(0)
    network = TransformerConfig(width=32, layers=2, heads=2, mlp_ratio=2, adaln_rank=4)
    made = DiffusionDynamics(DynamicsConfig(transformer=network), (2, 4, 4), 2, 3)
    sparsify(made, 0.5, 16, made.stay_dense)
    with torch.no_grad():  # no layer is zero, or no gradient would reach those before it
        for parameter in made.net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    made.state_head.requires_grad_(False)
    return made


def procrustes(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    settings = {"update_every": 2, "probe_every": 1, "layer_floor": 1.0, "max_exchange": 0.5, "decay": 0.9}
    return make("procrustes", module, optimizer, density=0.5, seed=0, **settings)


def diffusion(
    out: Path, how: Parallel, unrolled: bool = False, after: Callable[[int], None] = lambda step: None
) -> dict[str, Any]:
    """Losses of a stage, and its weights in the end; ``after`` is called after each step.

    Unrolled, the pattern of live blocks stays, as it does in training: there a layer is called several times in a step.
    """
    module, curve = dynamics(), {}

    def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        window, generator = windows(module, step)
        loss, _ = module.unrolled_loss(window) if unrolled else module.diffusion_loss(window, generator)
        return loss, {"loss": loss.detach()}

    with noted(curve, after):
        run_stage("diffusion", module, losses, CONFIG, out, None if unrolled else procrustes, how)
    return {"losses": curve, "weights": {name: t.tolist() for name, t in module.net.state_dict().items()}}


def tokenizer(out: Path, how: Parallel) -> dict[str, Any]:
    torch.set_default_dtype(torch.float32)  # which its pixels have
    torch.manual_seed(0)
    config = TokenizerConfig(frame_height=16, frame_width=16, width=8, blocks=0, latent_size=4)
    module, curve = CausalTokenizer(config), {}
    loss = TokenizerLoss(TokenizerLossConfig(), module, StateHead(3, module.spec.shape, 3))

    def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        g = torch.Generator().manual_seed(step)
        frames = torch.randint(0, 256, (BATCH, 3, 16, 16, 3), generator=g, dtype=torch.uint8)
        batch = replace(random_batch(BATCH, 2, 1, 1, {}), frames=frames)
        batch = replace(batch, signals={"state": torch.randn(BATCH, 3, 3, generator=g)})
        return loss(batch.rows(share().rows(BATCH)), g)

    with noted(curve):
        run_stage("tokenizer", loss, losses, CONFIG, out, how=how)
    torch.set_default_dtype(torch.float64)
    return {"losses": curve}


@contextlib.contextmanager
def noted(curve: dict[int, float], after: Callable[[int], None] = lambda step: None) -> Iterator[None]:
    """Write down the loss that a stage looks at in each step."""

    class Noted(stage.Watched):
        def add(self, step: int, loss: Tensor) -> None:
            super().add(step, loss)
            curve[step] = float(loss)
            after(step)

    before, stage.Watched = stage.Watched, Noted  # type: ignore[misc]
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        stage.Watched = before  # type: ignore[misc]


def at(step: int, rank_: int, number: signal.Signals) -> Callable[[int], None]:
    """Sends a signal to one of the processes in one step."""
    return lambda now: signal.raise_signal(number) if (now, rank()) == (step, rank_) else None


PARTS, SHARDS = Parallel("ddp", accumulate=2, recompute=True), Parallel("fsdp", ema=0.9)


def main(folder: Path) -> None:
    """Every stage; of the last one a process is killed."""
    found = {
        "ddp": diffusion(folder / "ddp.safetensors", Parallel()),
        "parts": diffusion(folder / "parts.safetensors", PARTS),
        "unrolled": diffusion(folder / "unrolled.safetensors", PARTS, unrolled=True),
        "tokenizer": tokenizer(folder / "tokenizer.safetensors", Parallel()),
        "stopped": diffusion(folder / "fsdp.safetensors", SHARDS, after=at(4, 0, signal.SIGINT)),
    }
    with first_alone():
        if rank() == 0:
            shutil.copytree(folder / "fsdp.shards", folder / "alone.shards")
    found["fsdp"] = diffusion(folder / "fsdp.safetensors", SHARDS)
    write_json(folder / f"{rank()}.json", found)
    stage.SAVE_SECONDS = 0.0
    diffusion(folder / "killed.safetensors", Parallel(), after=at(4, 1, signal.SIGKILL))


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    here = Path(sys.argv[1])
    try:
        with joined():
            main(here)
    except ProcosmError as error:
        write_json(here / "error.json", str(error))
