"""To open a checkpoint takes little else than to read it."""

import subprocess
import sys

BUILD = """
import sys
import torch
from procosm.world_model import registry
from procosm.world_model.checkpoint import load
from procosm.world_model.training.presets import preset

task = load(sys.argv[1]).task
size = preset("debug")
for dynamics in (size.dynamics, registry.with_condition(size.dynamics, "text")):
    with torch.device("meta"):
        registry.untrained(task, size.tokenizer, dynamics)
print(*(name for name in ("torch._dynamo", "sympy") if name in sys.modules))
"""


def test_no_diffusion_model_imports_torchs_compiler_to_be_opened(tiny_checkpoint):
    """Arithmetic on meta does, which took longer than the rest of opening a shipped checkpoint."""
    found = subprocess.run([sys.executable, "-c", BUILD, str(tiny_checkpoint)], capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, ""), found.stderr
