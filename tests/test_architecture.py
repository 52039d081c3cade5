"""The import arrows of the house, and the other rules a reader relies on."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("sparse", "world_model", "envs", "agents", "benchmarks")
MAY_IMPORT = {
    "sparse": set(),
    "world_model": {"sparse"},
    "envs": {"world_model", "sparse"},
    "agents": {"envs", "world_model", "sparse"},
    "benchmarks": {"agents", "envs", "world_model", "sparse"},
}
FILES = sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every module name that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_follow_the_arrows(path):
    part = path.relative_to(ROOT).parts[0]
    for module in imported(path):
        pieces = module.split(".")
        if pieces[0] == "procosm" and len(pieces) > 1 and pieces[1] in PARTS and pieces[1] != part:
            assert pieces[1] in MAY_IMPORT[part], f"{name(path)} imports {module}"
        if pieces[0] == "cupy":
            assert name(path) == "sparse/kernels/launch.py", f"{name(path)} imports cupy"
        if pieces[0] == "ray":
            assert name(path).startswith("world_model/curation/"), f"{name(path)} imports ray"


@pytest.mark.parametrize("path", [p for p in FILES if p.relative_to(ROOT).parts[0] == "envs"], ids=name)
def test_envs_know_a_world_model_by_its_interface_only(path):
    """Of sparse they need its worker processes, which everything that starts processes shares, and no layer of it."""
    allowed = {"interface", "errors", "data", "checkpoint", "files", "folders", "provenance", "schema", "settings"}
    allowed |= {"model", "threads", "command", "progress", "stopping", "hub"}
    for module in imported(path):
        pieces = module.split(".")
        if pieces[:2] == ["procosm", "world_model"] and len(pieces) > 2:
            assert pieces[2] in allowed, f"{name(path)} imports {module}"
        if pieces[:2] == ["procosm", "sparse"]:
            assert pieces[2:3] == ["processes"], f"{name(path)} imports {module}"


CONCRETE_FOLDERS = ("tokenizer", "diffusion", "autoregressive", "pretrained")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_the_registry_names_concrete_models(path):
    part, *inner = path.relative_to(ROOT).with_suffix("").parts
    own = [part, *inner] == ["world_model", "registry"] or inner[0] in CONCRETE_FOLDERS
    if part in ("world_model", "envs", "agents") and not own:
        for module in imported(path):
            pieces = module.split(".")[1:3]
            assert pieces[:1] != ["world_model"] or pieces[-1] not in CONCRETE_FOLDERS, f"{name(path)} imports {module}"


@pytest.mark.parametrize(
    "family, others",
    [
        ("diffusion", ("autoregressive", "tokenizer")),
        ("autoregressive", ("diffusion", "tokenizer")),
        ("tokenizer", ("diffusion", "autoregressive")),
    ],
)
def test_families_of_models_are_strangers(family, others):
    for path in (ROOT / "world_model" / family).rglob("*.py"):
        for module in imported(path):
            assert module.split(".")[1:3] not in [["world_model", other] for other in others], (
                f"{name(path)} imports {module}"
            )


@pytest.mark.parametrize("path", FILES, ids=name)
def test_processes_are_started_in_one_place(path):
    """Where they import what their parent does, and end when it does; git and a browser for measuring aside."""
    if name(path) not in ("sparse/processes.py", "world_model/provenance.py"):
        for module in imported(path):
            assert not module.startswith(("concurrent.futures.ProcessPool", "multiprocessing")), name(path)
            assert module != "subprocess" or path.relative_to(ROOT).parts[0] == "benchmarks", name(path)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_stay_short_and_whole(path):
    text = path.read_text()
    assert text.count("\n") < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 80, f"{name(path)}: {node.name} has {length} lines"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name(path)}:{node.lineno} catches everything"


def test_every_kernel_has_its_binding_reference_and_test():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "sparse").rglob("test_*.py"))
    for kernel in sorted((ROOT / "sparse" / "kernels").glob("*.cu")):
        assert kernel.with_suffix(".py").exists(), f"{kernel.name} has no binding"
        assert kernel.stem in tests, f"{kernel.name} has no test"


def test_nothing_of_ours_is_a_pickle():
    for path in FILES:
        assert not imported(path) & {"pickle", "joblib"}, name(path)
        assert not re.search(r"(?<!safetensors\.)torch\.save\(", path.read_text()), name(path)
