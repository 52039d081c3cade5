"""Networks and traced modules: MACs, phases, and what cannot be run."""

import pytest
import torch
from torch import nn

from procosm.sparse.accelerator.mapping import padded, spatial_factors
from procosm.sparse.accelerator.problem import PHASES, Layer, Problem, Shape, phase_problem, spatial_dims
from procosm.sparse.accelerator.workloads import network, network_names
from procosm.sparse.accelerator.workloads.trace import from_factory, trace
from procosm.sparse.errors import SparseError


def small_transformer():
    """A factory for `--model`: two encoder layers on 2 samples of 6 tokens."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
            self.mlp = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, -1)
            x = x + self.out(torch.softmax(q @ k.mT, -1) @ v)
            return x + self.mlp(x)

    torch.manual_seed(0)
    return nn.Sequential(Block(), Block()), (torch.randn(2, 6, 16),)


@pytest.mark.parametrize(
    ("name", "macs", "weights"),
    [("vgg-s", 268.8, 14.98), ("densenet", 528.0, 2.68), ("wrn-28-10", 4014, 36.46), ("resnet18", 1794.8, 11.51),
     ("mobilenetv2", 300.8, 3.47)],
)  # fmt: skip
def test_dense_macs_and_weights(name, macs, weights):
    """procrustes.md 1.4."""
    loaded = network(name)
    assert loaded.macs / 1e6 == pytest.approx(macs, rel=3e-4)
    assert loaded.weights / 1e6 == pytest.approx(weights, abs=0.006)
    for phase in PHASES:
        assert sum(phase_problem(layer, phase, 64).macs for layer in loaded.layers) == 64 * loaded.macs


def test_unknown_names():
    assert len(network_names()) == 5
    with pytest.raises(SparseError, match="network 'resnet19'"):
        network("resnet19")
    layer = Layer("x", 4, 4, 8, 8)
    with pytest.raises(SparseError, match="phase 'up'"):
        phase_problem(layer, "up", 64)
    with pytest.raises(SparseError, match="dataflow 'AB'"):
        spatial_dims(phase_problem(layer, "fw", 64), "AB")
    with pytest.raises(SparseError, match="does not fit its input"):
        phase_problem(Layer("x", 2, 2, 8, 8, 5, 5), "fw", 64)


def test_weight_update_is_the_transposed_forward_problem():
    layer = Layer("conv", 14, 14, 32, 48, 3, 3, (1, 1))
    fw, wu = (phase_problem(layer, phase, 64) for phase in ("fw", "wu"))
    assert fw.bounds == (3, 3, 14, 14, 32, 48, 64) and wu.bounds == (14, 14, 3, 3, 64, 32, 48)
    assert fw.sizes() == (3 * 3 * 32 * 48, 16 * 16 * 32 * 64, 14 * 14 * 48 * 64)
    assert wu.sizes() == (14 * 14 * 64 * 32, 16 * 16 * 64 * 48, 3 * 3 * 32 * 48)
    flows = {"KN": "NC", "CN": "KC", "CK": "KN", "PQ": "RS"}
    for flow, letters in flows.items():
        assert "".join("RSPQCKN"[d] for d in spatial_dims(wu, flow)) == letters


def test_spatial_factors():
    problem = Problem(Shape.FORWARD, (3, 3, 28, 7, 3, 24, 64))
    assert spatial_factors(problem, "CK", 16) == (1, 1, 1, 1, 3, 12, 1)
    assert spatial_factors(problem, "PQ", 16) == (1, 1, 14, 7, 1, 1, 1)
    wide = Problem(Shape.FORWARD, (1, 1, 1, 1, 40, 1000, 64))
    fuller = padded(wide, "CK", 16)
    assert spatial_factors(wide, "CK", 16)[4:6] == (10, 10)
    assert fuller.bounds[4:6] == (42, 1008) and spatial_factors(fuller, "CK", 16)[4:6] == (14, 16)
    assert fuller.macs == wide.macs and fuller.iterations > wide.macs
    assert padded(problem, "CK", 16).bounds == problem.bounds


def test_a_traced_network_has_the_macs_torch_performs():
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
        nn.Conv2d(8, 12, 1, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip
    traced = trace(module, (torch.randn(2, 3, 16, 16),), "small")
    assert [layer.macs for layer in traced.layers] == [8 * 8 * 8 * 3 * 9, 8 * 8 * 8 * 9, 8 * 8 * 12 * 4, 60]
    assert traced.layers[0].outputs == (8, 8) and traced.layers[1].filters is None and traced.layers[2].repeats == 2
    assert traced.layers[0].activation_density == 1.0
    assert 0.2 < traced.layers[1].activation_density < 0.8  # behind a ReLU
    assert not module[0]._forward_hooks and module.training


def test_a_transformer_puts_tokens_on_the_minibatch():
    traced = trace(*small_transformer(), "transformer")
    assert [layer.name for layer in traced.layers][:4] == ["0.qkv", "0.out", "0.mlp.0", "0.mlp.2"]
    assert traced.macs == 2 * 6 * (16 * 48 + 16 * 16 + 2 * 16 * 64)
    assert phase_problem(traced.layers[0], "fw", 8).bounds == (1, 1, 1, 1, 16, 48, 48)
    assert all(layer.activation_density > 0.99 for layer in traced.layers)  # GELU leaves no zeros


def test_parameters_of_no_layer_are_named():
    class Extra(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.linear, self.idle = nn.Embedding(5, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.place = nn.Parameter(torch.zeros(3, 8))

        def forward(self, x):
            return self.linear(self.table(x) + self.place)

    traced = trace(Extra(), (torch.randint(0, 5, (2, 3)),), "extra")
    assert [layer.name for layer in traced.layers] == ["linear"]
    assert set(traced.left_out) == {"table.weight", "idle.weight", "place"}
    assert trace(*small_transformer(), "transformer").left_out == ()


def test_zero_examples_are_shapes():
    traced = trace(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)), (torch.zeros(3, 64),), "net")
    assert traced.layers[0].activation_density == 1.0 and 0.2 < traced.layers[1].activation_density < 0.8


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (nn.Conv3d(1, 1, 3), torch.randn(1, 1, 4, 4, 4), "three axes"),
        (nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), torch.randn(1, 1, 4, 4), "layer '0': ConvTranspose2d"),
        (nn.Conv2d(1, 1, 3, dilation=2), torch.randn(1, 1, 8, 8), "dilated"),
        (nn.LSTM(4, 4), torch.randn(2, 3, 4), "LSTM"),
        (nn.MultiheadAttention(4, 1), torch.randn(2, 3, 4), "MultiheadAttention"),
        (nn.ReLU(), torch.randn(2, 3), "no convolution or linear layer"),
        (nn.Linear(4, 4), torch.randn(2, 5), "example inputs failed with RuntimeError"),
    ],
)
def test_an_unsupported_module_is_named(module, inputs, message):
    with pytest.raises(SparseError, match=message):
        trace(module, (inputs,), "net")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("torch", "package.module:factory"), ("no.such.package:make", "importable"), ("torch:absent_name", "absent_name"),
     ("math:pi", "no arguments and return"), ("platform:node", "no arguments and return"),
     ("math:sqrt", "factory failed with TypeError")],
)  # fmt: skip
def test_a_bad_factory_is_named(spec, message):
    with pytest.raises(SparseError, match=message):
        from_factory(spec)
