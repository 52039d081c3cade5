"""Runs the cases of one surface in a process that may not grow, hang or print a traceback that is not ours.

``python -m tests.fuzz.guard SURFACE FOLDER`` prints one JSON line: how many cases there were, and what went wrong.
"""

import faulthandler
import importlib
import json
import logging
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

SECONDS = 4.0
"""Of processor time: a case that takes more hangs; most take a hundredth of a second."""
WALL_SECONDS = 60.0
"""The same by the clock, on a machine that does other things too."""
MEMORY_BYTES = 3 * 2**30
"""What a surface may add to the memory of its process, threads' stacks and all."""


class Hang(BaseException):
    """A case took too long; no handler of ours may take it for an error of an input."""


def judge(case: Any, ours: tuple[type[Exception], ...]) -> tuple[str, str]:
    """What came of one case: ``refused``, ``taken``, or a fault and where it was."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        case.run()
        return ("accepted though wrong", "") if case.wrong else ("taken", "")
    except ours as error:
        return ("refused", "") if str(error).strip() else ("foreign", "an error of ours that says nothing")
    except Hang:
        return "hang", ""
    except BaseException as error:
        at = traceback.extract_tb(error.__traceback__)
        inner = next((frame for frame in reversed(at) if "/tests/fuzz" not in frame.filename), at[-1])
        return "foreign", f"{type(error).__name__}: {str(error)[:120]} ({Path(inner.filename).name}:{inner.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def main(surface: str, folder: Path) -> None:
    """Run every case; the last line of standard output is the result."""
    warnings.simplefilter("error")
    logging.disable()
    from procosm.sparse import SparseError
    from procosm.world_model.errors import ProcosmError

    module = importlib.import_module(f"tests.fuzz.surfaces.{surface}")
    cases = module.cases(folder)

    def too_long(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGPROF, too_long)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    counts: dict[str, int] = {}
    faults: list[str] = []
    began = time.monotonic()
    for case in cases:
        print(case.name[:200], file=sys.stderr, flush=True)
        faulthandler.dump_traceback_later(WALL_SECONDS, exit=True)  # C code hears no signal
        result, where = judge(case, (ProcosmError, SparseError))
        faulthandler.cancel_dump_traceback_later()
        counts[result] = counts.get(result, 0) + 1
        if result not in ("refused", "taken"):
            faults.append(f"{result}: {case.name[:200]} {where}")
    print(json.dumps({"counts": counts, "faults": faults, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
