"""Folders that diffusers writes are read, those that we write are read by diffusers, and damage is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import CosmosTransformer3DModel
from safetensors.torch import load_file, save_file

from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.keys import transformer_names
from procosm.world_model.pretrained.transformer import CosmosTransformer
from procosm.world_model.pretrained.transformer_files import (
    load_nvidia_transformer,
    load_transformer,
    save_transformer,
)
from tests.world_model.pretrained import published

published.make_do()
SINGLE, INDEX = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def theirs() -> CosmosTransformer3DModel:
    return published.transformer("video2world")


@pytest.fixture(params=["1GB", "60KB"], ids=["one file", "several files"])
def folder(theirs, request, tmp_path) -> Path:
    theirs.save_pretrained(tmp_path / "published", max_shard_size=request.param)
    return tmp_path / "published"


def test_folders_go_both_ways_to_the_bit(theirs, folder, tmp_path):
    ours = load_transformer(folder)
    again = save_transformer(ours, tmp_path / "again", most=10**9 if (folder / SINGLE).exists() else 60_000)
    assert {path.name for path in again.iterdir()} == {path.name for path in folder.iterdir()}
    back = CosmosTransformer3DModel.from_pretrained(again)
    configs = [{k: v for k, v in each.config.items() if not k.startswith("_")} for each in (back, theirs)]
    assert json.dumps(configs[0]) == json.dumps(configs[1])
    weights, expected = back.state_dict(), theirs.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    text, latents = torch.randn(1, 12, 16), torch.randn(1, 4, 2, 16, 16)
    mask = torch.ones(1, 1, 2, 16, 16)
    with torch.no_grad():
        told = theirs(latents, torch.ones(1), text, condition_mask=mask, padding_mask=torch.zeros(1, 1, 16, 16)).sample
        assert torch.allclose(ours(latents, torch.ones(1), text, condition_mask=mask), told, atol=1e-5)


def test_weights_keep_the_precision_they_are_stored_in(theirs, tmp_path):
    theirs.bfloat16().save_pretrained(tmp_path / "half")
    ours = load_transformer(tmp_path / "half")
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.bfloat16}


PREDICT1 = {
    "net.x_embedder.proj.1.weight": "patch_in.weight",
    "net.t_embedder.1.linear_2.weight": "time_out.weight",
    "net.affline_norm.weight": "embedding_norm.weight",
    "net.extra_pos_embedder.pos_emb_h": "positions.h",
    "net.blocks.block1.blocks.0.block.attn.to_q.1.weight": "blocks.1.self_attention.norm_q.weight",
    "net.blocks.block0.blocks.1.block.attn.to_out.0.weight": "blocks.0.cross_attention.out.weight",
    "net.blocks.block1.blocks.2.block.layer1.weight": "blocks.1.mlp.0.weight",
    "net.blocks.block1.blocks.1.adaLN_modulation.2.weight": "blocks.1.modulate_cross.up.weight",
    "net.final_layer.linear.weight": "patch_out.weight",
    "net.action_embedder_B_3D.fc2.bias": "action.out_3d.bias",
}
PREDICT2 = {
    "net.t_embedding_norm.weight": "embedding_norm.weight",
    "net.blocks.1.self_attn.q_norm.weight": "blocks.1.self_attention.norm_q.weight",
    "net.blocks.0.cross_attn.output_proj.weight": "blocks.0.cross_attention.out.weight",
    "net.blocks.1.mlp.layer2.weight": "blocks.1.mlp.2.weight",
    "net.blocks.1.adaln_modulation_mlp.1.weight": "blocks.1.modulate_mlp.down.weight",
    "net.final_layer.adaln_modulation.1.weight": "modulate_out.down.weight",
    "net.crossattn_proj.0.bias": "text_in.bias",
    "net.action_embedder_B_D.fc1.weight": "action.hidden_d.weight",
}


@pytest.mark.parametrize(
    ("layout", "variant", "known", "beside"),
    [
        ("predict1", "video2world", PREDICT1, ("net.logvar.0.freqs", "net.pos_embedder.seq")),
        ("predict2", "predict2.5", PREDICT2, ("net.accum_iteration", "net.blocks.0.self_attn._extra_state")),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_nvidias_own_files_are_read_with_their_action_head(layout, variant, known, beside, suffix, tmp_path):
    config = CosmosTransformerConfig(**published.TRANSFORMER | published.VARIANTS[variant])
    source = published.randomised(CosmosTransformer(config, action_size=28))
    state, names = source.state_dict(), transformer_names(source.state_dict(), layout)
    assert len(names) == len(state) and {f"net.{name}": mine for name, mine in names.items()}.items() >= known.items()
    path, stored = tmp_path / f"model{suffix}", {f"net.{name}": state[mine] for name, mine in names.items()}
    stored |= {name: torch.zeros(3) for name in beside}
    if suffix == ".pt":
        torch.save({"model": stored}, path)
    else:
        save_file(stored, path)
    found = load_nvidia_transformer(path, config, layout, action_size=28).state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    with pytest.raises(CheckpointError, match="holds the unknown action_embedder"):
        load_nvidia_transformer(path, config, layout)


def broken(folder: Path, how: str) -> str:
    """Damage a folder of several files or one; what an error must say of it."""
    weights = sorted(folder.glob("*.safetensors"))[-1]
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
        return f"{weights.name} is missing, truncated or damaged"
    if how == "missing":
        weights.unlink()
        return "holds neither" if weights.name == SINGLE else f"names {weights.name}, which"
    if how == "renamed":
        weights.rename(weights.with_name("weights.safetensors"))
        return "but config.json, weights.safetensors" if weights.name == SINGLE else f"names {weights.name}, which"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    if how == "a tensor renamed":
        save_file({(f"my.{name}" if key == name else key): value for key, value in tensors.items()}, weights)
        return f"lacks {name} and holds the unknown my.{name}"
    save_file(tensors | {name: tensors[name][:1]}, weights)
    return f"{name} is torch.float32"


@pytest.mark.parametrize("how", ["truncated", "missing", "renamed", "a tensor renamed", "another shape"])
def test_damaged_weights_are_named(folder, how):
    told = broken(folder, how)
    with pytest.raises(CheckpointError) as caught:
        load_transformer(folder)
    assert told in str(caught.value) and "download the folder again" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_layer": 2}, "num_layer is 2"),
        ({"num_layers": "two"}, "num_layers is 'two'"),
        ({"attention_head_dim": 8}, "attention_head_dim is 8"),
        ({"num_layers": 3}, "lacks transformer_blocks.2."),
        ({"controlnet_block_every_n": 7}, "Transfer model"),
        ({"_class_name": "WanTransformer3DModel"}, "is of a WanTransformer3DModel"),
    ],
)
def test_a_config_that_cannot_be_is_named(theirs, tmp_path, change, told):
    folder = tmp_path / "published"
    theirs.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError) as caught:
        load_transformer(folder)
    assert told in str(caught.value) and str(folder) in str(caught.value)


def test_no_folder_of_others_is_written_over(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "published")
    ours = load_transformer(tmp_path / "published")
    with pytest.raises(ProcosmError, match=r"holds config\.json"):
        save_transformer(ours, tmp_path / "published")
    shutil.rmtree(tmp_path / "published")
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        load_transformer(tmp_path / "published")
