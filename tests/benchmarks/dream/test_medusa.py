"""The benchmark of Medusa heads counts what the heads save, and nothing else changes."""

import json
from dataclasses import replace

import pytest
import torch

from procosm.benchmarks.dream.medusa import MedusaConfig, measure
from procosm.world_model.checkpoint import load, save
from procosm.world_model.data.task import MAIN, View
from procosm.world_model.errors import ProcosmError
from procosm.world_model.model import WorldModel
from procosm.world_model.registry import untrained
from procosm.world_model.training.presets import preset


@pytest.fixture
def folder(linear_task, tmp_path):
    torch.manual_seed(0)
    sizes = preset("debug", dynamics="autoregressive")
    task = replace(linear_task, views=(View(MAIN, 64, 64),))
    tokenizer, dynamics = untrained(task, sizes.tokenizer, sizes.dynamics)
    torch.nn.init.zeros_(dynamics.net.unembed.weight)  # every token is as probable as any other: the first is taken
    frames = torch.randint(0, 256, (4, dynamics.context, 64, 64, 3), dtype=torch.uint8)
    starts = tokenizer.encode(frames.flatten(0, 1)[:, None]).unflatten(0, frames.shape[:2])[:, :, 0]
    model = WorldModel(task, tokenizer, dynamics, frames, torch.zeros(4, 2), starts, (-1.0, 1.0), {}, {})
    return save(tmp_path / "model", model)


def test_passes_are_those_that_heads_save(folder, tmp_path):
    asked = MedusaConfig(folder, tmp_path / "medusa.json", heads=(0, 1, 2), batches=(1, 2), dreams=4, frames=2)
    found = json.loads(measure(asked).read_text())
    values = {(row["batch"], row["heads"], row["metric"]): row["value"] for row in found["rows"]}
    n = load(folder).dynamics.net.frame_tokens
    assert n == 16
    for batch in (1, 2):
        # A pass gives heads + 1 tokens, but one at the beginning of the first frame, which is not like the one before.
        for heads, passes in ((0, 16 + 16), (1, 9 + 8), (2, 6 + 6)):
            assert values[batch, heads, "forward passes"] == 4 // batch * passes
            assert values[batch, heads, "passes saved"] == pytest.approx(32 / passes)
            assert values[batch, heads, "tokens equal to those without heads"] == 1


def test_what_cannot_be_measured_is_refused(folder, tiny_checkpoint, tmp_path):
    with pytest.raises(ProcosmError, match="has 2 Medusa heads"):
        measure(MedusaConfig(folder, tmp_path / "medusa.json"))
    with pytest.raises(ProcosmError, match="is not autoregressive"):
        measure(MedusaConfig(tiny_checkpoint, tmp_path / "medusa.json"))
