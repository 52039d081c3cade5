"""How tasks are named, and which names may import a module.

``module:Id`` is Gymnasium's form for a task that registers when its module is imported; ``path/to/task.py:make`` is a
function in a file that makes the environment. A user who writes such a name wants the import. A checkpoint or dataset
may come from a stranger, and what it names is imported only if it was already, or if the user allowed the module.
"""

import difflib
import importlib.util
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from procosm.envs import TASKS
from procosm.world_model.errors import TaskError

ALLOWED = "PROCOSM_ALLOW_IMPORT"
"""Environment variable with the modules that names from files may import, by commas; worker processes inherit it."""


def resolve_name(env: str) -> str:
    """The task meant by ``--env``: one of our names (``Reacher``, ``Procosm/Reacher-v0``) or a task's own id."""
    name = env.removeprefix("procosm.envs:").removeprefix("Procosm/").removesuffix("-v0").removesuffix("Truth")
    if is_file_name(env):
        path, _, function = env.rpartition(":")
        return f"{_absolute(path)}:{function}"  # as workers and later commands find it
    return TASKS.get(name, env)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def is_file_name(name: str) -> bool:
    """Whether a task is named by a file of Python and a function in it."""
    return module_of(name).endswith(".py")


def function_of(name: str) -> Callable[..., Any]:
    """The function that ``path/to/task.py:make`` names; the file is run, its folder on Python's path.

    Raises:
        TaskError: there is no such file or function, or the file failed.
    """
    path, function = Path(module_of(name)), name.rpartition(":")[2]
    module = sys.modules.get(str(path))
    if module is None:
        spec = importlib.util.spec_from_file_location(str(path), path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise TaskError(f"task {name!r}: there is no file {path}")
        module = importlib.util.module_from_spec(spec)
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # last, so that nothing beside the file hides an installed module
        sys.modules[str(path)] = module  # where dataclasses look up annotations while the file is run
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[str(path)]
            line = traceback.format_tb(error.__traceback__)[-1].strip().splitlines()[0]
            raise TaskError(f"task {name!r}: running {path} failed: {error!r}; at {line}") from error
    made = getattr(module, function, None)
    if not callable(made):
        raise TaskError(f"task {name!r}: {path} has no function {function}")
    return made


def close_names(name: str, known: list[str]) -> str:
    """What to say about a name that is none."""
    fold = {item.lower(): item for item in known}
    close = [fold[item] for item in difflib.get_close_matches(name.lower(), fold, n=5, cutoff=0.5)]
    if close:
        return f"close names: {', '.join(close)}"
    return "a task of your own is named module:Id, after the module that registers it, or path/to/task.py:make"


def module_of(name: str) -> str:
    """The module in ``module:Id``; "" for a plain id."""
    return name.rpartition(":")[0]


def allow_import(name: str) -> None:
    """Let the module of ``module:Id``, which the user has named, be imported here and in worker processes."""
    allow_module(module_of(name))


def allow_module(module: str) -> None:
    """Let a module, or a file of Python, be imported for the sake of a task, here and in worker processes."""
    module, allowed = _absolute(module) if module.endswith(".py") else module, allowed_modules()
    if module and module not in allowed:
        os.environ[ALLOWED] = ",".join([*allowed, module])


def check_import(name: str) -> None:
    """Refuse a name from a file whose module the user has not allowed.

    Raises:
        TaskError: opening ``name`` would import something.
    """
    module = module_of(name)
    if module and module not in sys.modules and module not in allowed_modules():
        raise TaskError(
            f"the task is called {name!r} in a checkpoint or dataset, and opening it runs the module {module!r}, "
            f"which can do anything. If you trust it, give --allow-import {shlex.quote(module)}, set "
            f"{ALLOWED}={shlex.quote(module)}, or in Python import {module} first"
        )


def import_module_of(name: str) -> None:
    """Import the module of ``module:Id``: from Python's path, or else from the working folder.

    Raises:
        TaskError: it is not there, or failed.
    """
    module = module_of(name)
    if not module or module in sys.modules or is_file_name(name):
        return
    here = str(Path.cwd())
    try:
        # Last, so that nothing in the folder hides a module of Python's or an installed one.
        if importlib.util.find_spec(module.partition(".")[0]) is None and here not in sys.path:
            sys.path.append(here)
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise TaskError(
                f"task {name!r}: there is no module {module!r} on Python's path or in {here}: run the command in its "
                "folder, or set PYTHONPATH to it"
            ) from error
        line = traceback.format_tb(error.__traceback__)[-1].strip().splitlines()[0]
        raise TaskError(f"task {name!r}: importing {module!r} failed: {error!r}; at {line}") from error


def allowed_modules(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The modules that names from files may import."""
    return [module for module in environment.get(ALLOWED, "").split(",") if module]
