"""Dense models in and out of block-sparse form, and what their training weighs."""

import pytest
import torch

from procosm import sparse
from procosm.sparse.errors import SparseError


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * 16, 64),
        torch.nn.GELU(),
        torch.nn.ModuleDict({"head": torch.nn.Linear(64, 10)})["head"],
    )


def test_density_one_computes_the_same() -> None:
    dense, converted = model(), model()
    report = sparse.convert(converted, 1.0, block=16)
    x = torch.randn(3, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(converted(x), dense(x))
    assert report.converted == ("0", "2") and "leave it dense" in report.skipped["4"]
    assert "2 layers are block-sparse, 1 stay dense" in str(report)
    torch.testing.assert_close(sparse.to_dense(converted)(x), dense(x))


def test_keeps_the_blocks_of_largest_norm() -> None:
    dense, converted = model(), model()
    sparse.convert(converted, 0.25, block=16, skip=["0"])
    layer = converted[2]
    norms = dense[2].weight.detach().unflatten(0, (4, 16)).unflatten(2, (32, 16)).square().sum((1, 3))
    assert layer.live_blocks == 32
    assert norms[layer.kept()].min() >= norms[~layer.kept()].max()
    mask = layer.kept().repeat_interleave(16, 0).repeat_interleave(16, 1)
    assert torch.equal(layer.to_dense(), dense[2].weight * mask)
    assert isinstance(converted[0], torch.nn.Conv2d)


def test_a_zero_weight_is_spread_at_random() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(256, 256))
    torch.nn.init.zeros_(net[0].weight)
    sparse.convert(net, 0.5, block=16, generator=torch.Generator().manual_seed(0))
    per_row = net[0].kept().sum(1)
    assert int(per_row.min()) > 0 and int(per_row.max()) < 16


def test_a_balanced_pattern_keeps_the_values_but_for_one_factor_and_cuts_no_line_off() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(128, 512), torch.nn.GELU(), torch.nn.Linear(512, 128))
    before = [net[i].weight.detach().clone() for i in (0, 2)]
    sparse.convert(net, 0.125, block=16, keep="balanced", generator=torch.Generator().manual_seed(0))
    for layer, weight in zip((net[0], net[2]), before, strict=True):
        kept = layer.kept()
        assert layer.live_blocks == 32 and set(kept.sum(0).tolist()) | set(kept.sum(1).tolist()) == {1, 4}
        mask = kept.repeat_interleave(16, 0).repeat_interleave(16, 1)
        torch.testing.assert_close(layer.to_dense(), weight * mask * (weight.norm() / (weight * mask).norm()))


@pytest.mark.parametrize("settings", [{"keep": "balanced"}, {"rescale": True}])
@pytest.mark.parametrize("density", [0.1, 0.3])
def test_converted_layers_keep_the_scale_of_activations(density: float, settings: dict) -> None:
    torch.manual_seed(0)
    dense = torch.nn.Sequential(*[torch.nn.Linear(512, 512, bias=False) for _ in range(3)])
    x = torch.randn(64, 512)
    expected = float(dense(x).detach().std())
    sparse.convert(dense, density, block=16, **settings)
    assert float(dense(x).detach().std()) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("density", [0.04, 0.1])
def test_no_output_is_cut_off_while_blocks_suffice_and_the_rest_are_the_largest(density: float) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(512, 512))
    net[0].weight.data[:400] *= 1e-3  # all large blocks lie in the last rows
    norms = net[0].weight.detach().unflatten(0, (32, 16)).unflatten(2, (32, 16)).square().sum((1, 3))
    sparse.convert(net, density, block=16)
    kept = net[0].kept()
    assert kept.any(1).all() and int(kept.sum()) == round(density * 1024)
    free = kept & (norms < norms.max(1, keepdim=True).values)
    assert norms[free].min() >= norms[~kept].max()


