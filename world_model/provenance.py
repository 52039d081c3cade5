"""Where a result comes from: commit, command, versions, hardware, date."""

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "gymnasium", "mujoco", "stable-baselines3", "numpy")


def commit() -> str:
    """The commit of procosm's checkout, with ``+`` when files differ from it.

    ``unknown`` where procosm's code does not lie in a checkout of its own: one around it is somebody else's.
    """
    top = Path(__file__).resolve().parent.parent
    try:
        if Path(_git(top, "rev-parse", "--show-toplevel")).resolve() != top:
            return "unknown"
        _git(top, "ls-files", "--error-unmatch", str(Path(__file__).resolve().relative_to(top)))
        return _git(top, "describe", "--always", "--dirty=+", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    """What git says of the checkout around a folder, whatever repository the environment names."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *arguments]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    return os.fsdecode(run.stdout).strip()


def hardware() -> str:
    """Processor and cores, in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next(
            (
                line.split(":")[1].strip()
                for line in info.read_text(encoding="utf-8").splitlines()
                if "model name" in line
            ),
            name,
        )
    return f"{name}, {os.cpu_count()} cores"


def _version(package: str) -> str | None:
    """Of a package, None where it is not installed: a machine that only trains has no simulator."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(value: str) -> str:
    """With the letters of paths, which an ASCII locale reads as lone surrogates; no JSON may hold those."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def provenance(configs: dict[str, Any]) -> dict[str, Any]:
    """JSON values that let a reader repeat the run; configs are dataclasses."""
    return {
        "commit": commit(),
        "command": _text(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "configs": {k: {f: _text(str(v)) for f, v in dataclasses.asdict(c).items()} for k, c in configs.items()},
    }
