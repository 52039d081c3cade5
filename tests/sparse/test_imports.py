"""The library stands on torch and NumPy alone, and is a distribution of its own."""

import os
import re
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

from hatchling.builders.wheel import WheelBuilder

SPARSE = Path(__file__).resolve().parents[2] / "sparse"

BLOCKER = """
import sys
class Only:
    # What the distribution torch holds and requires itself.
    requires = "sympy mpmath networkx jinja2 markupsafe fsspec filelock typing_extensions".split()
    needed = {"torch", "torchgen", "functorch", "numpy", *requires}
    allowed = needed | set(sys.stdlib_module_names)
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        ours = name == "procosm" or name.startswith("procosm.sparse")
        if ours or name.partition(".")[0] in self.allowed or name.startswith("_sysconfigdata"):
            return self.finder.find_spec(name, path, target)
        return None
sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
from procosm import sparse
import torch
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
sparse.convert(model, 0.5, 16)
optimizer = sparse.optim.AdamW(model)
method = sparse.make("procrustes", model, optimizer, density=0.5)
method.before_step(0)
model(torch.ones(2, 64)).sum().backward()
optimizer.step()
method.after_step(0)
str(sparse.memory_report(model, optimizer))
others = {name for name in sys.modules if name.startswith("procosm.")} - {n for n in sys.modules if "sparse" in n}
assert not others, others
assert "cupy" not in sys.modules
"""


def test_importing_and_training_needs_nothing_but_torch_and_numpy() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_its_own_wheel_asks_for_torch_and_numpy_and_trains_with_nothing_else(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(SPARSE)).build(directory=str(tmp_path / "built"))
    alone = tmp_path / "alone"
    with ZipFile(wheel) as archive:
        archive.extractall(alone)
        metadata = Parser().parsestr(archive.read("procosm_sparse-0.1.0.dist-info/METADATA").decode())
    always = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert sorted(re.split("[^a-z]", need)[0] for need in always) == ["numpy", "torch"]
    code = f"import procosm; assert procosm.__file__.startswith({str(alone)!r}), procosm.__file__\n" + BLOCKER
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(alone)},
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in alone.iterdir()} == {"procosm", "procosm_sparse-0.1.0.dist-info"}
    assert {path.name for path in (alone / "procosm").iterdir()} == {"__init__.py", "py.typed", "sparse"}


def test_both_distributions_ask_for_the_same_versions() -> None:
    whole, alone = (WheelBuilder(str(folder)).metadata.core for folder in (SPARSE.parent, SPARSE))
    assert alone.version == whole.version and set(alone.dependencies) <= set(whole.dependencies)
    assert alone.optional_dependencies["gpu"] == whole.optional_dependencies["gpu"]
