"""Every benchmark that computes a model lets its user say where."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {
    "dream/pipeline.py": "RunConfig has the device of a whole run",
    "dream/ranking_again.py": "reads committed episodes",
    "dream/ship.py": "copies weights",
    "machine/post_training_memory.py": "counts bytes, which no device changes",
    "machine/commits.py": "times commits on the CPU, in seconds of the processor",
    "machine/threads.py": "asks about threads of the CPU",
    "sparse/accelerator.py": "models hardware",
    "sparse/choices.py": "asks what auto chooses on the CPU",
    "sparse/cpu.py": "asks about products on the CPU",
    "sparse/curve.py": "asks about seconds of training on the CPU",
    "sparse/dreams.py": "asks about steps of dreams on the CPU",
    "sparse/planted.py": "trains two small layers",
    "sparse/steps.py": "asks about training steps on the CPU",
}
COMMANDS = {
    str(path.relative_to(ROOT / "benchmarks")): path
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
    if "command.main(" in path.read_text()
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_a_device_or_has_a_reason_not_to(name):
    tree = ast.parse(COMMANDS[name].read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "command.main"]
    settings = ast.unparse(calls[0].args[1])
    classes = {
        node.name: [ast.unparse(base) for base in node.bases] for node in tree.body if isinstance(node, ast.ClassDef)
    }
    takes_one = {"OnDevice", "TokenizerBenchmarkConfig"} & set(classes.get(settings, []))
    assert bool(takes_one) is (name not in ELSEWHERE)


def test_the_reasons_are_about_commands_that_there_are():
    assert ELSEWHERE.keys() <= COMMANDS.keys()
