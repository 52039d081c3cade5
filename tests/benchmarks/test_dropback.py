"""The DropBack benchmarks: their own DropBack, their statistics, their network, and runs that were killed."""

import pytest
import torch
from scipy import stats
from torch import nn

from procosm.benchmarks.sparse import digits, dropback_digits, dropback_vgg
from procosm.sparse.accelerator.workloads import network
from procosm.sparse.accelerator.workloads.trace import trace
from procosm.world_model.files import read_tensors, write_tensors


def test_literal_dropback_by_hand():
    """Six weights, two kept: the largest displacements stay, the rest go back to a W0 that shrinks."""
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
        literal = digits.Literal(model, 2 / 6)
        model.weight += torch.tensor([[0.1, -0.5, 0.2], [0.3, 0.4, 0.0]])
    literal.after_step()
    assert model.weight.tolist() == [[1.0, 1.5, 3.0], [4.0, pytest.approx(5.4), 6.0]]
    literal.after_step()  # measured from 0.9 W0 now: 0.1, -0.3, 0.3 | 0.4, 0.9, 0.6
    expected = torch.tensor([[0.9, 1.8, 2.7], [3.6, 5.4, 6.0]])
    torch.testing.assert_close(model.weight.detach(), expected)


def test_batches_are_epochs_without_repeats():
    first = torch.cat([digits.batch_of(step, 64, 0) for step in range(20)])
    assert len(first.unique()) == 1280 and int(first.max()) < digits.TRAIN
    second = torch.cat([digits.batch_of(step, 64, 0) for step in range(20, 40)])
    assert not torch.equal(first, second) and not torch.equal(digits.batch_of(0, 64, 0), digits.batch_of(0, 64, 1))


def test_splits_differ_and_hold_every_image_once():
    train, labels, test, test_labels = digits.digits(3)
    assert (len(train), len(test), len(labels), len(test_labels)) == (1297, 500, 1297, 500)
    other_train, _, other_test, _ = digits.digits(4)
    both = [torch.cat(parts).sum(dim=(1, 2, 3)).sort().values for parts in ((train, test), (other_train, other_test))]
    torch.testing.assert_close(*both)  # the same 1797 images, each once
    assert not torch.equal(test, other_test)


def row(arm: str, seed: int, value: float, density: float = 0.1) -> dict:
    return {"metric": "accuracy", "task": "digits", "unit": "share", "arm": arm, "optimizer": "sgd", "seed": seed,
            "density": density, "value": value, "weights": 4062}  # fmt: skip


def test_intervals_are_student_s_and_differences_are_paired():
    dense, other = [0.99, 0.98, 0.97, 0.985], [0.98, 0.985, 0.96, 0.97]
    rows = [row("dense", seed, value, 1.0) for seed, value in enumerate(dense)]
    rows += [row("literal", seed, value) for seed, value in enumerate(other)] + [row("rigl", 9, 0.9)]
    found = {(m["arm"], m["metric"]): m for m in digits.summary(rows)}
    gaps = [b - a for a, b in zip(dense, other, strict=True)]
    for metric, values in (("accuracy_mean", other), ("accuracy_minus_dense", gaps)):
        interval, mine = stats.ttest_1samp(values, 0).confidence_interval(0.95), found["literal", metric]
        assert (mine["low"], mine["high"]) == pytest.approx((interval.low, interval.high))
    assert found["literal", "accuracy_minus_dense"]["n"] == 4
    assert ("dense", "accuracy_minus_dense") not in found and ("rigl", "accuracy_minus_dense") not in found
    assert "low" not in found["rigl", "accuracy_mean"]


def test_vgg_s_is_the_layer_table():
    work, table = trace(dropback_vgg.vgg_s(1.0), (torch.randn(1, 3, 28, 28),), "vgg-s"), network("vgg-s")
    shapes = [[(x.name, x.height, x.width, x.channels, x.filters, x.rows, x.padding) for x in w.layers]
              for w in (work, table)]  # fmt: skip
    assert shapes[0] == shapes[1] and work.left_out == ()


@pytest.mark.parametrize("arm", ["dense", "literal", "dropback"])
def test_a_killed_run_goes_on_to_the_same_weights(arm, tmp_path, monkeypatch):
    trial = dropback_vgg.Trial(1 / 16, 0.1, (arm,), seeds=1, batch=16, steps=6)
    monkeypatch.setattr(dropback_vgg, "SAVE_EVERY", 3)
    whole = dropback_vgg.train(trial, arm, 0, tmp_path / "whole" / "network.safetensors")

    def killed(path, tensors):
        write_tensors(path, tensors)
        raise KeyboardInterrupt

    path = tmp_path / "killed" / "network.safetensors"
    monkeypatch.setattr(dropback_vgg, "write_tensors", killed)
    with pytest.raises(KeyboardInterrupt):
        dropback_vgg.train(trial, arm, 0, path)
    monkeypatch.setattr(dropback_vgg, "write_tensors", write_tensors)
    assert int(read_tensors(path)["steps_done"]) == 3
    assert dropback_vgg.train(trial, arm, 0, path) == whole
    first, second = read_tensors(tmp_path / "whole" / "network.safetensors"), read_tensors(path)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    if arm == "dropback":
        kept = sum(int(value.count_nonzero()) for value in dropback_vgg_parameters(first).values())
        assert kept == whole["weights"] <= round(0.1 * whole["dense_weights"]) + 1


def dropback_vgg_parameters(tensors: dict) -> dict:
    """Parameters among the tensors of a saved network."""
    names = {name for name, _ in dropback_vgg.vgg_s(1 / 16).named_parameters()}
    return {name: value for name, value in tensors.items() if name in names}


def test_every_arm_of_the_digits_benchmark_trains():
    for arm in ("literal", "dropback-histogram", "rigl"):
        found = dropback_digits.run(arm, "sgd", 0.1, 0, 1)
        assert 0.05 < found["value"] <= 1 and 0.09 * 40618 < found["weights"] < 0.12 * 40618
