"""From episodes to a world model: tokenizer, what reads its latents, one-step diffusion, self-forced unrolling."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from procosm import sparse
from procosm.sparse import baselines
from procosm.world_model import checkpoint, folders, registry
from procosm.world_model.data.episodes import acting_policies, load_episodes, load_task
from procosm.world_model.data.task import Task
from procosm.world_model.data.windows import Table, choose_starts, context_index, cut, draw, first_frames, tabulate
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.interface import Tokenizer
from procosm.world_model.precision import bfloat16_pays, describe, resolve_device
from procosm.world_model.progress import Progress
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Device, Seed, Settings, Share
from procosm.world_model.sparsity import census, sparsify, weights
from procosm.world_model.threads import one_thread, run_each
from procosm.world_model.tokenizer.loss import TokenizerLoss
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.training.blocks import Part, choose_blocks
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.rehearsal import dynamics_step, tokenizer_step
from procosm.world_model.training.stage import MakeSparsifier, run_stage
from procosm.world_model.training.validation import describe_growth, growth, growth_verdict, open_loop

RESETS = 256
"""First frames of the task's own reset that a checkpoint keeps, at most."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Train a world model on collected episodes."""

    data: Path
    """Folder of a dataset made by `procosm collect` (RUN/data)."""
    out: Path
    """Folder of the checkpoint to make (RUN/world_model)."""
    preset: str = "small"
    """Size of everything: debug (seconds), small (minutes on two cores), fast (small, with dreams four times as fast),
    medium (an hour), base (a GPU), wide (for --density .1, which trains it more than twice as fast as dense)."""
    seed: Seed = 0
    """Seed of weights, batches and noise."""
    density: Share = 1.0
    """Share of the weights of the dynamics' attention and MLPs that exists; below 1, from the first step on."""
    tokenizer_density: Share = 1.0
    """The same for the tokenizer's inner layers, which have none to spare: below 1 the picture gets worse."""
    sparse_method: Literal["procrustes", "rigl", "set", "static"] = "procrustes"
    """Who chooses the blocks that exist, where density is below 1."""
    block: Literal["auto", 16, 32, 64, 128] = "auto"
    """Side of the square blocks that exist or not; auto: the one with which this machine trains the preset fastest, for
    each part, kept when training is resumed. Small ones learn better, large ones are faster."""
    device: Device = "auto"
    """Where to train: auto (CUDA where there is a device), cpu, cuda, or cuda:i. Training goes on on any other."""


@one_thread()  # but in the steps of its stages, and where frames are encoded
def train(config: TrainConfig, sizes: Preset | None = None) -> Path:
    """Train, or resume training; returns the checkpoint folder.

    Args:
        config: what to train on, and how.
        sizes: in place of those of ``config.preset``.

    Killed at any moment, the same command goes on from the last save and ends with the same weights, bit for bit, on
    the CPU with the same number of threads.
    """
    check_outs(config)
    sizes, task, device = sizes or preset(config.preset), load_task(config.data), resolve_device(config.device)
    out = folders.named(config.out)
    work = out.with_name(out.name + ".training")
    torch.manual_seed(config.seed)
    tokenizer, dynamics = registry.untrained(task, sizes.tokenizer, sizes.dynamics)
    parts = thin_parts(config, sizes, tokenizer, dynamics)
    blocks = choose_blocks(parts, None if config.block == "auto" else config.block, device, work)
    for part in parts:
        sparsify(part.module, part.density, blocks[part.name], part.module.stay_dense)
    tokenizer, dynamics = tokenizer.to(device), dynamics.to(device)  # drawn on the CPU: the same on every device
    thin_tokenizer, thin_dynamics = sparsifier(config, config.tokenizer_density), sparsifier(config, config.density)
    counts = {"tokenizer": weights(tokenizer), "dynamics": weights(dynamics)}
    if thin_tokenizer or thin_dynamics:
        tqdm.write(census(counts), file=sys.stderr)
    episodes = load_episodes(config.data)
    tables = {kind: tabulate(episodes, kind, dynamics.context).to(device) for kind in ("train", "holdout", "constant")}
    del episodes

    metrics: dict[str, Any] = {"weights": counts}
    metrics["tokenizer"] = train_tokenizer(
        tokenizer, dynamics, tables["train"], sizes, config.seed, work, thin_tokenizer
    )
    latents = {kind: encode(tokenizer, table.frames, device) for kind, table in tables.items()}
    metrics["state_head"] = train_state_head(dynamics, tables["train"], latents["train"], sizes, config.seed, work)
    metrics["manifold"] = train_manifold(dynamics, tables["train"], latents["train"], sizes, config.seed, work)
    for judge in (dynamics.state_head, dynamics.manifold):
        judge.requires_grad_(False)  # from here on they judge; they must not bend to what they judge
    metrics |= train_dynamics(dynamics, tables, latents, sizes, config.seed, work, thin_dynamics)
    if thin_tokenizer or thin_dynamics:
        tqdm.write(f"Bytes in training:\n{sparse.memory_report(nn.ModuleList([tokenizer, dynamics]))}", file=sys.stderr)

    origin = provenance({"train": config, "sizes": sizes}) | {"device": describe(device)}
    origin |= {"policies": acting_policies(config.data), "blocks": blocks}
    return checkpoint.save(config.out, assembled(task, tokenizer, dynamics, tables, latents, metrics, origin))