def test_erk_gives_small_layers_more_and_the_whole_what_was_asked() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.Linear(256, 64), torch.nn.Linear(64, 512))
    sparse.convert(net, 0.2, block=16, allocation="erk")
    densities = [layer.density for layer in net]
    assert densities[1] > densities[2] > densities[0]
    assert densities[1] / densities[0] == pytest.approx(((64 + 256) / (64 * 256)) / (512 / 256**2), rel=0.05)
    sizes = [256 * 256, 256 * 64, 64 * 512]
    total = sum(d * s for d, s in zip(densities, sizes, strict=True)) / sum(sizes)
    assert total == pytest.approx(0.2, rel=0.02)


def test_to_dense_leaves_the_model_alone_and_gives_torch_layers() -> None:
    converted = torch.nn.Sequential(sparse.nn.Conv3d(16, 16, 2, block=16, density=0.5), torch.nn.ReLU())
    dense = sparse.to_dense(converted)
    assert isinstance(dense[0], torch.nn.Conv3d) and isinstance(converted[0], sparse.nn.Conv3d)
    x = torch.randn(1, 16, 3, 3, 3)
    torch.testing.assert_close(dense(x), converted(x))
    alone = sparse.to_dense(sparse.nn.Linear(16, 16, bias=False, block=16, density=1.0))
    assert isinstance(alone, torch.nn.Linear) and alone.bias is None


def test_a_layer_with_two_names_stays_one_layer() -> None:
    shared = torch.nn.Linear(32, 32)
    net = torch.nn.ModuleDict({"a": shared, "b": shared})
    assert sparse.convert(net, 0.5, block=16).converted == ("a",)
    assert net["a"] is net["b"] and isinstance(net["b"], sparse.nn.Linear)
    dense = sparse.to_dense(net)
    assert dense["a"] is dense["b"] and isinstance(dense["b"], torch.nn.Linear)


def test_one_pattern_may_be_given_alone() -> None:
    report = sparse.convert(model(), 1.0, block=16, skip="0")
    assert report.converted == ("2",)


def test_headroom_gives_slots() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(64, 64))
    sparse.convert(net, 0.25, block=16, headroom=2.0)
    assert (net[0].capacity, net[0].live_blocks) == (8, 4)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (torch.nn.Conv2d(32, 32, 3, groups=2), "2 groups"),
        (torch.nn.Conv2d(32, 32, 3, padding="same"), "padding"),
        (torch.nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"), "padding"),
        (torch.nn.modules.linear.NonDynamicallyQuantizableLinear(32, 32), "subclass"),
    ],
)
def test_layers_it_cannot_convert_are_named_with_the_reason(layer: torch.nn.Module, reason: str) -> None:
    net = torch.nn.ModuleDict({"body": layer})
    assert reason in sparse.convert(net, 0.5, block=16).skipped["body"]
    assert net["body"] is layer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparse.convert(model(), 0.0), "outside"),
        (lambda: sparse.convert(model(), 0.5, headroom=0.5), "headroom"),
        (lambda: sparse.convert(model(), 0.5, keep="best"), "choose one of"),
        (lambda: sparse.convert(model(), 0.5, allocation="random"), "choose one of"),
        (lambda: sparse.convert(model(), 0.5, block=20), "choose one of"),
        (lambda: sparse.convert(torch.nn.Linear(64, 64), 0.5), "Sequential"),
    ],
)
def test_bad_input_says_what_to_do(call, message: str) -> None:
    with pytest.raises(SparseError, match=message):
        call()


def test_memory_report_counts_what_is_allocated() -> None:
    net = torch.nn.Sequential(sparse.nn.Linear(512, 512, bias=False, block=64, density=0.125), torch.nn.Linear(512, 3))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(4, 512)).sum().backward()
    optimizer.step()
    values, rest = 8 * 64 * 64 * 4, (512 * 3 + 3) * 4
    index = (8 * 3 + 9 * 2) * 4
    report = sparse.memory_report(net, optimizer)
    assert report.weights == (values + rest + index, 512 * 512 * 4 + rest)
    assert report.gradients == (values + rest, 512 * 512 * 4 + rest)
    assert report.optimizer == (2 * (values + rest), 2 * (512 * 512 * 4 + rest))
    assert sparse.memory_report(net) == report
    assert report.ratio == pytest.approx(report.total[1] / report.total[0]) and "dense / sparse" in str(report)
    assert sparse.memory_report(torch.nn.ReLU()).ratio == 1.0
