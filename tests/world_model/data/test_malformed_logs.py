"""Damaged recordings of every format are refused by name and row, and the others of their folder are read."""

import io
import json
import zipfile

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from procosm.world_model.data.ingest import IngestConfig, ingest
from procosm.world_model.data.logs import LogsConfig, open_logs, read_log
from procosm.world_model.errors import DatasetError
from tests.world_model.data.formats import FORMATS


def edit_rows(path, change):
    """Rewrite the rows of recording 1 of a LeRobot dataset of version 2.1."""
    file = path / "data/chunk-000/episode_000001.parquet"
    rows = pq.read_table(file).to_pydict()
    change(rows)
    import pyarrow as pa

    pq.write_table(pa.table(rows), file)


def nan_action(rows):
    rows["action"][4] = [0.0, float("nan")]


def lost_row(rows):
    for values in rows.values():
        del values[5]


def late(rows):
    rows["timestamp"][6] += 0.04


def back(rows):
    rows["timestamp"][6] = rows["timestamp"][4]


def ragged(rows):
    rows["action"][3] = [0.0]


def no_column(rows):
    del rows["action"]


def lerobot(change):
    return "lerobot v2.1", lambda path: edit_rows(path, change), "episode_000001"


def cut_film(path):
    file = path / "videos/chunk-000/observation.images.front/episode_000001.mp4"
    file.write_bytes(file.read_bytes()[:-900])


def short_film(path):
    front = path / "videos/chunk-000/observation.images.front"
    (front / "episode_000001.mp4").write_bytes((front / "episode_000000.mp4").read_bytes())