def assembled(
    task: Task,
    tokenizer: CausalTokenizer,
    dynamics: DiffusionDynamics,
    tables: dict[str, Table],
    latents: dict[str, Tensor],
    metrics: dict[str, Any],
    origin: dict[str, Any],
) -> checkpoint.WorldModel:
    """A world model of trained parts, with held-out windows to start dreams from; ``origin`` is its provenance."""
    starts = choose_starts(tables["holdout"], latents["holdout"], dynamics.context)
    firsts = [latents[kind][first_frames(tables[kind])] for kind in ("holdout", "constant", "train")]
    resets = torch.cat(firsts)[:RESETS]
    rewards = tables["train"].signals["reward"][tables["train"].steps]
    return checkpoint.WorldModel(
        task=task,
        tokenizer=tokenizer,
        dynamics=dynamics,
        start_frames=tables["holdout"].seen(starts),
        start_states=tables["holdout"].signals["state"][starts[:, -1]],
        starts=latents["holdout"][starts],
        resets=resets if len(resets) else None,
        reward_range=(float(rewards.min()), float(rewards.max())),
        metrics=metrics,
        provenance=origin,
    )


def thin_parts(
    config: TrainConfig, sizes: Preset, tokenizer: CausalTokenizer, dynamics: DiffusionDynamics
) -> list[Part]:
    """What is to be block-sparse, and how it trains."""
    frames = partial(
        tokenizer_step, sizes.tokenizer_loss, sizes.tokenize, dynamics.context, len(dynamics.state_head.mean)
    )
    parts = [
        Part("tokenizer", tokenizer, config.tokenizer_density, frames, sizes.tokenize.batch, str(sizes.tokenizer)),
        Part(
            "dynamics", dynamics, config.density, partial(dynamics_step, sizes.diffuse), sizes.diffuse.batch,
            str(sizes.dynamics), wider=" (--preset wide)",
        ),
    ]  # fmt: skip
    return [part for part in parts if part.density < 1.0]


def check_outs(config: TrainConfig) -> None:
    """Refuse, before the work, an ``out`` that the checkpoint must not or cannot be saved to.

    Raises:
        ProcosmError: it holds anything but a checkpoint, lies in the data or around them, or cannot be written.
    """
    folders.check_apart(config.out, config.data)
    checkpoint.check_out(config.out)
    folders.check_out(folders.named(config.out).parent)  # saves for resuming stand beside it


