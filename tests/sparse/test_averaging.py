"""Copies and averages of a block-sparse model whose pattern changes, against averages of its dense weights."""

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from procosm.sparse import matrix, nn

KINDS = {
    "swa": {},
    "ema": {"multi_avg_fn": get_ema_multi_avg_fn(0.5)},
    "single": {"avg_fn": get_ema_avg_fn(0.5)},
}


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layer = nn.Linear(64, 96, block=16, density=0.25, capacity=24)
    return torch.nn.Sequential(layer, torch.nn.BatchNorm1d(96), torch.nn.Linear(96, 8))


def kept_of(step: int, blocks: int) -> torch.Tensor:
    return matrix.random_kept((96, 64), 16, blocks / 24, torch.Generator().manual_seed(step))


def equal_after_reload(average: AveragedModel, kind: str, use_buffers: bool) -> bool:
    other = AveragedModel(model(), use_buffers=use_buffers, **KINDS[kind])
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    x = torch.randn(3, 64)
    return torch.equal(other.eval()(x), average.eval()(x))


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_average_is_the_average_of_the_dense_weights(kind: str, use_buffers: bool) -> None:
    """Dense truth: the same averaging function over the whole weight, with what a dropped block had forgotten."""
    net = model()
    average = AveragedModel(net, use_buffers=use_buffers, **KINDS[kind])
    truth = torch.nn.Linear(64, 96, bias=False)
    dense = AveragedModel(truth, **KINDS[kind])
    layer = net[0]
    for step, blocks in enumerate([6, 9, 9, 24, 11, 1, 5]):
        layer.set_kept(kept_of(step, blocks), new_values=0.0)
        with torch.no_grad():
            layer.values[: layer.live_blocks].add_(torch.randn(layer.live_blocks, 16, 16))
            truth.weight.copy_(layer.to_dense())
        average.update_parameters(net)
        alive = layer.kept().repeat_interleave(16, 0).repeat_interleave(16, 1)
        dense.module.weight.data.mul_(alive)
        dense.update_parameters(truth)
        ours = average.module[0]
        matrix.validate(ours.as_matrix())
        assert ours.live_blocks == blocks and average.state_dict()["module.0.values"].shape[0] == blocks
        torch.testing.assert_close(ours.to_dense(), dense.module.weight)
        assert equal_after_reload(average, kind, use_buffers)


def test_buffers_copied_by_hand_bring_the_number_of_live_blocks_along() -> None:
    net = model()
    twin = copy.deepcopy(net)
    for blocks in (20, 3):
        net[0].set_kept(kept_of(blocks, blocks), new_values=1.0)
        with torch.no_grad():
            for mine, its in zip(
                [*twin.parameters(), *twin.buffers()], [*net.parameters(), *net.buffers()], strict=True
            ):
                mine.copy_(its)
        assert twin[0].live_blocks == blocks and twin[0].density == blocks / 24
        other = model()
        other.load_state_dict(twin.state_dict())
        assert torch.equal(other[0].to_dense(), net[0].to_dense())


def test_copies_keep_their_own_pattern_while_the_model_grows_and_shrinks() -> None:
    net = model()
    for blocks in (24, 2, 8):
        snapshot = copy.deepcopy(net)
        dense = net[0].to_dense().clone()
        net[0].set_kept(kept_of(blocks, blocks), new_values=1.0)
        assert torch.equal(snapshot[0].to_dense(), dense)
        other = model()
        other.load_state_dict(snapshot.state_dict())
        assert torch.equal(other[0].to_dense(), dense) and other[0].live_blocks == snapshot[0].live_blocks