def no_parquet(path):
    (path / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1 no")


def archive(**changes):
    def damage(path):
        file = path / "log1.npz"
        with np.load(file) as found:
            arrays = dict(found)
        for name, change in changes.items():
            arrays[name] = change(arrays[name]) if change else arrays.pop(name) and None
        np.savez_compressed(file, **{k: v for k, v in arrays.items() if v is not None})

    return "numpy", damage, "log1"


def with_nan(values):
    values = values.copy()
    values[4, 1] = np.nan
    return values


def drop(name):
    def damage(path):
        with np.load(path / "log1.npz") as found:
            arrays = {k: v for k, v in found.items() if k != name}
        np.savez(path / "log1.npz", **arrays)

    return "numpy", damage, "log1"


def cut_archive(path):
    (path / "log1.npz").write_bytes((path / "log1.npz").read_bytes()[:3000])


def bomb(path):
    """A kilobyte that says it is a terabyte of frames, and a real one of zeros that unpack to far more."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**26, 128, 128, 3)}
    )
    with zipfile.ZipFile(path / "log1.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("frames.front.npy", header.getvalue() + b"\0" * 10**6)
        file.writestr("actions.npy", header.getvalue())


def pickled(path):
    np.savez(path / "log1.npz", **{"frames.front": np.array([{}], object), "actions": np.zeros((3, 2))})


def edit_csv(change):
    def damage(path):
        lines = (path / "log1.csv").read_text().splitlines()
        (path / "log1.csv").write_text("\n".join(change(lines)) + "\n")

    return "films", damage, "log1"


def nan_cell(lines):
    return [*lines[:5], lines[5].replace(lines[5].split(",")[1], "nan"), *lines[6:]]


def nan_actions(group):
    replace(group, "actions", with_nan(group["actions"][:]))


def edit_demo(change):
    def damage(path):
        with h5py.File(path / "demo.hdf5", "r+") as file:
            change(file["data/demo_1"])

    return "robomimic", damage, "demo/demo_1"


def replace(group, name, values):
    del group[name]
    group[name] = values


def h5_bomb(group):
    shape = group["obs/front_image"].shape
    del group["obs/front_image"]
    group.create_dataset("obs/front_image", (10**6, *shape[1:]), np.uint8, compression="gzip")


def h5_link(group):
    del group["obs/front_image"]
    group["obs/front_image"] = h5py.ExternalLink("/etc/passwd", "/x")


def minari_episode(change):
    def damage(path):
        with h5py.File(path / "data/main_data.hdf5", "r+") as file:
            change(file["episode_1"])

    return "minari", damage, "episode_1"


CASES = {
    "lerobot: NaN action": (*lerobot(nan_action), "action of row 4"),
    "lerobot: a row is missing": (*lerobot(lost_row), "rows, and its metadata say"),
    "lerobot: time runs back": (*lerobot(back), "timestamp of row 6 .* not after"),
    "lerobot: a frame late": (*lerobot(late), "row 6 was taken at"),
    "lerobot: ragged action": (*lerobot(ragged), "action is no table of numbers"),
    "lerobot: no action column": (*lerobot(no_column), "no column action"),
    "lerobot: film cut off": ("lerobot v2.1", cut_film, "episode_000001", "front of episode_000001"),
    "lerobot: film of another": ("lerobot v2.1", short_film, "episode_000001", "cut off: it holds 19 frames"),
    "lerobot: damaged parquet": ("lerobot v2.1", no_parquet, "episode_000001", "cut off or damaged"),
    "numpy: NaN action": (*archive(actions=with_nan), "actions of row 4"),
    "numpy: wrong length": (*archive(actions=lambda a: a[:-4]), "15 actions for"),
    "numpy: float frames": (*archive(**{"frames.front": lambda f: f / 255}), "float64, and should be uint8"),
    "numpy: no actions": (*drop("actions"), "no array actions"),
    "numpy: a camera is missing": (*drop("frames.wrist"), "frames.wrist"),
    "numpy: cut off": ("numpy", cut_archive, "log1", "log1.npz is damaged"),
    "numpy: zip bomb": ("numpy", bomb, "log1", "says that it is"),
    "numpy: pickle": ("numpy", pickled, "log1", "no array of numbers"),
    "films: NaN action": (*edit_csv(nan_cell), "action.0 of row 4"),
    "films: a word": (*edit_csv(lambda t: [*t[:5], "0.2,left" + t[5][t[5].index(",", 9):], *t[6:]]), "row 4 is 'left'"),
    "films: a cell too few": (*edit_csv(lambda t: [*t[:3], "1,2", *t[4:]]), "row 2 has 2 cells"),
    "films: no column": (*edit_csv(lambda t: [t[0].replace("action.1", "x.1"), *t[1:]]), "no column action.1"),
    "films: wrong length": (*edit_csv(lambda t: t[:-3]), "17 rows, and its films"),
    "robomimic: NaN action": (*edit_demo(nan_actions), "actions of row 4"),
    "robomimic: wrong length": (*edit_demo(lambda g: replace(g, "actions", g["actions"][:-3])), "rows, and there are"),
    "robomimic: no images": (*edit_demo(lambda g: g.pop("obs/front_image")), "front_image is missing"),
    "robomimic: bomb": (*edit_demo(h5_bomb), "says that it has"),
    "robomimic: link to elsewhere": (*edit_demo(h5_link), "link to elsewhere"),
    "minari: NaN action": (*minari_episode(nan_actions), "actions of row 4"),
    "minari: no rewards": (*minari_episode(lambda g: g.pop("rewards")), "rewards"),
    "minari: wrong length": (*minari_episode(lambda g: replace(g, "actions", g["actions"][:-3])), "frames are needed"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_recording_is_named_and_the_others_are_read(case, tmp_path):
    kind, damage, name, said = CASES[case]
    path = FORMATS[kind](tmp_path / "logs")
    damage(path)
    logs = open_logs(LogsConfig(data=path, fps=20.0))
    others = [each for each in logs.names if each != name]
    assert name in logs.names and len(others) == 2
    with pytest.raises(DatasetError, match=said):
        read_log(logs, name)
    for each in others:
        read_log(logs, each)


@pytest.mark.parametrize("template", ["data_path", "video_path"])
@pytest.mark.parametrize("leads", ["../{}", "/{}", "data/../../{}"])
def test_a_template_that_leads_out_of_the_dataset_is_refused(template, leads, tmp_path):
    path = FORMATS["lerobot v2.1"](tmp_path / "logs")
    info = json.loads((path / "meta/info.json").read_text())
    info[template] = leads.format(info[template])
    (path / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=r"outside the dataset|no recording of it holds an action"):
        logs = open_logs(LogsConfig(data=path))
        read_log(logs, logs.names[0])


@pytest.mark.parametrize(
    "change",
    [
        {"fps": 0}, {"fps": "20"}, {"fps": True}, {"features": None}, {"features": {"action": 3}}, {"data_path": 7},
        {"features": {}}, {"codebase_version": "v1.6"}, {"chunks_size": "many"}, {"data_path": "{nothing}"},
        {"data_path": "{episode_index.__class__}"}, {"video_path": None},
    ],
)  # fmt: skip
def test_metadata_that_make_no_sense_are_refused(change, tmp_path):
    path = FORMATS["lerobot v2.1"](tmp_path / "logs")
    info = json.loads((path / "meta/info.json").read_text()) | change
    (path / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError):
        logs = open_logs(LogsConfig(data=path))
        read_log(logs, logs.names[0])


def test_ingest_goes_on_past_what_is_damaged_and_says_so(tmp_path, capsys):
    path = FORMATS["lerobot v2.1"](tmp_path / "logs")
    edit_rows(path, nan_action)
    data = ingest(IngestConfig(data=path, out=tmp_path / "run"))
    assert "2 of 3 recordings" in capsys.readouterr().out
    refused = json.loads((data / "provenance.json").read_text())["source"]["refused"]
    assert len(refused) == 1 and "action of row 4" in refused[0]
    with pytest.raises(DatasetError, match=r"no recording of .* can be read"):
        for index in (0, 2):
            (path / f"data/chunk-000/episode_{index:06d}.parquet").unlink()
        ingest(IngestConfig(data=path, out=tmp_path / "none"))
    assert not (tmp_path / "none" / "data").exists()


def test_a_folder_whose_every_film_is_damaged_is_refused(tmp_path):
    (tmp_path / "push.mp4").write_bytes(b"no film")
    (tmp_path / "push.csv").write_text("action\n1\n")
    with pytest.raises(DatasetError, match=r"no film of camera main in .* can be opened"):
        open_logs(LogsConfig(data=tmp_path))


def test_the_folder_of_a_run_is_not_taken_for_its_dataset(tmp_path):
    data = ingest(IngestConfig(data=FORMATS["numpy"](tmp_path / "logs"), out=tmp_path / "run"))
    with pytest.raises(DatasetError, match=rf"is the folder of a run: give {data}"):
        open_logs(LogsConfig(data=tmp_path / "run"))
