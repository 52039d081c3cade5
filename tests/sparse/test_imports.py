"""The library stands on torch and NumPy alone."""

import subprocess
import sys

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
