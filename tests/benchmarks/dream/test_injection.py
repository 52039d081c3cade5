"""Arms of the ablation of action injection: each is told of actions in its own way, and they are judged alike."""

import json

import numpy as np
import pytest
import torch

from procosm.benchmarks.dream.families import moved_iou
from procosm.benchmarks.dream.injection import ARMS, InjectionConfig, benchmark
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model.diffusion.transformer import DiffusionTransformer, TransformerConfig


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_answers_to_each_number_that_it_is_told(arm):
    torch.manual_seed(0)
    size = TransformerConfig(32, layers=2, heads=2, adaln_rank=4)
    net = DiffusionTransformer(size, (4, 4, 4), 3, 5, injection=ARMS[arm]).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, told = torch.randn(2, 4, 4, 4, 4, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)

    def answer(actions: torch.Tensor) -> torch.Tensor:
        return net(x[:, :1], torch.zeros(2, dtype=torch.float64), x[:, 1:], actions)

    plain = answer(told)
    assert plain.shape == (2, 1, 4, 4, 4)
    for number in range(5):
        moved = told.clone()
        moved[0, number] += 0.5
        change = (answer(moved) - plain).abs().flatten(1).amax(1)
        assert change[0] > 1e-4 and change[1] == 0  # of its own row alone


def test_a_small_run_has_rows_of_every_arm(tmp_path, tiny_checkpoint):
    data = collect(CollectConfig(env="InvertedPendulum", out=tmp_path / "run", steps=120, processes=1))
    settings = {"steps": 2, "batch": 4, "seeds": 1, "horizon": 2, "windows": 4}
    found = json.loads(benchmark(InjectionConfig(data, tiny_checkpoint, tmp_path / "x.json", **settings)).read_text())
    errors = {(r["arm"], r["method"], r["horizon"]): r["value"] for r in found["rows"] if r["metric"] == "latent_mse"}
    methods = ("dream", "shuffled actions", "copy last frame")
    assert errors.keys() == {(arm, method, step) for arm in ARMS for method in methods for step in (1, 2)}
    assert len({errors[arm, "copy last frame", 2] for arm in ARMS}) == 1
    assert len({errors[arm, "dream", 2] for arm in ARMS}) == len(ARMS)
    sizes = {row["arm"]: row["value"] for row in found["rows"] if row["metric"] == "parameters"}
    assert sizes["channel concat"] < sizes["timestep embedding"] == sizes["shuffled actions"]


def test_what_moved_is_compared_with_what_truly_moved():
    last = np.zeros((3, 4, 4, 3), np.uint8)
    true, seen = last.copy(), last.copy()
    true[:2, 0, :2, 1], seen[:2, 0, 1:3, 0], seen[1], seen[2, 0, 0] = 200, 200, last[1], 90
    assert np.array_equal(moved_iou(seen, true, last), [1 / 3, 0.0, np.nan], equal_nan=True)
