"""How the parameters of the published models are called: by us, by diffusers, and by NVIDIA's own two generations.

Names are facts of the files that NVIDIA publishes (``scripts/convert_cosmos_to_diffusers.py`` of diffusers lists them).
``{i}`` stands for the number of a block; a row names a module or a parameter, and what follows it stays.
"""

import re
from collections.abc import Iterable
from typing import Literal

Layout = Literal["diffusers", "predict1", "predict2"]
LAYOUTS: tuple[Layout, ...] = ("diffusers", "predict1", "predict2")

_ROWS = """
patch_in                              patch_embed.proj                        x_embedder.proj.1                           x_embedder.proj.1
time_hidden                           time_embed.t_embedder.linear_1          t_embedder.1.linear_1                       t_embedder.1.linear_1
time_out                              time_embed.t_embedder.linear_2          t_embedder.1.linear_2                       t_embedder.1.linear_2
embedding_norm                        time_embed.norm                         affline_norm                                t_embedding_norm
positions.t                           learnable_pos_embed.pos_emb_t           extra_pos_embedder.pos_emb_t                extra_pos_embedder.pos_emb_t
positions.h                           learnable_pos_embed.pos_emb_h           extra_pos_embedder.pos_emb_h                extra_pos_embedder.pos_emb_h
positions.w                           learnable_pos_embed.pos_emb_w           extra_pos_embedder.pos_emb_w                extra_pos_embedder.pos_emb_w
text_in                               crossattn_proj.0                        crossattn_proj.0                            crossattn_proj.0
action.hidden_d                       action_embedder_B_D.fc1                 action_embedder_B_D.fc1                     action_embedder_B_D.fc1
action.out_d                          action_embedder_B_D.fc2                 action_embedder_B_D.fc2                     action_embedder_B_D.fc2
action.hidden_3d                      action_embedder_B_3D.fc1                action_embedder_B_3D.fc1                    action_embedder_B_3D.fc1
action.out_3d                         action_embedder_B_3D.fc2                action_embedder_B_3D.fc2                    action_embedder_B_3D.fc2
blocks.{i}.modulate_self.down         transformer_blocks.{i}.norm1.linear_1   blocks.block{i}.blocks.0.adaLN_modulation.1 blocks.{i}.adaln_modulation_self_attn.1
blocks.{i}.modulate_self.up           transformer_blocks.{i}.norm1.linear_2   blocks.block{i}.blocks.0.adaLN_modulation.2 blocks.{i}.adaln_modulation_self_attn.2
blocks.{i}.self_attention.q           transformer_blocks.{i}.attn1.to_q       blocks.block{i}.blocks.0.block.attn.to_q.0  blocks.{i}.self_attn.q_proj
blocks.{i}.self_attention.k           transformer_blocks.{i}.attn1.to_k       blocks.block{i}.blocks.0.block.attn.to_k.0  blocks.{i}.self_attn.k_proj
blocks.{i}.self_attention.v           transformer_blocks.{i}.attn1.to_v       blocks.block{i}.blocks.0.block.attn.to_v.0  blocks.{i}.self_attn.v_proj
blocks.{i}.self_attention.norm_q      transformer_blocks.{i}.attn1.norm_q     blocks.block{i}.blocks.0.block.attn.to_q.1  blocks.{i}.self_attn.q_norm
blocks.{i}.self_attention.norm_k      transformer_blocks.{i}.attn1.norm_k     blocks.block{i}.blocks.0.block.attn.to_k.1  blocks.{i}.self_attn.k_norm
blocks.{i}.self_attention.out         transformer_blocks.{i}.attn1.to_out.0   blocks.block{i}.blocks.0.block.attn.to_out.0 blocks.{i}.self_attn.output_proj
blocks.{i}.modulate_cross.down        transformer_blocks.{i}.norm2.linear_1   blocks.block{i}.blocks.1.adaLN_modulation.1 blocks.{i}.adaln_modulation_cross_attn.1
blocks.{i}.modulate_cross.up          transformer_blocks.{i}.norm2.linear_2   blocks.block{i}.blocks.1.adaLN_modulation.2 blocks.{i}.adaln_modulation_cross_attn.2
blocks.{i}.cross_attention.q          transformer_blocks.{i}.attn2.to_q       blocks.block{i}.blocks.1.block.attn.to_q.0  blocks.{i}.cross_attn.q_proj
blocks.{i}.cross_attention.k          transformer_blocks.{i}.attn2.to_k       blocks.block{i}.blocks.1.block.attn.to_k.0  blocks.{i}.cross_attn.k_proj
blocks.{i}.cross_attention.v          transformer_blocks.{i}.attn2.to_v       blocks.block{i}.blocks.1.block.attn.to_v.0  blocks.{i}.cross_attn.v_proj
blocks.{i}.cross_attention.norm_q     transformer_blocks.{i}.attn2.norm_q     blocks.block{i}.blocks.1.block.attn.to_q.1  blocks.{i}.cross_attn.q_norm
blocks.{i}.cross_attention.norm_k     transformer_blocks.{i}.attn2.norm_k     blocks.block{i}.blocks.1.block.attn.to_k.1  blocks.{i}.cross_attn.k_norm
blocks.{i}.cross_attention.out        transformer_blocks.{i}.attn2.to_out.0   blocks.block{i}.blocks.1.block.attn.to_out.0 blocks.{i}.cross_attn.output_proj
blocks.{i}.modulate_mlp.down          transformer_blocks.{i}.norm3.linear_1   blocks.block{i}.blocks.2.adaLN_modulation.1 blocks.{i}.adaln_modulation_mlp.1
blocks.{i}.modulate_mlp.up            transformer_blocks.{i}.norm3.linear_2   blocks.block{i}.blocks.2.adaLN_modulation.2 blocks.{i}.adaln_modulation_mlp.2
blocks.{i}.mlp.0                      transformer_blocks.{i}.ff.net.0.proj    blocks.block{i}.blocks.2.block.layer1       blocks.{i}.mlp.layer1
blocks.{i}.mlp.2                      transformer_blocks.{i}.ff.net.2         blocks.block{i}.blocks.2.block.layer2       blocks.{i}.mlp.layer2
modulate_out.down                     norm_out.linear_1                       final_layer.adaLN_modulation.1              final_layer.adaln_modulation.1
modulate_out.up                       norm_out.linear_2                       final_layer.adaLN_modulation.2              final_layer.adaln_modulation.2
patch_out                             proj_out                                final_layer.linear                          final_layer.linear
"""  # noqa: E501  (a table is read across)
_TRANSFORMER = {row.split()[0]: row.split()[1:] for row in _ROWS.strip().splitlines()}

