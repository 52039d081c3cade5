"""Counts against closed forms, and a choice that follows its own predictions."""

import json
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from procosm.benchmarks.record import RESULTS
from procosm.sparse import cost, machines, nn
from procosm.sparse.machines import H200, Gpu, Processor

SHAPE = (1024, 2048)
ZEN, XEON = Processor("AuthenticAMD", True, "avx512_bf16"), Processor("GenuineIntel", True, "")
AMX, ARM = Processor("GenuineIntel", True, "amx_bf16"), Processor("aarch64", False, "")


@pytest.fixture(autouse=True)
def zen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever processor the tests run on, its predictions are those for Zen."""
    monkeypatch.setattr(machines, "processor", lambda: ZEN)


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
    density = cost.crossover_density(SHAPE, 64, tokens, "cpu", 4, gain=machines.machine("cpu", 4).margin)
    assert 0.3 < density < cost.crossover_density(SHAPE, 64, tokens, "cpu", 4) < 1.0
    grid = 16 * 32
    below, above = (cost.choose(SHAPE, 64, round(grid * density) + step, "cpu", 4) for step in (-2, 3))
    assert below.sparse(tokens) and not above.sparse(tokens)


def test_a_dense_pattern_is_run_dense_and_says_so() -> None:
    layer = nn.Linear(128, 128, block=16, density=1.0)
    choice = layer.choice("cpu", torch.float32)
    assert not choice.sparse(1024) and "dense is used" in choice.reason and "measured on" in choice.reason
    assert "not measured" in layer.choice("cuda", torch.float32).reason


def test_the_choice_follows_the_pattern() -> None:
    layer = nn.Linear(1024, 1024, block=64, density=0.05, capacity=256)
    assert layer.choice("cpu", torch.float32).sparse(4096)
    layer.set_kept(torch.ones(16, 16, dtype=torch.bool))
    assert not layer.choice("cpu", torch.float32).sparse(4096)


def test_few_tokens_of_a_small_layer_are_not_worth_the_start() -> None:
    choice = cost.choose((128, 128), 64, 2, "cpu", 4)
    assert not choice.sparse(32) and choice.sparse(4096) and "sparse is used from" in choice.reason


def as_gpu(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    """CUDA reports this device."""
    told = {"clock_rate": gpu.clock_hz / 1e3, "memory_clock_rate": gpu.bandwidth / 1e3 / 2 / (5120 / 8)}
    told |= {"memory_bus_width": 5120, "multi_processor_count": gpu.processors}
    major, minor = gpu.capability
    found = SimpleNamespace(major=major, minor=minor, **told)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: found)


# Public data sheets: processors, boost clock, memory bandwidth; bfloat16 and float32 FLOP/s of dense products.
SHEETS = {
    "A100": (Gpu((8, 0), 108, 1.41e9, 2.04e12), 312e12, 19.5e12),
    "A40": (Gpu((8, 6), 84, 1.74e9, 0.696e12), 149.7e12, 37.4e12),
    "L40S": (Gpu((8, 9), 142, 2.52e9, 0.864e12), 366e12, 91.6e12),
    "H100 SXM": (Gpu((9, 0), 132, 1.83e9, 3.35e12), 989e12, 61.8e12),
    "B200": (Gpu((10, 0), 148, 1.85e9, 8e12), 2250e12, 70e12),
}


@pytest.mark.parametrize("name", SHEETS)
def test_a_gpu_is_judged_by_what_cuda_reports_of_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The share of the data sheet's peak and bandwidth that an H200 reaches, and no claim of a measurement."""
    gpu, *peaks = SHEETS[name]
    sheet_of_h200 = {2: 132 * 1.98e9 * 4096, 4: 132 * 1.98e9 * 256}
    as_gpu(monkeypatch, gpu)
    for itemsize, peak in zip((2, 4), peaks, strict=True):
        found, of_h200 = machines.machine("cuda", itemsize), machines.of_gpu(H200, itemsize)
        assert found.rate / peak == pytest.approx(of_h200.rate / sheet_of_h200[itemsize], rel=0.03)
        assert found.bandwidth / gpu.bandwidth == pytest.approx(of_h200.bandwidth / H200.bandwidth, rel=1e-6)
        assert "not measured on this GPU" in found.source and found.margin == machines.GUESSED


def test_an_h200_has_what_was_measured_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    as_gpu(monkeypatch, H200)
    assert machines.machine("cuda", 2) == machines.HOPPER
    assert "not measured" in machines.machine("cuda", 4).source, "float32 was not"


def test_no_table_claims_more_than_the_float32_kernels_can_reach() -> None:
    """Nine reads of shared memory for eight multiply-adds: 2 / 9 of the peak, 66.9 TFLOP/s on an H200."""
    table = machines.of_gpu(H200, 4)
    assert max(table.efficiency.values()) * table.rate <= 2 / 9 * 66.9e12


def test_a_step_costs_the_host_of_a_gpu_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """326 microseconds for the three products of a layer, beside a GPU that has nothing to do."""
    for gpu, itemsize in ((H200, 4), (H200, 2), (SHEETS["A100"][0], 2)):
        as_gpu(monkeypatch, gpu)
        assert 326e-6 <= cost.step_seconds(1, (128, 128), 64, 1, "cuda", itemsize) < 2 * 326e-6


