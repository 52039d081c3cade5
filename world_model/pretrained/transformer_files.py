"""A published transformer from its files and back: the folder of diffusers, and NVIDIA's own weight files."""

import dataclasses
from pathlib import Path

import torch

from procosm.world_model.errors import CheckpointError
from procosm.world_model.pretrained.config import RESTORE, CosmosTransformerConfig, read_config
from procosm.world_model.pretrained.keys import LEFT_OUT, Layout, transformer_names
from procosm.world_model.pretrained.transformer import CosmosTransformer
from procosm.world_model.pretrained.weights import fill, find_weights, mapped, mapped_pt, write_weights

CLASS = "CosmosTransformer3DModel"
WRITTEN_AS = "0.42.1"
"""Version of diffusers whose layout this is."""


def read_transformer_config(folder: Path) -> CosmosTransformerConfig:
    """What the config.json of a folder of diffusers says.

    Raises:
        CheckpointError: it is missing, damaged, or has a key or value that cannot be; by name.
    """
    return read_config(CosmosTransformerConfig, folder / "config.json", CLASS)


def load_transformer(folder: Path, action_size: int | None = None) -> CosmosTransformer:
    """The transformer in a folder of diffusers, its weights in the precision they are stored in.

    Args:
        folder: with config.json and safetensors, such as ``transformer/`` of a published model.
        action_size: as in ``CosmosTransformer``; its parameters lie in the same files.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or does not fit the others; which and how.
    """
    config = read_transformer_config(folder)
    with torch.device("meta"):
        transformer = CosmosTransformer(config, action_size)
    return fill(
        transformer, mapped(find_weights(folder)), transformer_names(transformer.state_dict(), "diffusers"), folder
    )


def save_transformer(transformer: CosmosTransformer, folder: Path, most: int | None = None) -> Path:
    """Write the folder that diffusers opens; ``most`` bytes for each file. Returns it.

    Raises:
        ProcosmError: the folder is not empty, or the disk does not take it.
    """
    state = transformer.state_dict()
    tensors = {theirs: state[ours] for theirs, ours in transformer_names(state, "diffusers").items()}
    config = {"_class_name": CLASS, "_diffusers_version": WRITTEN_AS, **dataclasses.asdict(transformer.config)}
    write_weights(folder, config, tensors, *([] if most is None else [most]))
    return folder


def load_nvidia_transformer(
    path: Path, config: CosmosTransformerConfig, layout: Layout, action_size: int | None = None
) -> CosmosTransformer:
    """The transformer in one of NVIDIA's own files, ``.pt`` or safetensors.

    Args:
        path: the file. config: NVIDIA keeps it in code, so it must be given.
        layout: ``predict1`` or ``predict2`` (which 2.5 has too), whose names the file has.
        action_size: as in ``CosmosTransformer``, of the action-conditioned models.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this config.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: {RESTORE}")
    found = mapped(path) if path.suffix == ".safetensors" else mapped_pt(path)
    plain = {name.removeprefix("net."): tensor for name, tensor in found.items()}
    with torch.device("meta"):
        transformer = CosmosTransformer(config, action_size)
    weights = {name: tensor for name, tensor in plain.items() if not LEFT_OUT.match(name)}
    return fill(transformer, weights, transformer_names(transformer.state_dict(), layout), path)
