"""One process at a time makes a result: the second is told who is at it. The kernel frees the lock of a dead one."""

import contextlib
import datetime
import fcntl
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from procosm.world_model.errors import ProcosmError


@contextlib.contextmanager
def lock(path: Path, what: Path) -> Iterator[None]:
    """Hold the lock file ``path`` while ``what`` is made; it says who holds it, and is deleted in the end.

    On a file system without locks everyone gets it.

    Raises:
        ProcosmError: another process holds it.
    """
    Path(os.path.realpath(path.parent)).mkdir(parents=True, exist_ok=True)  # links may lead to what is not there
    while True:
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ProcosmError(f"{what} is being made by {_holder(path)}: wait for it, or end it") from error
            except OSError:
                pass
            if not _is(path, file.fileno()):
                continue  # whoever held it has deleted it just now
            file.truncate(0)
            file.write(json.dumps(_myself()))
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _myself() -> dict[str, str]:
    return {
        "pid": str(os.getpid()),
        "host": platform.node(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
    }


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']} since {told['since']} ({told['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
