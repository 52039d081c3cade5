"""A dataset: its JSON files and its HDF5 file, damaged on the way and written wrong."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from procosm.world_model.data.episodes import Episode, acting_policies, load_episodes, load_task, write_dataset
from tests.fuzz.mutations import Case, cuts, drawn, flips, json_texts
from tests.fuzz.surfaces.checkpoint import TASK, holding

STEPS = 6
HOLDING_SHAPES = {"height", "width", "shape"}


def made(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    episodes = [
        (Episode(
            rng.integers(0, 255, (STEPS + 1, 64, 64, 3), np.uint8), rng.uniform(-3, 3, (STEPS, 1)).astype(np.float32),
            False, kind, signals={"state": rng.normal(size=(STEPS + 1, 4)).astype(np.float32),
                                  "reward": rng.normal(size=STEPS).astype(np.float32)},
        ), rng.normal(size=(STEPS + 1, 5)))
        for kind in ("train", "holdout", "constant")
    ]  # fmt: skip
    path = folder / "data"
    write_dataset(path, TASK, episodes, {"job": {"policies": {"a.zip": "0" * 64}}}, "{}")
    return path


def opened(path: Path) -> None:
    load_task(path)
    acting_policies(path)
    for episode in load_episodes(path):
        for values in (episode.actions, *episode.signals.values()):
            assert np.isfinite(values).all()


def with_file(path: Path, content: bytes) -> None:
    with holding(path, content):
        opened(path.parent)


def edited(path: Path, edit: Callable[[h5py.File], None]) -> None:
    kept = (path / "main_data.hdf5").read_bytes()
    try:
        with h5py.File(path / "main_data.hdf5", "a") as file:
            edit(file)
        opened(path)
    finally:
        (path / "main_data.hdf5").write_bytes(kept)


def put(name: str, values, file: h5py.File, **settings) -> None:
    del file[name]
    file.create_dataset(name, data=values, **settings)


def spoil(name: str, value: float, file: h5py.File) -> None:
    values = file[name][...]
    values.flat[-1] = value
    put(name, values, file)


def declare(name: str, shape: tuple[int, ...], dtype: str, file: h5py.File) -> None:
    del file[name]
    file.create_dataset(name, shape, dtype, chunks=tuple(min(side, 64) for side in shape), compression="lzf")


def link(name: str, to, file: h5py.File) -> None:
    del file[name]
    file[name] = to


def attribute(name: str, value, file: h5py.File) -> None:
    file["episode_0"].attrs[name] = value


def edits() -> dict[str, Callable[[h5py.File], None]]:
    found: dict[str, Callable[[h5py.File], None]] = {}
    shapes: dict[str, tuple[int, ...]] = {"observations/pixels": (STEPS + 1, 64, 64, 3), "actions": (STEPS, 1)}
    shapes |= {"observations/state": (STEPS + 1, 4), "rewards": (STEPS,), "terminations": (STEPS,)}
    for name, shape in shapes.items():
        place = f"episode_0/{name}"
        for value in (float("nan"), float("inf"), -float("inf"), 1e38 if name == "actions" else float("nan")):
            if name not in ("observations/pixels", "terminations"):
                found[f"{name} = {value}"] = partial(spoil, place, value)
        for dtype in ("f8", "i4", "c8", "S3", "u2", "O"):
            if dtype != "O":
                found[f"{name} as {dtype}"] = partial(put, place, np.zeros(shape, dtype))
        for other in ((), (0,), (1,), (*shape, 1), (shape[0] + 1, *shape[1:]), (0, *shape[1:])):
            found[f"{name} of {other}"] = partial(put, place, np.zeros(other, np.float32))
        for first in (10**9, 10**12):
            found[f"{name} of {first} declared"] = partial(
                declare, place, (first, *shape[1:]), "f4" if shape[1:] != (64, 64, 3) else "u1"
            )
        found[f"{name} missing"] = lambda file, place=place: file.__delitem__(place)
        found[f"{name} linked"] = partial(link, place, h5py.SoftLink("/episode_1/" + name))
        found[f"{name} elsewhere"] = partial(link, place, h5py.ExternalLink("/etc/passwd", "/x"))
        found[f"{name} a group"] = lambda file, place=place: (file.__delitem__(place), file.create_group(place))
        found[f"{name} text"] = partial(put, place, "x")
    for kind in ("", "x", 3, 1.5, True, np.zeros(3)):
        found[f"kind {kind!r:.20}"] = partial(attribute, "kind", kind)
    for wide in ("yes", 2, 0.5, np.zeros(3), np.nan):
        found[f"wide {wide!r:.20}"] = partial(attribute, "wide", wide)
    found["an end before the end"] = partial(put, "episode_0/terminations", np.ones(STEPS, bool))
    found["episode missing"] = lambda file: file.__delitem__("episode_1")
    found["episode more"] = lambda file: file.create_group("episode_3")
    found["episode called otherwise"] = lambda file: file.move("episode_1", "episode_7")
    found["episode linked"] = partial(link, "episode_2", h5py.ExternalLink("/etc/passwd", "/x"))
    found["vast unlike"] = lambda file: (
        declare("episode_0/actions", (10**9, 1), "f4", file),
        declare("episode_0/observations/pixels", (10**9 + 1, 64, 64, 3), "u1", file),
        declare("episode_0/observations/state", (10**9 + 1, 4), "f4", file),
    )
    return found


def wrong(path, kind):
    if path[0] == "job" or "cameras" in path or "env_kwargs" in path:
        return False
    if kind == "missing" and path[:1] == ("signals",) and len(path) == 2:  # what is not listed was not logged
        return False
    if path == ("twin",) and kind == "type":  # a task need not have one
        return False
    if kind in ("size", "vast"):
        return (
            path[-1] in HOLDING_SHAPES
            or "shape" in path
            or (kind == "vast" and path[-1] in ("action_repeat", "version", "total_episodes"))
        )
    return True


def cases(folder: Path) -> list[Case]:
    path = made(folder)
    opened(path)
    hdf5 = path / "main_data.hdf5"
    content, found = hdf5.read_bytes(), []
    task = json.loads((path / "task.json").read_text())
    found += [Case(f"task.json: {name}", partial(with_file, path / "task.json", text), bad and "env_kwargs" not in name)
              for name, text, bad in json_texts(task, wrong)]  # fmt: skip
    metadata = {key: value for key, value in json.loads((path / "metadata.json").read_text()).items() if "total" in key}
    found += [Case(f"metadata.json: {name}", partial(with_file, path / "metadata.json", text), False)
              for name, text, _ in json_texts(metadata, wrong)]  # fmt: skip
    origin = json.loads((path / "provenance.json").read_text())
    found += [Case(f"provenance.json: {name}", partial(with_file, path / "provenance.json", text), False)
              for name, text, _ in json_texts(origin, wrong)]  # fmt: skip
    found = drawn(found, 300, 9)
    found += [Case(f"hdf5: {name}", partial(edited, path, edit), True) for name, edit in edits().items()]
    found += [Case(f"hdf5: {name}", partial(with_file, hdf5, spoilt), False)
              for name, spoilt in (*flips(content, 60, 3), *flips(content, 60, 4, 0, 4000), *cuts(content))
             ]  # fmt: skip
    return found
