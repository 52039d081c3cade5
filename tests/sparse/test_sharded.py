"""FSDP2 on two processes against DistributedDataParallel: the same patterns and weights."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from procosm import sparse
from procosm.sparse.baselines import make
from procosm.sparse.sharded import whole

SETTINGS = {"rigl": {"update_every": 2}, "procrustes": {"update_every": 2, "probe_every": 1, "horizon": 64.0}}


def rank(index: int, folder: str, method: str, kind: str) -> None:
    """Train on data of one's own, then save patterns after every step and the weights."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet-{kind}", rank=index, world_size=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
    sparse.convert(model, 0.4, 16, headroom=1.3, generator=torch.Generator().manual_seed(0))
    parallel: nn.Module = model
    if kind == "fsdp":
        mesh = init_device_mesh("cpu", (2,))
        for layer in (model[0], model[2]):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    else:
        parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    sparsifier = make(method, model, optimizer, density=0.4, **SETTINGS[method])
    g = torch.Generator().manual_seed(100 + index)
    saved = {}
    for step in range(7):
        x = torch.randn(8, 64, generator=g) * (1 + index)
        sparsifier.before_step(step)
        (parallel(x) - x.roll(1, 1)).square().mean().backward()
        optimizer.step()
        sparsifier.after_step(step)
        optimizer.zero_grad()
        saved.update({f"{step}/{weight.name}": weight.kept().clone() for weight in sparsifier.weights})
    saved.update({name: whole(value.detach()).clone() for name, value in model.named_parameters()})
    saved.update({f"dense {i}": model[i].to_dense().detach() for i in (0, 2)})
    torch.save(saved, Path(folder) / f"{kind}{index}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("method", SETTINGS)
def test_sharded_training_exchanges_blocks_on_all_ranks_alike(method: str, tmp_path: Path) -> None:
    mp.spawn(rank, (str(tmp_path), method, "fsdp"), nprocs=2)
    first, second = (torch.load(tmp_path / f"fsdp{i}.pt") for i in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[f"0/{i}"], first[f"6/{i}"]) for i in (0, 2))
    if method == "rigl":  # Procrustes compares probes with gradients whose scale only DDP's hooks know
        mp.spawn(rank, (str(tmp_path), method, "ddp"), nprocs=2)
        replicated = torch.load(tmp_path / "ddp0.pt")
        for key, value in first.items():
            torch.testing.assert_close(value, replicated[key], msg=key)
