"""Result folders: refused before the work where they cannot be written, replaced without losing old and new at once.

``replace`` needs nothing but renames inside the folder, so the folder may be a symbolic link or a mount point, on any
file system. New files are staged in ``.writing``. Its rename to ``.written`` is the moment at which the new ones count:
from then on ``find`` prefers what lies there, and the files only have to be moved to their places.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from procosm.world_model.errors import ProcosmError

STAGING, COMPLETE = ".writing", ".written"

Identity = tuple[tuple[str, int, int, int], ...]


def named(folder: Path) -> Path:
    """``folder`` by a path that ends in its name, which ``.`` and ``..`` do not: names are made from it."""
    return folder.resolve() if folder.name in ("", "..") else folder


def check_out(folder: Path, ours: Callable[[str], object] | None = None) -> None:
    """Refuse a folder that a result cannot be written to, before the work.

    Args:
        folder: what is to be written; it need not exist, and may be a link, also to what does not exist yet.
        ours: tells the names of what belongs to such a result; None where others may lie there too.

    Raises:
        ProcosmError: it is no folder, holds something else, or cannot be written to.
    """
    place = Path(os.path.realpath(folder))
    if any(path.is_symlink() for path in (place, *place.parents)):
        raise ProcosmError(f"{folder} cannot be written: a link in it leads to itself. Give another folder")
    try:
        there = next(path for path in (place, *place.parents) if path.exists())
        if not there.is_dir():
            raise ProcosmError(f"{folder} cannot be written: {there} is a file, not a folder. Give another folder")
        with tempfile.TemporaryFile(dir=there):
            pass
        found = sorted(path.name for path in place.iterdir()) if there == place else []
    except OSError as error:
        raise ProcosmError(
            f"{folder} cannot be written ({error.strerror}): give an --out that you may write to"
        ) from error
    foreign = [name for name in found if not ours(name) and not _found_in_any(name)] if ours is not None else []
    if foreign:
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        raise ProcosmError(
            f"{folder} holds {shown}, which is not of such a result: give an --out of its own, such as "
            f"{folder / 'new'}, or move these files away"
        )


def check_apart(out: Path, data: Path) -> None:
    """Refuse a result folder that is, lies in, or holds the folder of what it is made from.

    Raises:
        ProcosmError: it does.
    """
    here, there = Path(os.path.realpath(out)), Path(os.path.realpath(data))
    if here == there or here in there.parents or there in here.parents:
        raise ProcosmError(f"--out {out} and the data in {data} lie one in the other: give an --out beside the data")


def replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Put the files that ``write`` makes in an empty folder into ``folder``, over those of the same names.

    Killed at any moment, ``find`` names all of the new files or none of them; other files there are left alone.

    Raises:
        ProcosmError: the disk does not take them; what was there before is untouched.
    """
    place, staging = folder.resolve(), folder.resolve() / STAGING
    new = not place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
        finish(place)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        write(staging)
        _flush(staging)
        staging.rename(place / COMPLETE)
        _flush(place)
        finish(place)
    except OSError as error:
        raise ProcosmError(
            f"cannot write {folder}: {error.strerror}. What was there before is untouched; free some space or give "
            "another folder, and run the same command again"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):
                place.rmdir()  # which it cannot where something was written


def finish(folder: Path) -> None:
    """Move what counts already to where it belongs, if a replacement was killed before it did."""
    complete = folder / COMPLETE
    if complete.is_dir():
        for path in sorted(complete.iterdir()):
            path.replace(folder / path.name)
        complete.rmdir()


def find(folder: Path, name: str) -> Path:
    """Where the file ``name`` of a folder written by ``replace`` lies, also if that was killed half-way."""
    path = folder / COMPLETE / name
    return path if path.exists() else folder / name


def files(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its name relative to it, those of a replacement that was killed included."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    complete = {name.removeprefix(f"{COMPLETE}/"): path for name, path in found.items() if name.startswith(COMPLETE)}
    plain = {name: path for name, path in found.items() if not name.startswith((f"{COMPLETE}/", f"{STAGING}/"))}
    return dict(sorted((plain | complete).items(), key=lambda item: Path(item[0])))


def identity(path: Path) -> Identity:
    """Changes whenever a file, or any file of a folder, is written anew: names, inodes, times and sizes."""
    seen = {path.name: path} if path.is_file() else files(path)
    found = []
    for name, each in seen.items():
        with contextlib.suppress(FileNotFoundError):  # replaced just now
            stat = each.stat()
            found.append((name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _found_in_any(name: str) -> bool:
    """What a killed write leaves, and what stands at the top of a disk."""
    return name in (STAGING, COMPLETE, "lost+found") or (name.startswith(".") and name.endswith(".tmp"))


def _flush(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that a rename cannot overtake the files it is about."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
