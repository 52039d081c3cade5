"""A published video tokenizer from its files and back: the folder of diffusers, and NVIDIA's own weight file."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from procosm.world_model.errors import CheckpointError
from procosm.world_model.files import read_json
from procosm.world_model.pretrained.config import RESTORE, read_config
from procosm.world_model.pretrained.cosmos_vae import CosmosVAE, CosmosVAEConfig
from procosm.world_model.pretrained.keys import LEFT_OUT, nvidia_tokenizer_name
from procosm.world_model.pretrained.transformer_files import WRITTEN_AS
from procosm.world_model.pretrained.wan_vae import WanVAE, WanVAEConfig
from procosm.world_model.pretrained.weights import fill, find_weights, mapped, mapped_pt, write_weights

CLASSES: dict[str, tuple[type[nn.Module], type]] = {
    "AutoencoderKLCosmos": (CosmosVAE, CosmosVAEConfig),
    "AutoencoderKLWan": (WanVAE, WanVAEConfig),
}
"""Name of diffusers, ours, and its config."""


def load_vae(folder: Path) -> CosmosVAE | WanVAE:
    """The video tokenizer in a folder of diffusers, its weights in the precision they are stored in.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or does not fit the others; which and how.
    """
    path = folder / "config.json"
    values = read_json(path, RESTORE)
    name = str(values.get("_class_name")) if isinstance(values, dict) else "value that is no object"
    if name not in CLASSES:
        raise CheckpointError(f"{path} is of a {name:.60}, where a VAE is known as {' or '.join(CLASSES)}")
    module, config = CLASSES[name]
    return _filled(module, read_config(config, path, name), mapped(find_weights(folder)), folder)


def save_vae(vae: CosmosVAE | WanVAE, folder: Path) -> Path:
    """Write the folder that diffusers opens; returns it.

    Raises:
        ProcosmError: the folder is not empty, or the disk does not take it.
    """
    name = next(name for name, (module, _) in CLASSES.items() if isinstance(vae, module))
    config = {"_class_name": name, "_diffusers_version": WRITTEN_AS, **dataclasses.asdict(vae.config)}
    write_weights(folder, config, vae.state_dict())
    return folder


def load_nvidia_tokenizer(path: Path, config: CosmosVAEConfig) -> CosmosVAE:
    """A continuous video tokenizer of NVIDIA's, ``.pt`` or safetensors.

    Args:
        path: weights by NVIDIA's names, such as the state of ``autoencoder.jit``. config: NVIDIA keeps it in code.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this config.
    """
    found = mapped(path) if path.suffix == ".safetensors" else mapped_pt(path)
    weights = {nvidia_tokenizer_name(name): tensor for name, tensor in found.items() if not LEFT_OUT.match(name)}
    return _filled(CosmosVAE, config, weights, path)


def _filled(module: type[nn.Module], config: Any, weights: dict[str, torch.Tensor], where: Path) -> Any:
    with torch.device("meta"):
        vae = module(config)
    return fill(vae, weights, {name: name for name in vae.state_dict()}, where)