LEFT_OUT = re.compile(r"logvar\.|pos_embedder\.|accum_|.*_extra_state$|.*\.?(wavelets|_arange|patch_size_buffer)$")
"""Of NVIDIA's files: what training kept beside the weights, and tables that are worked out again."""


def transformer_names(ours: Iterable[str], layout: Layout) -> dict[str, str]:
    """Name in a layout to ours, for all our names of a transformer's parameters.

    Raises:
        KeyError: a name that is not of a transformer's parameter.
    """
    column = LAYOUTS.index(layout)
    return {_published(name, column): name for name in ours}


def _published(name: str, column: int) -> str:
    number = re.match(r"blocks\.(\d+)\.", name)
    stem = name if number is None else f"blocks.{{i}}.{name[number.end() :]}"
    module, _, leaf = stem.rpartition(".")
    found = _TRANSFORMER[stem][column] if stem in _TRANSFORMER else f"{_TRANSFORMER[module][column]}.{leaf}"
    return found if number is None else found.replace("{i}", number[1])


_VAE = (
    (r"\.up\.(\d)\.", lambda m: f".up_blocks.{2 - int(m[1])}."),
    (r"\.down\.(\d)\.", r".down_blocks.\1."),
    (r"mid\.block_([12])\.", lambda m: f"mid_block.resnets.{int(m[1]) - 1}."),
    (r"mid\.attn_1\.0\.", "mid_block.attentions.0."),
    (r"mid\.attn_1\.1\.", "mid_block.temp_attentions.0."),
    (r"\.block\.(\d)\.", r".resnets.\1."),
    (r"\.attn\.(\d)\.0\.", r".attentions.\1."),
    (r"\.attn\.(\d)\.1\.", r".temp_attentions.\1."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"\.nin_shortcut\.conv3d\.", ".conv_shortcut."),
    (r"\.([qkv])\.conv3d\.", r".to_\1."),
    (r"\.proj_out\.conv3d\.", ".to_out.0."),
    (r"\.0\.conv3d\.", ".conv_s."),
    (r"\.1\.conv3d\.", ".conv_t."),
    (r"\.?conv3d\.", "."),
)


def nvidia_tokenizer_name(theirs: str) -> str:
    """What a parameter of NVIDIA's tokenizer (``autoencoder.jit``) is called in diffusers, and by us."""
    for pattern, by in _VAE:
        theirs = re.sub(pattern, by, theirs)  # type: ignore[arg-type]  # a template or a function
    return theirs
