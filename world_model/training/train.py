"""From episodes to a world model: the stages of its recipe, one after the other."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval
from torch import nn
from tqdm import tqdm

from procosm import sparse
from procosm.sparse import baselines
from procosm.world_model import checkpoint, folders, registry
from procosm.world_model.data.batch import random_batch
from procosm.world_model.data.clip_frames import Damaged
from procosm.world_model.data.datasets import are_shards, frame_bytes, load_episodes, load_task, newest_frames
from procosm.world_model.data.episodes import Episode, acting_policies
from procosm.world_model.data.task import Task
from procosm.world_model.data.windows import Table, tabulate
from procosm.world_model.precision import describe, fits, resolve_device
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count, Device, Positive, Seed, Settings, SettingsError, Share
from procosm.world_model.sparsity import census, sparse_blocks, sparsify, sparsify_like, weights
from procosm.world_model.threads import one_thread
from procosm.world_model.training.assembled import assembled
from procosm.world_model.training.blocks import Part, choose_blocks
from procosm.world_model.training.conditions import with_conditions
from procosm.world_model.training.parallel import Parallel, check_shares, first_alone, joined, processes, rank
from procosm.world_model.training.plan import described, plan
from procosm.world_model.training.presets import Family, Preset, preset
from procosm.world_model.training.recipes import Stage, Training
from procosm.world_model.training.stage import MakeSparsifier
from procosm.world_model.training.validation import open_loop

UNCOUNTED = ("distill", "text", "rays", "views", "fewer", "images")
"""Settings of what a dry run does not count."""


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Train a world model on collected episodes."""

    data: Path
    """Folder of a dataset (RUN/data, of `procosm collect` or `ingest`), or of shards (`procosm curate`)."""
    out: Path
    """Folder of the checkpoint to make (RUN/world_model)."""
    preset: str = "small"
    """Size of everything: debug (seconds), small (minutes on two cores), fast (small, with dreams four times as fast),
    medium (an hour), base (a GPU), 2b and 7b (many GPUs; widths as published), wide (for --density .1, which trains it
    more than twice as fast as dense). --dry-run says what each takes."""
    family: Family = "diffusion"
    """How the next frame is predicted: by denoising it, or token by token (in the sizes debug, small, base, 2b, 7b)."""
    distill: bool = False
    """Teach the trained dynamics to draw in few steps what takes many: for environments made with
    sampling={"solver": "consistency"} and denoising_steps of 2 to 4."""
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
    frames: Literal["auto", "memory", "disk"] = "auto"
    """Where frames and latents lie meanwhile; auto: in memory, if they take less than half of what is free."""
    damaged: Damaged = "refuse"
    """What becomes of a shard that is not what its checksum says: refuse, or skip, which names it and goes on."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """What several processes share, begun by `torchrun --nproc-per-node N -m procosm.agents.cli train ...`. ddp: each
    has all weights, and a part of every batch; fsdp: each has a part of weights, gradients and optimizer, too."""
    accumulate: Count = 1
    """Parts that each process takes its rows of a batch of the dynamics in: less memory, the same result."""
    recompute: bool = False
    """Work activations of the dynamics' blocks out again in the backward pass: less memory, more time, the same."""
    text: bool = False
    """Tell the dynamics what was asked for in each episode, in words; of diffusion alone."""
    acts: bool = True
    """Tell the dynamics what was done; without (--no-acts), words alone say what will happen."""
    rays: Annotated[float, Interval(gt=0, lt=180)] | None = None
    """Vertical field of view, degrees, of a camera whose motion the actions are (velocity, m/s, and turn rate, rad/s,
    in its own coordinates): each place of a picture is told of the ray along which it will see; of diffusion alone."""
    views: bool = False
    """Tell the views of several cameras apart: each is coded by itself, and the dynamics know which view a place is of;
    of diffusion alone."""
    fewer: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Part of the windows of which fewer frames are shown than the dynamics remember, so that dreams can begin with one
    frame, of which nothing tells how fast things move: reset(options={"frames": frame}); of diffusion alone."""
    images: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Part of the windows that are pictures by themselves, so that dreams can begin with none, from words alone or from
    nothing: reset(options={"frames": ()}); of diffusion alone."""
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Each stage ends with the average of its weights, of which every step keeps this share; 0: with the last ones."""
    warm: Path | None = None
    """Checkpoint of the same preset, density and task whose weights, and pattern of live blocks, training begins with;
    left out, it begins with none."""
    effort: Annotated[float, Interval(gt=0, le=100)] = 1.0
    """Steps of every stage, as a multiple of the preset's."""
    recent: Annotated[int, Ge(0)] = 0
    """Episodes, the last of the data, that half of every batch and of the windows to start dreams from are taken from,
    at least; 0: all episodes are alike."""
    dry_run: bool = False
    """Train nothing; print parameters, operations, memory by part, and days."""
    devices: Count = 1
    """Of a dry run: how many share the work, each as --device, by --parallel."""
    flops: Positive | None = None
    """Of a dry run: floating-point operations in a second that a device takes in training (4e14: four tenths of what an
    H100 can). Default: timed on a step here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fewer + self.images >= 1:
            raise SettingsError(f"--fewer {self.fewer:g} and --images {self.images:g} leave no window whole")
        thin = {"--density": self.density < 1, "--tokenizer-density": self.tokenizer_density < 1}
        uncounted = [name for name, asked in thin.items() if asked]
        uncounted += [f"--{name}" for name in UNCOUNTED if getattr(self, name)]
        if self.dry_run and uncounted:
            raise SettingsError(f"--dry-run counts dense models told of actions: leave out {', '.join(uncounted)}")
        if not self.dry_run and (self.devices > 1 or self.flops is not None):
            raise SettingsError(
                "--devices and --flops are of a dry run: add --dry-run, or begin several processes by torchrun"
            )


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
    with joined():
        further = ("distill",) if config.distill else ()
        made = sizes or preset(config.preset, dynamics=config.family, further=further)
        return _train(config, made.scaled(config.effort))


def dry_run(config: TrainConfig) -> str:
    """What training so would take, as a table, see ``plan``; nothing is trained or written.

    Raises:
        ProcosmError: no data, no such preset, or a batch that cannot be shared out among so many devices.
    """
    sizes = preset(config.preset, dynamics=config.family).scaled(config.effort)
    device = resolve_device(config.device)
    with one_thread():  # as many threads as one step of a small network can use
        found = plan(
            load_task(config.data), sizes, shared_out(config), device, config.devices, config.flops, config.family
        )
    return described(found, f"{config.family}, preset {config.preset}")


def shared_out(config: TrainConfig) -> Parallel:
    """How the steps of a stage are shared out and kept small."""
    return Parallel(config.parallel, config.accumulate, config.recompute, config.ema)


def _train(config: TrainConfig, sizes: Preset) -> Path:
    task, device = load_task(config.data), resolve_device(config.device)
    newest = newest_frames(config.data, config.recent)
    how = shared_out(config)
    check_shares({name: stage.batch for name, stage in sizes.stages.items()}, how)
    out = folders.named(config.out)
    work = out.with_name(out.name + ".training")
    torch.manual_seed(config.seed)
    tokens = sizes.tokenizer
    if config.views:
        tokens = replace(tokens, frame_height=task.height, frame_width=task.width, views=len(task.views))
    tokenizer, dynamics = registry.untrained(task, tokens, with_conditions(config, sizes.dynamics, task))
    parts = thin_parts(config, sizes, task, tokenizer, dynamics)
    if config.warm is None:
        with first_alone():
            blocks = choose_blocks(parts, None if config.block == "auto" else config.block, device, work)
        for part in parts:
            sparsify(part.module, part.density, blocks[part.name], part.module.stay_dense)
    else:
        blocks = take_weights(config.warm, tokenizer, dynamics)
    tokenizer, dynamics = tokenizer.to(device), dynamics.to(device)  # drawn on the CPU: the same on every device
    counts = {"tokenizer": weights(tokenizer), "dynamics": weights(dynamics)}
    if parts:
        tqdm.write(census(counts), file=sys.stderr)
    tables = read_tables(config.data, dynamics, device, config.frames, config.damaged)
    if config.text and not any(table.texts != ("",) for table in tables.values()):
        raise SettingsError(f"--text: no episode of {config.data} says what was asked for; leave it out")
    tables["train"] = tables["train"].with_half_from(newest["train"])
    makers, in_epochs = sparsifiers(config), are_shards(config.data)
    training = Training(tokenizer, dynamics, tables, config.seed, work, makers, how=how, in_epochs=in_epochs)
    training.metrics |= {"weights": counts, "signals": learned_from(training)}
    for name, stage in sizes.stages.items():
        training.metrics |= stage.run(name, training)
    training.metrics["open_loop"] = open_loop(training)
    if parts:
        tqdm.write(f"Bytes in training:\n{sparse.memory_report(nn.ModuleList([tokenizer, dynamics]))}", file=sys.stderr)

    origin = provenance({"train": config, "sizes": sizes}) | {"device": describe(device)}
    origin |= {"policies": acting_policies(config.data), "blocks": blocks}
    made = assembled(task, training, origin, newest["holdout"])
    with first_alone():
        return checkpoint.save(config.out, made) if rank() == 0 else config.out


def learned_from(training: Training) -> dict[str, list[str]]:
    """Which signals the log has that are learned from, and what is read off latents; said aloud where it has no state.

    Other signals of a log are kept with it and not used.
    """
    reads = sorted(training.dynamics.readouts)
    used = ["actions", *(name for name in ("state", "reward", "termination", "success") if name in reads)]
    if "features" in reads:
        tqdm.write(
            f"Learning from pixels, {', '.join(used)}: no state was logged, so the model reads features in its place",
            file=sys.stderr,
        )
    return {"used": used, "read": reads}


def read_tables(
    data: Path,
    dynamics: Any,
    device: torch.device,
    frames: Literal["auto", "memory", "disk"] = "auto",
    damaged: Damaged = "refuse",
) -> dict[str, Table]:
    """Training and held-out episodes as tables on a device, and those of constant actions where there are some.

    Args:
        dynamics: what is trained on them, which says how much of the past it sees, and whether it takes words.
        frames, damaged: see TrainConfig.
    """
    room = frames == "memory" or fits(processes() * frame_bytes(data), torch.device("cpu"))
    episodes = load_episodes(data, frames == "disk" or not room, damaged)
    kinds = [kind for kind in ("train", "holdout", "constant") if kind != "constant" or _any(episodes, kind)]
    embed = getattr(dynamics, "embed_text", None)
    return {kind: tabulate(episodes, kind, dynamics.context, embed).to(device) for kind in kinds}


def _any(episodes: list[Episode], kind: str) -> bool:
    return any(episode.kind == kind and len(episode.actions) for episode in episodes)


def take_weights(warm: Path, tokenizer: Any, dynamics: Any) -> dict[str, int]:
    """Give untrained parts the weights, and live blocks, of a checkpoint; returns the side of each part's blocks.

    Raises:
        SettingsError: they are not of the same sizes.
    """
    trained = checkpoint.load(warm)
    sides = {}
    for name, part in (("tokenizer", tokenizer), ("dynamics", dynamics)):
        other: Any = getattr(trained, name)
        if other.config != part.config:
            raise SettingsError(f"--warm {warm}: its {name} is of another preset or task: give one of this --preset")
        blocks, tensors = sparse_blocks(other), other.state_dict()
        sparsify_like(part, blocks, tensors)
        part.load_state_dict(tensors)
        if blocks:
            sides[name] = max(blocks.values())
    return sides


def thin_parts(config: TrainConfig, sizes: Preset, task: Task, tokenizer: Any, dynamics: Any) -> list[Part]:
    """What is to be block-sparse, and how it trains: a step of the stage in which its pattern changes."""
    densities = {"tokenizer": config.tokenizer_density, "dynamics": config.density}
    modules = {"tokenizer": tokenizer, "dynamics": dynamics}
    signals = {"state": task.state_size, "reward": 1, "success": 1}
    logged = {name: size for name, size in signals.items() if name in task.signals}
    shape = dynamics.context, len(task.action_low), logged
    parts = []
    for stage in sizes.stages.values():
        name = stage.chooses
        if not name or densities[name] == 1.0:
            continue
        made = {"frame": (task.height, task.width)} if name == "tokenizer" else {"latent": tokenizer.spec.shape}

        def make_step(module: nn.Module, count: int, stage: Stage = stage, made: Any = made) -> Callable[[], None]:
            context, actions, signals = shape
            batch = random_batch(count, context, 1, actions, signals, **made)
            return stage.rehearse(module, batch)

        size, wider = str(getattr(sizes, name)), " (--preset wide)" if name == "dynamics" else ""
        parts.append(Part(name, modules[name], densities[name], make_step, stage.batch, size, wider))
    return parts


def check_outs(config: TrainConfig) -> None:
    """Refuse, before the work, an ``out`` that the checkpoint must not or cannot be saved to.

    Raises:
        ProcosmError: it holds anything but a checkpoint, lies in the data or around them, or cannot be written.
    """
    folders.check_apart(config.out, config.data)
    checkpoint.check_out(config.out)
    folders.check_out(folders.named(config.out).parent)  # saves for resuming stand beside it


def sparsifiers(config: TrainConfig) -> dict[str, MakeSparsifier]:
    """What makes the sparsifier of each part that is block-sparse."""
    made = {"tokenizer": sparsifier(config, config.tokenizer_density), "dynamics": sparsifier(config, config.density)}
    return {part: make for part, make in made.items() if make is not None}


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
            # The first values stay, as in the published code (its proper_decay is off): a residual network without them
            # starts from nothing, while its rate warms up.
            settings |= {"layer_floor": 1.0, "max_exchange": 0.1, "decay": 0.0}
        return baselines.make(config.sparse_method, module, optimizer, **settings)

    return make
