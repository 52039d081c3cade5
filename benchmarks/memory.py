"""The peak of a process's memory, Linux only.

Not ``getrusage``: a process takes over the peak of the one that began it, so that under a large parent (a test suite, a
benchmark with its data) every small child says the same.
"""

import re
from pathlib import Path

PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def peak_bytes() -> int:
    """Most bytes of physical memory that this process has held since it began, or since ``forget_peak``."""
    found = PEAK.search(Path("/proc/self/status").read_text(encoding="ascii"))
    if found is None:
        raise RuntimeError("/proc/self/status has no line VmHWM")
    return 1024 * int(found[1])


def forget_peak() -> None:
    """Let the peak begin anew at what is held now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