def sparsifier(config: TrainConfig, density: float) -> MakeSparsifier | None:
    """What makes the sparsifier of a stage in which the pattern changes; None at density 1.

    It changes about 9 times a stage, 8 to 96 steps apart so that a new block has time to grow, and never in
    the last quarter, which trains what is there (RigL, arXiv 1911.11134, section 3). Procrustes changes little at a
    time and takes nothing from one layer for another, so its threshold is each layer's own: stages this short have no
    steps to spare for what a global one unsettles.
    """
    if density == 1.0:
        return None

    def make(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> baselines.Sparsifier:
        settings: dict[str, Any] = {"density": density, "seed": config.seed}
        if config.sparse_method != "static":
            settings |= {"update_every": 8 * min(max(steps // 96, 1), 12), "stop_after": 3 * steps // 4}
        if config.sparse_method == "procrustes":
            # The first values stay: a residual network without them starts from nothing, while its rate warms up.
            settings |= {"layer_floor": 1.0, "max_exchange": 0.1, "decay": 0.0}
        return baselines.make(config.sparse_method, module, optimizer, **settings)

    return make


def train_tokenizer(
    tokenizer: CausalTokenizer,
    dynamics: DiffusionDynamics,
    table: Table,
    sizes: Preset,
    seed: int,
    work: Path,
    choose: MakeSparsifier | None = None,
) -> dict[str, float]:
    """First stage: the tokenizer together with the state head that reads its latents."""
    head, stage = dynamics.state_head, sizes.tokenize
    head.fit(table.signals["state"])
    tokenizer.mean_frame.copy_((table.frames[::7].float().mean(0) / 127.5 - 1).permute(2, 0, 1)[:, None])
    # The encoder stays in float32: how fast a thing moves is in the last digits of its latents.
    tokenizer.mixed = table.device.type == "cuda" and bfloat16_pays(table.device)
    loss = TokenizerLoss(sizes.tokenizer_loss, tokenizer, head)

    def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        at, _ = draw(table, stage.batch, seed, step)
        seen = context_index(table, at + 1, dynamics.context)
        return loss(table.seen(seen), table.signals["state"][seen])

    metrics = run_stage("tokenizer", loss, losses, stage, work / "tokenizer.safetensors", choose)
    tokenizer.mixed = False
    sample = torch.arange(0, len(table.frames), max(1, len(table.frames) // 4096))
    with torch.no_grad():
        tokenizer.fit_latents(tokenizer.to_latents(tokenizer.pixels(table.seen(sample)[:, None])))
    return metrics


def train_state_head(
    dynamics: DiffusionDynamics, table: Table, z: Tensor, sizes: Preset, seed: int, work: Path
) -> dict[str, float]:
    """Second stage: the state head once more, on finished latents: beside the tokenizer it sees too few batches."""
    head, stage = dynamics.state_head, sizes.read

    def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        at, _ = draw(table, stage.batch, seed + 3, step)
        estimate = head(z[context_index(table, at + 1, dynamics.context)])
        loss = F.smooth_l1_loss(estimate, head.standardise(table.signals["state"][at + 1]))
        return loss, {"state": loss.detach()}

    return run_stage("state head", head, losses, stage, work / "state_head.safetensors")


def train_manifold(
    dynamics: DiffusionDynamics, table: Table, z: Tensor, sizes: Preset, seed: int, work: Path
) -> dict[str, float]:
    """Beside it: what real latents are like, by denoising them."""
    manifold, stage = dynamics.manifold, sizes.settle
    manifold.fit(z)

    def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        at, generator = draw(table, stage.batch, seed + 4, step)
        return manifold.loss(z[at + 1], generator)

    return run_stage("manifold", manifold, losses, stage, work / "manifold.safetensors")


def train_dynamics(
    dynamics: DiffusionDynamics,
    tables: dict[str, Table],
    latents: dict[str, Tensor],
    sizes: Preset,
    seed: int,
    work: Path,
    choose: MakeSparsifier | None = None,
) -> dict[str, object]:
    """Third and fourth stage; the fourth runs again while the growth test is missed, at most ``extensions`` times.

    The fourth keeps the pattern of live blocks: a dream lives on its own predictions, and a block lost in the middle of
    it costs more than a better one can bring back in the steps that are left.
    """
    table, z = tables["train"], latents["train"]
    with torch.no_grad():
        dynamics.fit_residual(z[context_index(table, table.steps, 2)], z[table.steps + 1])
        dynamics.outcome_head.fit(table.signals["reward"][table.steps])

    def diffuse(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        at, generator = draw(table, sizes.diffuse.batch, seed + 1, step)
        return dynamics.diffusion_loss(cut(table, z, at, 1, dynamics), generator)

    def unroll(first: int) -> Callable[[int], tuple[Tensor, dict[str, Tensor]]]:
        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, _ = draw(table, sizes.unroll.batch, seed + 2, first + step)
            return dynamics.unrolled_loss(cut(table, z, at, sizes.horizon, dynamics))

        return losses

    dynamics.mixed = bfloat16_pays(table.device)
    metrics: dict[str, object] = {
        "diffusion": run_stage("diffusion", dynamics, diffuse, sizes.diffuse, work / "diffusion.safetensors", choose)
    }
    horizon = 32
    metrics["before_unrolling"] = open_loop(dynamics, tables["holdout"], latents["holdout"], horizon)
    for round_ in range(1 + sizes.extensions):
        name = f"unroll-{round_}"
        losses = unroll(round_ * sizes.unroll.steps)
        metrics[name] = run_stage(name, dynamics, losses, sizes.unroll, work / f"{name}.safetensors")
        verdict = growth_verdict(growth(dynamics, tables["constant"], latents["constant"]), sizes.growth_gate)
        tqdm.write(describe_growth(verdict), file=sys.stderr)
        if verdict["passed"] is not False:
            break
    else:
        tqdm.write("Collect more steps or take a larger preset.", file=sys.stderr)
    metrics["growth"] = verdict
    dynamics.mixed = False
    metrics["open_loop"] = open_loop(dynamics, tables["holdout"], latents["holdout"], horizon)
    return metrics


@torch.no_grad()
def encode(tokenizer: Tokenizer, frames: Tensor, device: torch.device, batch: int = 256) -> Tensor:
    """(n, H, W, 3) uint8, wherever they are, to (n, c, h, w) on the tokenizer's ``device``, each frame as an image."""
    with Progress(len(frames), "encode", "frame") as bar:

        def encoded(part: Tensor) -> Tensor:
            z = tokenizer.encode(part[:, None].to(device))[:, 0]
            bar.update(len(part))
            return z

        tasks = [partial(encoded, part) for part in frames.split(batch)]
        return torch.cat(run_each(tasks) if device.type == "cpu" else [task() for task in tasks])
