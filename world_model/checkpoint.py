"""A trained world model as a folder: configuration, weights, start frames, metrics, provenance.

Nothing in it is a pickle. Of a block-sparse layer only the live blocks are stored (NAME.values, .rows, .cols), and
config.json names the layer and the side of its blocks. The folder appears in one rename, so that a reader finds all of
it or none.
"""

import dataclasses
import os
import shutil
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from procosm.world_model.diffusion.dynamics import DiffusionDynamics, DynamicsConfig
from procosm.world_model.episodes import Task
from procosm.world_model.files import read_json, read_tensors, write_json, write_tensors
from procosm.world_model.interface import CheckpointError, ProcosmError
from procosm.world_model.layers import sparse_blocks, sparsify_like
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig

FORMAT = 1


@dataclass(frozen=True)
class WorldModel:
    """A tokenizer, its dynamics, and real frames to start dreaming from.

    Attributes:
        task: the task it has learned.
        tokenizer, dynamics: frozen, in eval mode.
        start_frames: (n, context, H, W, 3) uint8, held-out real frames. start_states: (n, s), true state at the last.
        starts: (n, context, c, h, w), the same windows as standardised latents.
        reward_range: least and greatest reward in the data.
        metrics: held-out metrics measured at the end of training. provenance: where it came from.
        trust: tensors of ``procosm.envs.trust``, which tells when a dream is out of its depth; older models have none.
    """

    task: Task
    tokenizer: CausalTokenizer
    dynamics: DiffusionDynamics
    start_frames: Tensor
    start_states: Tensor
    starts: Tensor
    reward_range: tuple[float, float]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    trust: dict[str, Tensor] | None = None


def build(cls: type, values: Any, where: str) -> Any:
    """A dataclass from JSON values; a missing or unknown key is an error that names it."""
    if not dataclasses.is_dataclass(cls):
        origin = typing.get_origin(cls)
        return tuple(values) if origin is tuple or cls is tuple else values
    fields = typing.get_type_hints(cls)
    wrong = sorted(set(values) ^ set(fields))
    if wrong:
        raise CheckpointError(
            f"{where} does not fit this version of procosm ({', '.join(wrong)} missing or unknown): train it again"
        )
    return cls(
        **{k: build(t if not isinstance(t, types.UnionType) else object, values[k], where) for k, t in fields.items()}
    )


def save(folder: Path, model: WorldModel) -> Path:
    """Write the model's folder, replacing an older one only when the new one is complete."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    config = {
        "format": FORMAT,
        "task": dataclasses.asdict(model.task),
        "tokenizer": dataclasses.asdict(model.tokenizer.config),
        "dynamics": dataclasses.asdict(model.dynamics.config),
        "sparse": {"tokenizer": sparse_blocks(model.tokenizer), "dynamics": sparse_blocks(model.dynamics)},
        "reward_range": list(model.reward_range),
    }
    starts = {"frames": model.start_frames, "states": model.start_states, "latents": model.starts}
    try:
        write_json(temporary / "config.json", config)
        write_tensors(temporary / "tokenizer.safetensors", model.tokenizer.state_dict())
        write_tensors(temporary / "dynamics.safetensors", model.dynamics.state_dict())
        write_tensors(temporary / "starts.safetensors", starts)
        if model.trust is not None:
            write_tensors(temporary / "trust.safetensors", model.trust)
        write_json(temporary / "metrics.json", model.metrics)
        write_json(temporary / "provenance.json", model.provenance)
    except ProcosmError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return folder


def load(folder: Path | str, device: str = "cpu") -> WorldModel:
    """Open a checkpoint folder.

    Raises:
        CheckpointError: a missing, damaged or foreign checkpoint, and what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"no checkpoint at {folder}: train one with `procosm run --env ID --out DIR` and give DIR/world_model"
        )
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has format {config.get('format')}, this version reads {FORMAT}: train it again"
        )
    where = str(folder / "config.json")
    task = build(Task, config["task"], where)
    tokenizer = CausalTokenizer(build(TokenizerConfig, config["tokenizer"], where))
    dynamics = DiffusionDynamics(
        build(DynamicsConfig, config["dynamics"], where), tokenizer.latent_shape, len(task.action_low), task.state_size
    )
    for module, name in ((tokenizer, "tokenizer"), (dynamics, "dynamics")):
        tensors = read_tensors(folder / f"{name}.safetensors")
        try:
            sparsify_like(module, config.get("sparse", {}).get(name, {}), tensors)
            module.load_state_dict(tensors)
        except (KeyError, RuntimeError, CheckpointError) as error:
            raise CheckpointError(f"{folder}/{name}.safetensors does not fit its config.json: {error}") from error
        module.requires_grad_(False).eval().to(device)
    starts = read_tensors(folder / "starts.safetensors")
    trust = folder / "trust.safetensors"
    return WorldModel(
        task=task,
        tokenizer=tokenizer,
        dynamics=dynamics,
        start_frames=starts["frames"].to(device),
        start_states=starts["states"].to(device),
        starts=starts["latents"].to(device),
        reward_range=tuple(config["reward_range"]),
        metrics=read_json(folder / "metrics.json"),
        provenance=read_json(folder / "provenance.json"),
        trust={k: v.to(device) for k, v in read_tensors(trust).items()} if trust.exists() else None,
    )


def untrained(
    task: Task, tokenizer: TokenizerConfig, dynamics: DynamicsConfig
) -> tuple[CausalTokenizer, DiffusionDynamics]:
    """Fresh modules that fit a task; draw of the weights from torch's global generator."""
    tokens = CausalTokenizer(dataclasses.replace(tokenizer, frame_size=task.frame_size))
    model = DiffusionDynamics(dynamics, tokens.latent_shape, len(task.action_low), task.state_size)
    with torch.no_grad():
        model.action_low.copy_(torch.tensor(task.action_low))
        model.action_high.copy_(torch.tensor(task.action_high))
    return tokens, model