def test_a_hopper_gpu_is_judged_by_its_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for capability in ((8, 0), (9, 0)):
        as_gpu(monkeypatch, H200._replace(capability=capability))
        densities = {b: cost.crossover_density((4096, 4096), b, 8192, "cuda", 2) for b in (32, 64, 128)}
        found[capability] = densities
        assert cost.seconds("forward", 8192, (4096, 4096), None, 0, "cuda", 2) > 0
    assert found[9, 0][32] <= found[8, 0][32], "blocks of 32 have no kernel of their own, and dense is faster there"
    assert found[9, 0][64] > found[8, 0][64] and found[9, 0][128] > found[9, 0][64]


def test_a_layer_on_the_cpu_asks_nothing_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: pytest.fail("this opens a context on the GPU"))
    layer = nn.Linear(256, 256, block=64, density=0.25)
    layer(torch.ones(3, 256)).sum().backward()


def test_a_layer_that_moves_to_a_gpu_is_judged_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Linear(4096, 4096, block=64, density=0.1)
    before = layer.choice("cuda", torch.bfloat16).reason
    as_gpu(monkeypatch, SHEETS["A100"][0])
    assert "not measured on this GPU" not in before
    assert (
        "not measured on this GPU" in layer.to(torch.float32).choice("cuda", torch.bfloat16).reason
    )  # any move will do


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


def test_a_processor_that_nobody_measured_is_judged_with_the_most_caution(monkeypatch: pytest.MonkeyPatch) -> None:
    def crossovers(processor: Processor) -> list[float]:
        monkeypatch.setattr(machines, "processor", lambda: processor)
        gains = [machines.machine("cpu", 4).margin]
        return [
            cost.crossover_density((1024, 1024), b, t, "cpu", 4, g)
            for b in (32, 64)
            for t in (256, 2048)
            for g in gains
        ]

    unknown, zen, xeon = map(crossovers, (ARM, ZEN, XEON))
    assert unknown == xeon and all(a < b for a, b in zip(unknown, zen, strict=True))
    monkeypatch.setattr(machines, "processor", lambda: ARM)
    assert "not measured on this processor" in cost.choose(SHAPE, 64, 50, "cpu", 4).reason


PUBLISHED = {"sparse_choices": XEON, "sparse_choices_amx": AMX}
"""Results that hold every cell of widths, tokens, densities, blocks and dtypes, and the processor each is of."""


def cells(result: str, dtypes: tuple[str, ...] = ("float32", "bfloat16")) -> list[dict[str, Any]]:
    rows = json.loads((RESULTS / f"{result}.json").read_text())["rows"]
    return [row for row in rows if "block" in row and row["dtype"] in dtypes]


def chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that auto runs sparse, none of which was slower than dense."""
    found = []
    for row in rows:
        itemsize = {"float32": 4, "bfloat16": 2}[row["dtype"]]
        if cost.choose((row["d"], row["d"]), row["block"], row["kept"], "cpu", itemsize).sparse(row["tokens"]):
            found.append(row)
            assert row["value"] >= 1, row["task"]
    return found


@pytest.mark.parametrize("result", PUBLISHED)
def test_no_cell_that_auto_runs_sparse_was_slower_than_dense(monkeypatch: pytest.MonkeyPatch, result: str) -> None:
    """The published table of a processor, judged by the model as it is now; and not because it chooses nothing."""
    monkeypatch.setattr(machines, "processor", lambda: PUBLISHED[result])
    rows = cells(result)
    assert len(rows) == 3 * 3 * 4 * 4 * 2
    assert len(chosen(rows)) > 0.9 * sum(row["value"] > 1.5 for row in rows) > 60


FLAGS = {  # what /proc/cpuinfo says of instructions for bfloat16, and a processor whose products in it are as fast
    "flags : avx2": XEON, "flags : avx512f": XEON, "flags : avx512f avx512_bf16": ZEN, "Features : asimd": XEON,
    "flags : avx512f avx512_bf16 amx_tile amx_bf16": AMX, "Features : asimd bf16": ZEN, "": AMX,
}  # fmt: skip


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD", "HygonGenuine", ""])
@pytest.mark.parametrize("flags", FLAGS)
def test_no_processor_is_judged_by_dense_products_slower_than_its_own(
    monkeypatch: pytest.MonkeyPatch, flags: str, vendor: str
) -> None:
    """Dense bfloat16 of a Xeon without it takes 25 times as long as with AMX, so that sparse would seem to pay."""
    here = machines.described(f"vendor_id : {vendor}\n{flags}\n" if vendor else flags)
    monkeypatch.setattr(machines, "processor", lambda: here)
    table = machines.machine("cpu", 2)
    assert table.rate >= machines.BY_PROCESSOR[FLAGS[flags]][2].rate
    assert here in machines.BY_PROCESSOR or table.margin == machines.GUESSED
    for result, processor in PUBLISHED.items():
        if FLAGS[flags] == processor:
            rows = cells(result, ("bfloat16",))
            assert table.rate > 0.9 * median(6 * row["d"] ** 2 * row["tokens"] / row["dense_seconds"] for row in rows)
            assert chosen(rows)
