"""The README's blocks run: Python as it stands, shell with its long commands shortened to the debug preset."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=lambda block: block.strip().splitlines()[0][:40])
def test_python_block_runs(block, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_there_are_blocks_to_run():
    assert len(PYTHON_BLOCKS) >= 2


def test_every_command_it_names_exists():
    verbs = set(re.findall(r"^procosm ([a-z-]+)", SHELL, re.MULTILINE))
    assert verbs >= {"run", "evaluate"}
    for verb in sorted(verbs):
        run = subprocess.run(
            [sys.executable, "-m", "procosm.agents.cli", verb, "--help"], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
    targets = set(re.findall(r"^make ([a-z-]+)", SHELL, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert targets >= {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_every_file_it_names_exists():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
