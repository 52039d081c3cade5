"""Several datasets of one task as one, their episodes in order."""

from collections.abc import Sequence
from pathlib import Path

import h5py

from procosm.world_model.data.episodes import DAMAGE, MAIN_FILE, acting_policies, check_whole, load_task
from procosm.world_model.errors import DatasetError
from procosm.world_model.files import read_json, write_json
from procosm.world_model.folders import check_apart, find, replace
from procosm.world_model.provenance import provenance

TOTALS = ("total_episodes", "total_steps", "dataset_size")


def join(parts: Sequence[Path], out: Path) -> Path:
    """Write the episodes of datasets, those of the first before those of the next, into the folder ``out``.

    Frames are copied as they are stored. Of the provenance of the parts the policies that acted are kept, by file.

    Returns:
        ``out``.

    Raises:
        DatasetError: a part is missing or damaged, or of another task than the first.
    """
    task = load_task(parts[0])
    for part in parts:
        check_apart(out, part)
        check_whole(part)
        if load_task(part) != task:
            raise DatasetError(f"{part} and {parts[0]} are not of one task (task.json differs): join those that are")
    described = [read_json(find(part, "metadata.json")) for part in parts]
    totals = {name: sum(each[name] for each in described) for name in TOTALS}
    acted = {file: sha for part in parts for file, sha in acting_policies(part).items()}

    def write(staging: Path) -> None:
        count = 0
        with h5py.File(staging / MAIN_FILE, "w", libver="latest") as joined:
            for part in parts:
                with h5py.File(find(part, MAIN_FILE), "r") as file:
                    for index in range(len(file)):
                        file.copy(f"episode_{index}", joined, f"episode_{count}")
                        joined[f"episode_{count}"].attrs["id"] = count
                        count += 1
        write_json(staging / "metadata.json", described[0] | totals)
        write_json(staging / "task.json", read_json(find(parts[0], "task.json")))
        write_json(staging / "provenance.json", provenance({}) | {"joined": len(parts), "job": {"policies": acted}})

    try:
        replace(out, write)
    except DAMAGE as error:
        raise DatasetError(f"{out} cannot be joined ({error}): restore {', '.join(map(str, parts))}") from error
    return out
