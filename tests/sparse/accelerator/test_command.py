"""The command end to end on a small network, and what it says about bad input."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from procosm.sparse.accelerator.command import WRITTEN, AcceleratorConfig, accelerate
from procosm.sparse.accelerator.network import Total
from procosm.sparse.errors import SparseError

HERE = Path(__file__).parent


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """A module `tiny_model` on the path, whose make() returns a convolution, a ReLU and a linear layer."""
    (tmp_path / "tiny_model.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n    torch.manual_seed(0)\n"
        "    net = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 32))\n"
        "    return net, (torch.randn(2, 4, 8, 8),)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "tiny_model:make"


def test_a_model_with_all_figures(factory, tmp_path, capsys):
    out = accelerate(AcceleratorConfig(model=factory, out=tmp_path / "out", minibatch=16, processes=1))
    printed = capsys.readouterr().out
    assert "weight update" in printed and "training step" in printed and str(out) in printed
    for name in ("energy", "phases", "cycles", "imbalance", "pes", "dataflow_energy", "utilisation", "density"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in out.iterdir()} < set(WRITTEN), "else the same command would refuse its own folder"
    results = json.loads((out / "results.json").read_text())
    assert [row["layer"] for row in results["layers"]] == ["0"] * 3 + ["3"] * 3
    assert set(results["dataflows"]) == {"CK", "CN", "KN", "CP", "KP", "PQ", "PN"} and set(results["pes"]) == {
        "16",
        "32",
    }
    total = results["phases"]["total"]
    for mode in ("dense", "balanced", "unbalanced"):
        assert sum(row[mode]["energy"] for row in results["layers"]) == pytest.approx(total[mode])
        for row in results["layers"]:
            assert sum(row[mode]["parts"].values()) == pytest.approx(row[mode]["energy"])
    update = [row for row in results["layers"] if row["phase"] == "wu"]
    assert update[0]["balanced"] == update[0]["dense"]  # the first layer's input has no zeros: stored uncompressed
    assert 0.2 < update[1]["density"] < 0.8  # measured behind the ReLU
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 3
    assert sum(float(row["energy"]) for row in rows if row["machine"] == "dense") == pytest.approx(total["dense"])


def test_masks_of_a_run(factory, tmp_path):
    keep = torch.zeros(2, 4, dtype=torch.bool)
    keep[0, 1] = keep[1, 3] = True
    values = torch.randn(32, 1024) * keep.repeat_interleave(16, 0).repeat_interleave(256, 1)
    save_file({"net.3.weight": values}, tmp_path / "model.safetensors")
    config = AcceleratorConfig(
        model=factory, out=tmp_path / "out", masks=tmp_path, minibatch=16, compare=False, processes=1
    )
    results = json.loads((accelerate(config) / "results.json").read_text())
    assert results["masked_layers"] == ["3"]
    rows = {(row["layer"], row["phase"]): row for row in results["layers"]}
    assert rows["3", "fw"]["density"] == rows["3", "bw"]["density"] == 0.25
    assert rows["0", "fw"]["density"] == pytest.approx(0.1, abs=0.05)
    # Two of eight large blocks leave most PEs idle while one works: far more imbalance than Bernoulli zeros cause.
    assert rows["3", "fw"]["imbalance"]["before"] > 1.5


def test_processes_do_not_change_results(factory, tmp_path):
    found = []
    for processes in (1, 2):
        config = AcceleratorConfig(
            model=factory, out=tmp_path / str(processes), minibatch=16, compare=False, processes=processes
        )
        results = json.loads((accelerate(config) / "results.json").read_text())
        found.append([{k: v for k, v in row.items() if k != "seconds"} for row in results["layers"]])
    assert found[0] == found[1]


def test_the_variants_differ(factory, tmp_path):
    totals = {}
    for name, options in (
        ("faithful", {}),
        ("corrected", {"variant": "corrected"}),
        ("gated", {"mends": ("gated_reads",)}),
    ):
        config = AcceleratorConfig(
            model=factory, out=tmp_path / name, minibatch=16, compare=False, processes=1, **options
        )
        results = json.loads((accelerate(config) / "results.json").read_text())
        totals[name] = results["phases"]["total"]["balanced"]
    assert totals["corrected"] < totals["gated"] < totals["faithful"]


def test_evaluate_writes_rows_in_order(tmp_path, capsys):
    sample = json.loads((HERE / "reference_sample.json").read_text())["records"]
    chosen = [record for record in sample if record["phase"] != "wu"][:9]
    path = tmp_path / "records.json"
    path.write_text(json.dumps({"records": chosen}))
    out = accelerate(AcceleratorConfig(evaluate=path, out=tmp_path / "out", processes=1))
    rows = json.loads((out / "evaluation.json").read_text())
    assert len(rows) == 9
    for record, row in zip(chosen, rows, strict=True):
        assert row["energy_dense"] == pytest.approx(record["total_dense_pJ"], rel=1e-6)
        assert row["acc"] == record["acc"]
        if record["kind"] == "sparse":
            assert row["energy_balanced"] == pytest.approx(record["balanced"]["total_pJ"], rel=1e-6)
            assert abs(row["cycles_unbalanced"] - record["unbalanced"]["cycles"]) <= 1
    assert "accesses equal in 9 of 9" in capsys.readouterr().out
    inputs = ("dims", "dataflow", "phase", "kind", "density", "RF", "GLB", "DRAM", "perm_GLB", "perm_DRAM")
    path.write_text(json.dumps([{key: record[key] for key in inputs} for record in chosen]))
    accelerate(AcceleratorConfig(evaluate=path, out=tmp_path / "bare", processes=1))
    assert json.loads((tmp_path / "bare" / "evaluation.json").read_text()) == rows
    assert "none of which stores results" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of"),
        ({"network": "vgg-s", "model": "a:b"}, "exactly one of"),
        ({"network": "alexnet"}, "network 'alexnet'"),
        ({"network": "vgg-s", "density": 0.0}, "density 0.0"),
        ({"network": "vgg-s", "activation_density": 2.0}, "activation_density 2.0"),
        ({"network": "vgg-s", "minibatch": 0}, "minibatch 0"),
        ({"network": "vgg-s", "processes": 0}, "processes 0"),
        ({"network": "vgg-s", "energy_table": "no"}, "energy table 'no'"),
        ({"network": "vgg-s", "mends": ("no",)}, "mend 'no'"),
        ({"network": "vgg-s", "variant": "corrected", "mends": ("sorting",)}, "mends everything"),
        ({"network": "vgg-s", "masks": Path("/nonexistent")}, "no *.safetensors"),
        ({"evaluate": Path("/nonexistent.json")}, "is not a file"),
    ],
)
def test_bad_input_is_named(options, message, tmp_path):
    with pytest.raises(SparseError) as caught:
        accelerate(AcceleratorConfig(out=tmp_path, **options))
    assert message in str(caught.value)


def test_a_layer_that_does_not_fit_is_named(tmp_path, monkeypatch):
    (tmp_path / "patches.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 17, stride=17)), (torch.randn(1, 3, 34, 34),)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SparseError, match=r"layer '0', phase fw, dataflow KN: .*17x17 kernel"):
        accelerate(AcceleratorConfig(model="patches:make", out=tmp_path / "out", compare=False, processes=1))


def test_totals_count_repeats():
    class Row:
        repeats = 3

        def __init__(self, energy, cycles):
            outcome = type("O", (), {"energy": energy, "cycles": cycles})
            self.dense, self.balanced, self.unbalanced = outcome, outcome, outcome

    total = Total.of([Row(2.0, 5), Row(1.0, 1)])
    assert (total.dense, total.dense_cycles, total.speedup) == (9.0, 18, 1.0)
    assert total.energy_ratio == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"total_dense_pJ": float("nan")}, "total_dense_pJ"),
        ({"total_dense_pJ": 0.0}, "total_dense_pJ"),
        ({"balanced": {"total_pJ": float("inf"), "cycles": 1}}, "balanced.total_pJ"),
        ({"unbalanced": {"total_pJ": 1.0, "cycles": "1"}}, "unbalanced.cycles"),
        ({"dense_cycles": float("nan")}, "dense_cycles"),
    ],
)
def test_stored_results_that_are_no_numbers_agree_with_nothing(tmp_path, change, named):
    records = json.loads((HERE / "reference_sample.json").read_text())["records"]
    path = tmp_path / "records.json"
    path.write_text(json.dumps([records[30], records[33] | change]))
    with pytest.raises(SparseError, match=rf"record 1: {named} is"):
        accelerate(AcceleratorConfig(evaluate=path, out=tmp_path / "out", processes=1))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_somebody_elses_files_is_refused_before_the_work(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(SparseError, match=r"holds thesis\.tex, which is none of its results"):
        accelerate(AcceleratorConfig(network="vgg-s", out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
