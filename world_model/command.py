"""What every command does alike: it parses its config, works, and ends with a status and without a traceback."""

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

FAILED, USAGE, INTERRUPTED, BROKEN_PIPE, KILLED = 1, 2, 130, 141, 128
"""Statuses: our errors, bad usage, Ctrl-C, a reader that left (128 + SIGPIPE), and 128 + the signal that ended it."""


def run_command(
    function: Callable[[Any], Any],
    config: type,
    program: str,
    arguments: Sequence[str],
    description: str | None = None,
    options: tuple = (),
    again: str = "",
) -> Any:
    """What ``function`` makes of the config that ``arguments`` describe.

    Args:
        config: a dataclass that tyro parses. program: what the command is called.
        description: its help; by default the config's docstring. options: tyro's markers for the whole config.
        again: what a shell is told to run it again, where that is not ``program`` and the arguments.

    Raises:
        SystemExit: with a status as above; why stands on stderr, in one line.
    """
    import tyro

    from procosm.sparse.errors import SparseError
    from procosm.world_model.errors import ProcosmError
    from procosm.world_model.stopping import Terminated, signals_raise

    try:
        with signals_raise():
            asked: Any = tyro.cli(config, prog=program, description=description, args=list(arguments), config=options)
            return function(asked)
    except (ProcosmError, SparseError) as error:
        _end(FAILED, f"{program}: {error}")
    except MemoryError as error:
        _end(FAILED, f"{program}: this needs more memory than there is: {error or 'ask for less at once'}")
    except KeyboardInterrupt as stop:
        status = KILLED + stop.number if isinstance(stop, Terminated) else INTERRUPTED
        command = again or f"{program} {shlex.join(arguments)}"
        _end(status, f"\nStopped. The same command goes on from here: {command}")


def main(function: Callable[[Any], Any], config: type, **settings: Any) -> None:
    """Run a module as a command, ``python -m procosm.…``, with the arguments of this process."""
    module = sys.modules["__main__"].__spec__
    program = f"python -m {module.name.removesuffix('.__main__')}" if module else shlex.quote(sys.argv[0])
    with quiet_pipes():
        made = run_command(function, config, program, sys.argv[1:], **settings)
        if isinstance(made, Path):
            print(f"Wrote {made}")


@contextlib.contextmanager
def quiet_pipes() -> Iterator[None]:
    """Where nobody reads what is printed any more (``| head``), end as other commands do: at once, without a word."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows what it can
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it exits, and would complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        sys.exit(BROKEN_PIPE)


def _end(status: int, why: str) -> None:
    print(why, file=sys.stderr)
    sys.exit(status)
