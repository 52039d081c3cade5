"""The machine that a file of records states, tables of energies, and checkpoints whose zeros are masks."""

import contextlib
import io
import json
from functools import partial
from pathlib import Path

import safetensors.torch
import torch

from procosm.sparse.accelerator.command import AcceleratorConfig, accelerate
from procosm.sparse.accelerator.masks import checkpoint_masks
from tests.fuzz.mutations import Case, drawn, flips, json_texts, safetensors_files
from tests.fuzz.surfaces.records import document, evaluated

MACHINE = {
    "PEs": [16, 16], "RF_words_per_PE": 256, "GLB_words": 32768, "RF_word_bits": 32, "GLB_words_per_line": 2,
    "DRAM_words_per_line": 2, "batch_N": 64,
}  # fmt: skip
TABLE = {"mac": 4.0, "rf_word": 2.5, "glb_line": 8.5, "dram_line": 800.0, "unit": "pJ", "source": "nowhere"}
ARGUMENTS = {
    "density": (0.0, -0.5, 1.5, float("nan"), float("inf")),
    "activation_density": (0.0, float("nan"), 2.0),
    "minibatch": (0, -1, 10**9, 10**30),
    "processes": (0, -1, 10**9),
    "seed": (-1, 2**32, 10**30),
    "network": ("none", "../x", ""),
    "energy_table": ("none", ".", "\0"),
    "masks": (Path("none"), Path("/proc/self/mem")),
}


def table_of(folder: Path, text: bytes) -> None:
    (folder / "table.json").write_bytes(text)
    evaluated(folder, json.dumps(document()).encode(), str(folder / "table.json"))


def masks_of(folder: Path, content: bytes) -> None:
    (folder / "masks.safetensors").write_bytes(content)
    checkpoint_masks(folder / "masks.safetensors")


def commanded(folder: Path, **arguments) -> None:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        accelerate(AcceleratorConfig(**{"network": "resnet18", "out": folder / "out", "compare": False, **arguments}))


def blocks(**changes) -> bytes:
    """A block-sparse layer of 2 by 3 blocks of 16, three of them live."""
    tensors = {
        "fc.values": torch.ones(3, 16, 16),
        "fc.rows": torch.tensor([0, 0, 1], dtype=torch.int32),
        "fc.cols": torch.tensor([0, 2, 1], dtype=torch.int32),
        "fc.shape": torch.tensor([32, 48]),
        "other.weight": torch.ones(4, 4),
    }
    tensors |= {name.replace("_", "."): value for name, value in changes.items()}
    return safetensors.torch.save({name: value for name, value in tensors.items() if value is not None})


ODD_BLOCKS = {
    "vast": {"fc_shape": torch.tensor([2**40, 2**40])},
    "large": {"fc_shape": torch.tensor([10**6, 10**6])},
    "negative": {"fc_shape": torch.tensor([-32, 48])},
    "of nothing": {"fc_shape": torch.tensor([0, 0])},
    "one side": {"fc_shape": torch.tensor([32])},
    "fractional": {"fc_shape": torch.tensor([32.5, 48.0])},
    "no shape": {"fc_shape": None},
    "no cols": {"fc_cols": None},
    "outside": {"fc_rows": torch.tensor([0, 0, 9], dtype=torch.int32)},
    "below": {"fc_rows": torch.tensor([0, 0, -1], dtype=torch.int32)},
    "uneven": {"fc_rows": torch.tensor([0, 0], dtype=torch.int32)},
    "rows of floats": {"fc_rows": torch.tensor([0.0, 0.0, 1.0])},
    "rows of truth": {"fc_rows": torch.tensor([True, False, True])},
    "flat": {"fc_values": torch.ones(768)},
    "oblong": {"fc_values": torch.ones(3, 16, 8)},
    "no side": {"fc_values": torch.ones(3, 0, 0)},
    "point": {"fc_values": torch.tensor(1.0)},
    "integers": {"fc_values": torch.ones(3, 16, 16, dtype=torch.int64)},
    "not a number": {"fc_values": torch.full((3, 16, 16), float("nan"))},
    "weight not a number": {"other_weight": torch.full((4, 4), float("nan"))},
}


def wrong(path, kind):
    if path[:2] != ("readme", "machine") or len(path) == 2:
        return False
    return kind in ("type", "vast") or (kind == "missing" and path[-1] in MACHINE)


def cases(folder: Path) -> list[Case]:
    folder.mkdir(exist_ok=True)
    stated = document()
    stated["readme"]["machine"] = MACHINE
    evaluated(folder, json.dumps(stated).encode())
    machines = [Case(name, partial(evaluated, folder, text), bad)
                for name, text, bad in json_texts(stated, wrong) if "machine" in name]  # fmt: skip
    tables = [Case(f"table: {name}", partial(table_of, folder, text), bad)
              for name, text, bad in json_texts(TABLE, lambda path, kind: kind not in ("size", "vast"))]  # fmt: skip
    whole = blocks()
    files = [Case(f"masks: {name}", partial(masks_of, folder, content), False)
             for name, content, _ in safetensors_files(whole)]  # fmt: skip
    files += [
        Case(f"masks: {name}", partial(masks_of, folder, content), False) for name, content in flips(whole, 40, 5)
    ]
    odd = [Case(f"masks {name}", partial(masks_of, folder, blocks(**changes)), name != "no cols")
           for name, changes in ODD_BLOCKS.items()]  # fmt: skip
    arguments = [Case(f"--{name} {value}", partial(commanded, folder, **{name: value}), True)
                 for name, values in ARGUMENTS.items() for value in values]  # fmt: skip
    return [*drawn(machines, 150, 6), *drawn(tables, 80, 7), *drawn(files, 80, 8), *odd, *arguments]
