"""``procosm VERB``: every verb is a function of the library with its own config, parsed by tyro.

Nothing heavy is imported before a verb is known, so that ``procosm --help`` answers at once.
"""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import procosm
from procosm.agents.verbs import VERBS


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb and exit: 0 done, 1 failed with an error of ours, 2 bad usage, 130 stopped by Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        print(overview(), file=sys.stderr)
        sys.exit(2)
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
        sys.exit(2)
    sys.exit(_carry_out(given[0], given[1:]))


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
            "Begin with `procosm demo`. Every verb that makes something goes on where it stopped when run again.",
        ]
    )


def _carry_out(name: str, arguments: Sequence[str]) -> int:
    """Parse, call, say what was made; returns the exit status."""
    import tyro

    from procosm.sparse.errors import SparseError
    from procosm.world_model.interface import ProcosmError

    verb = VERBS[name]
    try:
        config = tyro.cli(_named(verb.config), prog=f"procosm {name}", description=verb.teaches, args=list(arguments))
        made = _named(verb.function)(config)
    except (ProcosmError, SparseError) as error:
        print(f"procosm {name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        command = " ".join(["procosm", name, *arguments])
        print(f"\nStopped. The same command goes on from here: {command}", file=sys.stderr)
        return 130
    if isinstance(made, Path):
        print(f"Wrote {made}\n{verb.next.format(made=made, run=made.parent)}")
    return 0


def _named(path: str) -> Any:
    """What ``module:name`` stands for."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


if __name__ == "__main__":
    main()
