"""Two processes with different data: every rank must decide alike, and as DDP's own gradients say."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from procosm.sparse import nn as sparse_nn
from procosm.sparse.dropback import Procrustes, ProcrustesConfig


def model_of(kind: str) -> nn.Module:
    """Weights of a tenth of the usual size, so that a few steps' gradients compete with them."""
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    if kind == "masked":
        layers = [nn.Linear(64, 64), nn.Linear(64, 32)]
    else:
        room = {"block": 16, "density": 0.5, "generator": g}
        layers = [sparse_nn.Linear(64, 64, capacity=12, **room), sparse_nn.Linear(64, 32, capacity=6, **room)]
    for layer in layers:
        next(layer.parameters()).data.mul_(0.1)
    return nn.Sequential(layers[0], nn.GELU(), layers[1])


def rank(index: int, folder: str, kind: str) -> None:
    """One process: train on data of its own, then save the pattern after every step and the weights."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=index, world_size=2)
    model = model_of(kind)
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    config = ProcrustesConfig(0.4, block=16, update_every=4, probe_every=2, horizon=64.0, decay=0.5)
    sparsifier = Procrustes(model, optimizer, config)
    g = torch.Generator().manual_seed(100 + index)
    saved = {}
    for step in range(13):
        x = torch.randn(8, 64, generator=g) * (1 + index)
        sparsifier.before_step(step)
        (parallel(x) - x[:, :32] * x[:, 32:]).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        sparsifier.after_step(step)
        optimizer.zero_grad()
        for weight in sparsifier.weights:
            saved[f"{step}/{weight.name}"] = weight.kept().clone()
    saved.update({name: value.detach().clone() for name, value in model.named_parameters()})
    torch.save(saved, Path(folder) / f"{index}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["masked", "live"])
def test_ranks_agree_on_every_pattern_and_weight(kind, tmp_path):
    mp.spawn(rank, (str(tmp_path), kind), nprocs=2)
    first, second = (torch.load(tmp_path / f"{i}.pt") for i in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    last = [key for key in first if key.startswith("12/")]
    assert any(not torch.equal(first[key], first["0/" + key[3:]]) for key in last)
