"""``procosm VERB``: every verb is a function of the library with its own config, parsed by tyro.

Nothing heavy is imported before a verb is known, so that ``procosm --help`` answers at once.
"""

import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import procosm
from procosm.agents.verbs import VERBS, Verb
from procosm.world_model.command import INTERRUPTED, USAGE, quiet_pipes, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit: 0 done, 1 failed with an error of ours, 2 bad usage, 130 stopped by Ctrl-C."""
    try:
        _main(arguments)
    except KeyboardInterrupt:  # before the verb began
        print("\nStopped before anything was begun.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _main(arguments: Sequence[str] | None) -> None:
    typed = list(sys.argv[1:] if arguments is None else arguments)
    with quiet_pipes():
        before = dict(os.environ)
        given = _without_imports(typed)
        if not given:
            print(overview(), file=sys.stderr)
            sys.exit(USAGE)
        if given[0] in ("-h", "--help", "help"):
            print(overview())
            return
        if given[0] == "--version":
            print(procosm.__version__)
            return
        if given[0] not in VERBS:
            close = difflib.get_close_matches(given[0], VERBS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the verbs are {', '.join(VERBS)}"
            print(f"procosm: there is no verb {given[0]!r}; {hint}", file=sys.stderr)
            sys.exit(USAGE)
        # Read when torch is imported. By default a thread that waits for another one spins, and so keeps it from the
        # core that both need: where anything else runs, ten times slower (benchmarks/results/threads.json).
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        verb = VERBS[given[0]]
        named = (_named(verb.function), _named(verb.config), f"procosm {given[0]}")
        made = run_command(*named, given[1:], verb.teaches, again=f"{program()} {shlex.join(typed)}")
        if isinstance(made, Path):
            from procosm.envs.truth.names import allowed_modules

            allowed = [module for module in allowed_modules() if module not in allowed_modules(before)]
            print(f"Wrote {made}\n{what_next(verb, made, allowed)}")
    sys.exit(0)


def _without_imports(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``--allow-import MODULE``, which any verb takes, once it is obeyed."""
    rest, coming = [], iter(arguments)
    for argument in coming:
        option, equals, module = argument.partition("=")
        if option != "--allow-import":
            rest.append(argument)
            continue
        from procosm.envs.truth.names import allow_module

        module = module if equals else next(coming, "")
        if not module.endswith(".py") and not all(part.isidentifier() for part in module.split(".")):
            wanted = "the name of a module (my_tasks) or a file (tasks/arm.py)"
            print(f"procosm: --allow-import needs {wanted}, got {module!r}", file=sys.stderr)
            sys.exit(USAGE)
        allow_module(module)
    return rest


def what_next(verb: Verb, made: Path, allowed: Sequence[str] = ()) -> str:
    """The verb's advice about what it made; paths are quoted for the shell in commands, and for Python in its calls.

    Args:
        allowed: modules that may be imported because this command says so; the next one has to say it again.
    """
    return verb.next.format(
        program=program(),
        made=shlex.quote(str(made)),
        run=shlex.quote(str(made.parent)),
        page=str(made),
        python=repr(str(made)),
        allow="".join(f" --allow-import {shlex.quote(module)}" for module in allowed),
    )


def program() -> str:
    """What a shell has to be told to run this procosm: its name where that finds it, else its path."""
    script = Path(sys.executable).with_name("procosm")
    found = shutil.which("procosm")
    if found and Path(found).absolute() == script:
        return "procosm"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m procosm.agents.cli"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def overview() -> str:
    """What ``procosm --help`` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "procosm: practise in a learned world, judged by MuJoCo",
            "",
            "usage: procosm VERB [options]       procosm VERB --help teaches a verb",
            "",
            *lines,
            "",
            "A task of your own is named module:Id. From a checkpoint or dataset its module is imported only with",
            "--allow-import MODULE, which every verb takes.",
            "",
            "Begin with `procosm demo`. Every verb that makes something goes on where it stopped when run again.",
        ]
    )


def _named(path: str) -> Any:
    """What ``module:name`` stands for."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


if __name__ == "__main__":
    main()
