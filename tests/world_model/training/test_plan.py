"""What training is said to take, beside what it takes: operations and memory as torch counts them, published sizes."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from diffusers import CosmosTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from procosm.agents.road import train_stage
from procosm.world_model.autoregressive.medusa import generate
from procosm.world_model.autoregressive.recipe import llama
from procosm.world_model.autoregressive.transformer import AutoregressiveTransformer
from procosm.world_model.diffusion.transformer import DiffusionTransformer
from procosm.world_model.registry import untrained
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.gradients import recomputed
from procosm.world_model.training.layouts import LAYOUTS, Layout
from procosm.world_model.training.live import backward_bytes, without_memory
from procosm.world_model.training.parallel import ALONE, Parallel
from procosm.world_model.training.plan import chosen, described, made_up, plan
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig
from tests.conftest import simulated_task

FAMILIES = ("diffusion", "autoregressive")
CPU, GIB = torch.device("cpu"), 2**30
TASK = simulated_task("InvertedPendulum-v5", 64, 4, bound=3.0)


def models(family: str, name: str = "debug"):
    sizes = preset(name, dynamics=family)
    return sizes, *untrained(TASK, sizes.tokenizer, sizes.dynamics)


def counted(function) -> int:
    """FLOPs as torch counts them; attention by products, of which it knows the number on every device."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["debug", "small"])
def test_the_denoising_networks_operations_are_those_that_torch_counts(name):
    _, _, dynamics = models("diffusion", name)
    latents, actions = torch.zeros(1, 3, *dynamics.latent_shape), torch.zeros(1, 3, 1)
    assert dynamics.frame_flops() == counted(lambda: dynamics.denoise(latents[:, :1], torch.ones(1), latents, actions))


