"""Fits a manifold to the real latents of a finished world model and puts it among the weights of its dynamics.

    python -m procosm.world_model.fit_manifold --world-model RUN/world_model --data RUN/data

Environments draw their dreams back to it with ``near_real=True``; without, nothing changes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from procosm.world_model.checkpoint import load
from procosm.world_model.episodes import load_episodes
from procosm.world_model.files import read_tensors, write_tensors
from procosm.world_model.manifold import Manifold
from procosm.world_model.train import encode
from procosm.world_model.windows import tabulate

CODES_PER_STATE = 2
"""Codes for each number of the true state: a curved sheet needs more coordinates than it has dimensions."""
NOISE = 0.05
"""Largest deviation of the noise that the autoencoder learns to take away; standardised latents."""
STEPS, BATCH, LEARNING_RATE = 2000, 128, 3e-3
WITHIN = 0.99
"""Share of held-out real latents that are near enough to be left alone."""
MARGIN = 0.1
"""How far a code may lie outside its range over real latents, as a part of that range."""


def fit(real: Tensor, held_out: Tensor, codes: int, seed: int = 0) -> Manifold:
    """The manifold of (n, c, h, w) real latents; how near is near enough, (m, c, h, w) held-out ones say."""
    x = real.flatten(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = Manifold(x.shape[1], codes)
        optimizer = torch.optim.AdamW(found.parameters(), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
        for _ in range(STEPS):
            clean = x[torch.randint(len(x), (BATCH,))]
            noisy = clean + NOISE * torch.rand(BATCH, 1) * torch.randn_like(clean)
            loss = (found.nearest(noisy) - clean).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        seen = found.encoder(x)
        low, high = seen.min(dim=0).values, seen.max(dim=0).values
        found.low.copy_(low - MARGIN * (high - low))
        found.high.copy_(high + MARGIN * (high - low))
        away = held_out.flatten(1)
        found.radius.copy_((away - found.nearest(away)).norm(dim=1).quantile(WITHIN))
    return found.requires_grad_(False).eval()


@dataclass(frozen=True)
class ManifoldConfig:
    """Let the dreams of a checkpoint be kept among latents that real frames have."""

    world_model: Path
    """Checkpoint folder (RUN/world_model)."""
    data: Path
    """Folder of a dataset of its task through the same camera, with held-out episodes (RUN/data)."""
    seed: int = 0
    """Of the autoencoder's weights and batches."""


def give(config: ManifoldConfig) -> Path:
    """Put a manifold among the weights of a checkpoint's dynamics; returns their file.

    Raises:
        CheckpointError, DatasetError: one of them cannot be read, or they do not fit.
    """
    model, episodes = load(config.world_model), load_episodes(config.data)
    real, held_out = (
        encode(model.tokenizer, tabulate(episodes, kind, model.dynamics.context).frames)
        for kind in ("train", "holdout")
    )
    found = fit(real, held_out, CODES_PER_STATE * model.task.state_size, config.seed)
    path = config.world_model / "dynamics.safetensors"
    tensors = {k: v for k, v in read_tensors(path).items() if not k.startswith("manifold.")}
    dtype = next(iter(tensors.values())).dtype  # weights that ship are in half precision
    tensors |= {f"manifold.{k}": v.to(dtype) for k, v in found.state_dict().items()}
    write_tensors(path, tensors)
    return path


def main() -> None:
    """The command line."""
    import tyro

    path = give(tyro.cli(ManifoldConfig))
    print(f"wrote {path}: with near_real=True its dreams now stay near real latents", file=sys.stderr)


if __name__ == "__main__":
    main()
