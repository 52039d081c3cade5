"""The pages for users: Python blocks run as they stand, commands, files and modules that they name exist."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from procosm.agents.verbs import VERBS
from procosm.world_model.command import run_command

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))}
SHELL = "\n".join(block for text in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
PYTHON_BLOCKS = [
    pytest.param(block, id=f"{name}: {block.strip().splitlines()[0][:40]}")
    for name, text in PAGES.items()
    if name != "own_task.md"  # its blocks need what the page has the reader make: tests/test_own_task.py
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]


@pytest.mark.parametrize("block", PYTHON_BLOCKS)
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


COMMANDS = re.findall(r"^procosm (.+)$", SHELL.replace("\\\n", " "), re.MULTILINE)


def parsed(command: str) -> object:
    """The settings that a command of a page stands for; a verb, an option or a value that is none exits."""
    verb, *arguments = shlex.split(re.sub(r"--allow-import \S+", "", command), comments=True)
    module, name = VERBS[verb].config.split(":")
    return run_command(lambda settings: settings, getattr(import_module(module), name), f"procosm {verb}", arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_it_names_is_one_of_procosm(command):
    assert parsed(command) is not None


@pytest.mark.parametrize(
    "command", ["evaluat --run a", "evaluate --run a --episods 2", "evaluate --run a --episodes b"]
)
def test_commands_that_are_none_would_be_seen(command, capsys):
    with pytest.raises((KeyError, SystemExit)):
        parsed(command)


def test_every_target_it_names_is_in_the_makefile():
    assert {"run", "evaluate"} <= {command.split()[0] for command in COMMANDS}
    targets = set(re.findall(r"^make ([a-z-]+)", SHELL, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert targets >= {"demo", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_module_it_names_exists(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\((?!http)([^)#]+)", PAGES[page]):
        assert (folder / link).exists(), link
    for module in set(re.findall(r"procosm\.benchmarks\.(\w+)", PAGES[page])):
        assert any((ROOT / "benchmarks" / name).exists() for name in (f"{module}.py", module)), module


def test_a_newcomer_can_read_it_at_once():
    assert len(README.splitlines()) <= 120


def test_links_into_a_page_meet_a_heading():
    for text in PAGES.values():
        for page, anchor in re.findall(r"\]\(([\w./]*\.md)#([\w-]+)\)", text):
            headings = re.findall(r"^#+ (.+)$", PAGES[Path(page).name], re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page}#{anchor}"