@pytest.mark.parametrize("name", ["debug", "small"])
def test_the_token_transformers_operations_are_those_that_torch_counts(name):
    _, _, dynamics = models("autoregressive", name)
    net, frames = dynamics.net, dynamics.context + 2
    n = net.frame_tokens
    tokens, actions = torch.zeros(1, frames * n, dtype=torch.int64), torch.zeros(1, frames, 1)
    hidden = {}

    def video():
        hidden["all"] = net(tokens, actions)[:, n - 1 : -1]
        net.logits(hidden["all"])

    every_fourth = -(-(frames - 1) * n // 4)
    before = torch.zeros(1, every_fourth, net.config.medusa_heads, dtype=torch.int64)
    drafts = counted(lambda: net.drafts(torch.zeros(1, every_fourth, net.config.width), before))
    assert dynamics.window_flops(2) == counted(video) + drafts
    memory = dynamics.begin(torch.zeros(1, 3, *dynamics.tokenizer.spec.shape))

    def frame():
        net.act(memory.cache, actions[:, :1], (memory.cache.lengths[:, None] + 1) // n)
        generate(net, memory.cache, memory.frame, heads=0)

    assert dynamics.frame_flops() == counted(frame)


def allocated(function) -> int:
    """Most bytes that torch's CPU allocator had lent at once, of those lent meanwhile: its own record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    sizes = [e.nbytes() for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for size in sizes:
        now += size
        most = max(most, now)
    return most


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_memory_is_what_the_allocator_lends(family, recompute):
    def step(sizes, tokenizer, dynamics):
        batch = made_up(TASK, chosen(sizes), tokenizer, dynamics, 16)
        return chosen(sizes).rehearsal(dynamics, batch)

    again = recomputed if recompute else lambda module: nullcontext()
    with without_memory():
        told_sizes, *parts = models(family)
        trained, loss = step(told_sizes, *parts)
        with again(parts[1]):
            told = backward_bytes(trained, loss)
    trained, loss = step(*(made := models(family)))
    with again(made[2]):
        loss().backward()  # what is made once and kept
        trained.zero_grad(set_to_none=True)
        lent = allocated(lambda: loss().backward())
    assert told.peak == pytest.approx(lent, rel=0.1)
    assert 0 < told.activations < told.peak


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputing_trades_memory_for_operations(family):
    sizes = preset("base", dynamics=family)
    if family == "diffusion":
        sizes = sizes.with_stage("unroll", horizon=1)
    else:  # of 64,000 tokens the logits, which no block makes, are most of what is kept
        sizes = replace(sizes, tokenizer=replace(sizes.tokenizer, levels=(8, 5, 5, 5), latent_channels=4))
    kept, again = (plan(TASK, sizes, Parallel(recompute=each), CPU, 1, 1e12, family) for each in (False, True))
    assert again.memory_bytes["activations"] < 0.5 * kept.memory_bytes["activations"]
    assert [each.flops for each in again.stretches] == pytest.approx([each.flops * 4 / 3 for each in kept.stretches])
    assert again.memory_bytes["weights"] == kept.memory_bytes["weights"]


def test_shards_and_shares_of_a_batch_go_by_the_number_of_devices():
    sizes = preset("7b").with_stage("unroll", horizon=1)
    two = replace(sizes.dynamics.transformer, layers=2)  # all of them take many seconds to trace
    sizes = replace(sizes, dynamics=replace(sizes.dynamics, transformer=two))
    alone = plan(TASK, sizes, ALONE, CPU, 1, 4e14)
    many = plan(TASK, sizes, Parallel("fsdp"), CPU, 64, 4e14)
    assert many.days == pytest.approx(alone.days / 64) and many.stretches[0].windows == 1024 / 64
    assert many.memory_bytes["gradients"] == alone.memory_bytes["gradients"] // 64
    assert alone.memory_bytes["optimizer's moments"] == 2 * alone.memory_bytes["gradients"]
    with pytest.raises(SettingsError, match=r"a batch of 1024 \(diffusion\) cannot be taken in 3 equal parts"):
        plan(TASK, sizes, ALONE, CPU, 3, 4e14)


@pytest.mark.parametrize("name", LAYOUTS)
def test_blocks_have_as_many_parameters_as_the_published_ones_but_for_text(name):
    size = LAYOUTS[name]
    with torch.device("meta"):
        ours = DiffusionTransformer(preset(name).dynamics.transformer, (16, 8, 8), 3, 5)
        theirs = CosmosTransformer3DModel(num_attention_heads=size.heads, num_layers=size.layers)
    texts = ("attn2.", "norm2.")  # cross-attention to a text, and its modulation
    published = sum(
        p.numel() for key, p in theirs.transformer_blocks.named_parameters() if not any(t in key for t in texts)
    )
    assert sum(p.numel() for p in ours.blocks.parameters()) == published
    with_text = sum(p.numel() for p in theirs.parameters()) / 1e9
    assert with_text == pytest.approx(float(name[0]), rel=0.05)


def test_llama_style_layouts_have_the_published_size():
    """The 4B of Cosmos' table 14: 16 layers of 4096, 32 heads; it takes no text, and so has no cross-attention."""
    with torch.device("meta"):
        net = AutoregressiveTransformer(llama(Layout(16, 4096, 32)), (40, 64), 64_000, 4, 7)
    assert (net.config.hidden, net.config.kv_heads) == (14_336, 8)
    cross = sum(p.numel() for key, p in net.named_parameters() if "cross" in key)
    ours = sum(p.numel() for key, p in net.named_parameters() if key.split(".")[0] in ("embed", "blocks", "unembed"))
    assert (ours - cross) / 1e9 == pytest.approx(4.0, rel=0.02)


def test_a_dry_run_prints_a_table_and_writes_nothing(pendulum_log, tmp_path, capsys):
    asked = {"data": pendulum_log, "out": tmp_path / "run" / "world_model", "preset": "debug", "dry_run": True}
    for family in FAMILIES:
        assert train_stage(TrainConfig(**asked, family=family)) is None
        shown = capsys.readouterr().out
        assert f"{family}, preset debug" in shown and "timed here: a step of 4 windows of this preset" in shown
        for word in ("FLOPs of one frame", "gradients", "optimizer's moments", "activations", "minutes on 1 device"):
            assert word in shown
    assert not (tmp_path / "run" / "world_model").exists() and not (tmp_path / "run" / "stages").exists()
    for change, told in (
        ({"density": 0.5}, "leave out --density$"),
        ({"text": True, "rays": 70.0, "distill": True}, "leave out --distill, --text, --rays$"),
        ({"dry_run": False, "flops": 1e9}, "--dry-run"),
    ):
        with pytest.raises(SettingsError, match=told):
            TrainConfig(**asked | change)
    assert json.dumps(described(plan(TASK, preset("debug"), ALONE, CPU, 1, 1e9), "x"))
