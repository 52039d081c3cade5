"""Counts against closed forms, and a choice that follows its own predictions."""

import pytest
import torch

from procosm.sparse import cost, nn

SHAPE = (1024, 2048)


def test_work_counts_operations_and_bytes() -> None:
    work = cost.work("forward", 100, SHAPE, 10 * 64 * 64, 2)
    assert work.flops == 2 * 100 * 10 * 64 * 64
    assert work.bytes == 2 * (100 * 1024 + 100 * 2048 + 10 * 64 * 64)
    with pytest.raises(KeyError, match="unknown operation"):
        cost.work("backward", 1, SHAPE, 1, 4)


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_time_grows_with_tokens_and_blocks(device: str, itemsize: int) -> None:
    def seconds(tokens: int, n: int) -> float:
        return cost.seconds("forward", tokens, SHAPE, 64, n, device, itemsize)

    assert seconds(2048, 50) > seconds(1024, 50) and seconds(1024, 100) > seconds(1024, 50)


@pytest.mark.parametrize("tokens", [256, 4096])
def test_the_choice_changes_at_the_predicted_crossover(tokens: int) -> None:
    density = cost.crossover_density(SHAPE, 64, tokens, "cpu", 4, gain=cost.MARGIN)
    assert 0.3 < density < cost.crossover_density(SHAPE, 64, tokens, "cpu", 4) < 1.0
    grid = 16 * 32
    below, above = (cost.choose(SHAPE, 64, round(grid * density) + step, "cpu", 4) for step in (-2, 3))
    assert below.sparse(tokens) and not above.sparse(tokens)


def test_a_dense_pattern_is_run_dense_and_says_so() -> None:
    layer = nn.Linear(128, 128, block=16, density=1.0)
    choice = layer.choice("cpu", torch.float32)
    assert not choice.sparse(1024) and "dense is used" in choice.reason and "measured on" in choice.reason
    assert "not measured" in layer.choice("cuda", torch.bfloat16).reason


def test_the_choice_follows_the_pattern() -> None:
    layer = nn.Linear(1024, 1024, block=64, density=0.05, capacity=256)
    assert layer.choice("cpu", torch.float32).sparse(4096)
    layer.set_kept(torch.ones(16, 16, dtype=torch.bool))
    assert not layer.choice("cpu", torch.float32).sparse(4096)


def test_few_tokens_of_a_small_layer_are_not_worth_the_start() -> None:
    choice = cost.choose((128, 128), 64, 2, "cpu", 4)
    assert not choice.sparse(32) and choice.sparse(4096) and "sparse is used from" in choice.reason


def test_a_hopper_gpu_is_judged_by_its_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    found = {}
    for capability in ((8, 0), (9, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_, c=capability: c)
        densities = {b: cost.crossover_density((4096, 4096), b, 8192, "cuda", 2) for b in (32, 64, 128)}
        found[capability] = densities
        assert cost.seconds("forward", 8192, (4096, 4096), None, 0, "cuda", 2) > 0
    assert found[9, 0][32] <= found[8, 0][32], "blocks of 32 have no kernel of their own, and dense is faster there"
    assert found[9, 0][64] > found[8, 0][64] and found[9, 0][128] > found[9, 0][64]


def test_a_layer_on_the_cpu_asks_nothing_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: pytest.fail("this opens a context on the GPU"))
    layer = nn.Linear(256, 256, block=64, density=0.25)
    layer(torch.ones(3, 256)).sum().backward()


def test_a_layer_that_moves_to_a_gpu_is_judged_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(4096, 4096, block=64, density=0.1)
    assert "not measured" in layer.choice("cuda", torch.bfloat16).reason
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    assert "measured on an H200" in layer.to(torch.float32).choice("cuda", torch.bfloat16).reason  # any move will do


MEASURED = {  # (out, in), block, density, tokens: dense over sparse CPU seconds of the three products, least of rounds
    ((512, 512), 32, 0.25, 1024): 0.90, ((1024, 1024), 32, 0.1, 256): 0.86, ((1024, 1024), 128, 0.5, 256): 0.98,
    ((1024, 1024), 16, 0.1, 1024): 0.93, ((512, 512), 64, 0.25, 256): 0.88, ((512, 512), 32, 0.1, 256): 0.60,
    ((768, 192), 16, 0.1, 2048): 0.74, ((384, 128), 32, 0.1, 2048): 1.95, ((128, 512), 64, 0.1, 2048): 2.92,
    ((192, 768), 64, 0.25, 2048): 1.89, ((512, 512), 128, 0.25, 1024): 2.12, ((1024, 1024), 128, 0.1, 1024): 5.87,
}  # fmt: skip


@pytest.mark.parametrize("cell", MEASURED)
def test_bfloat16_products_of_one_core_are_judged_as_they_measured(
    cell: tuple[tuple[int, int], int, float, int],
) -> None:
    """On Zen 5: what was slower is not chosen, and what was twice as fast is."""
    shape, block, density, tokens = cell
    n = round(density * (shape[0] // block) * (shape[1] // block))
    assert cost.choose(shape, block, n, "cpu", 2).sparse(tokens) == (MEASURED[cell] > 1)
