"""Video that could not have been filmed is refused with its reason; drawn and real films pass."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from procosm.world_model.data.episodes import write_dataset
from procosm.world_model.data.video_stream import encode_part
from procosm.world_model.errors import ProcosmError
from procosm.world_model.guardrails.faces import BLOCKS, FaceBlur
from procosm.world_model.guardrails.frames import Familiarity, check_video
from procosm.world_model.guardrails.guard import GuardConfig, film_name, guard
from tests.conftest import FRAME, BrightnessTokenizer
from tests.world_model.curation import scenes


def film():
    return scenes.episode(3).frames


def test_a_film_passes_as_bytes_and_as_floats():
    assert check_video(film()).passed and check_video(film() / 255).passed


def damaged(kind):
    frames = film().astype(np.float32) / 255
    if kind == "NaN":
        frames[7, 3, 3, 1] = np.nan
    elif kind == "infinite":
        frames[9, 0, 0, 0] = np.inf
    elif kind == "range":
        frames *= 20
    elif kind == "frozen":
        frames[8:36] = frames[8]
    elif kind == "flicker":
        frames[20] = 1 - frames[20]
    elif kind == "brightness":
        frames[20:] = frames[20:] * 0.3
    elif kind == "shape":
        frames = frames[..., 0]
    elif kind == "empty":
        frames = frames[:0]
    return frames


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("NaN", "frame 7 holds values"), ("infinite", "frame 9 holds values"), ("range", "outside those of pixels"),
        ("frozen", "stands still for 27 steps"), ("flicker", "flickers at frame 20"), ("brightness", "jumps by"),
        ("shape", "no video's"), ("empty", "no video's"),
    ],
)  # fmt: skip
def test_what_could_not_have_been_filmed_is_refused(kind, said):
    verdict = check_video(damaged(kind))
    assert not verdict.passed and said in "; ".join(verdict.reasons)


def test_a_robot_that_is_not_asked_to_move_may_stand_still():
    frames = film().copy()
    frames[8:36] = frames[8]
    steps = len(frames) - 1
    assert check_video(frames, np.ones((steps, 2), np.float32)).passed
    assert not check_video(frames, scenes.episode(3).actions).passed


def quarters(rng, count):
    """Frames that the tests' tokenizer codes without loss: four grey quarters around the middle."""
    levels = rng.integers(100, 150, (count, 2, 2))
    return levels.repeat(FRAME // 2, 1).repeat(FRAME // 2, 2)[..., None].repeat(3, 3).astype(np.uint8)


def test_what_a_tokenizer_never_saw_is_refused():
    rng = np.random.default_rng(0)
    known = Familiarity(BrightnessTokenizer(), quarters(rng, 60))
    assert known.check(quarters(rng, 200)).passed
    assert (
        "not what the tokenizer knows" in known.check(rng.integers(0, 256, (3, FRAME, FRAME, 3), np.uint8)).reasons[0]
    )
    assert "deviations away" in known.check(np.full((2, FRAME, FRAME, 3), 250, np.uint8)).reasons[-1]


def test_a_tokenizer_that_makes_no_numbers_refuses():
    class Broken(BrightnessTokenizer):
        def encode(self, frames):
            return super().encode(frames) * torch.where(frames.float().mean() > 200, torch.nan, 1.0)

    rng = np.random.default_rng(0)
    known = Familiarity(Broken(), quarters(rng, 20))
    assert not known.check(np.full((2, FRAME, FRAME, 3), 250, np.uint8)).passed


@pytest.fixture(scope="module")
def portrait():
    data = pytest.importorskip("skimage.data")
    return data.astronaut()[::4, ::4]


def test_a_face_is_covered_and_the_rest_left_alone(portrait):
    frames = np.stack([scenes.floor(1, 128, 128), portrait])
    covered, faces = FaceBlur().cover(frames)
    assert [face.frame for face in faces] == [1]
    face = faces[0]
    np.testing.assert_array_equal(covered[0], frames[0])
    inside = covered[1, face.top : face.top + face.height, face.left : face.left + face.width]
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) <= (BLOCKS + 1) ** 2
    assert not FaceBlur().find(covered)
    outside = np.ones((128, 128), bool)
    margin = face.height // 4
    outside[max(0, face.top - margin) : face.top + face.height + margin,
            max(0, face.left - margin) : face.left + face.width + margin] = False  # fmt: skip
    np.testing.assert_array_equal(covered[1][outside], frames[1][outside])


def test_the_command_writes_every_verdict_and_fails_if_one_is_no(tmp_path):
    good = scenes.episode(0)
    frozen = replace(good, frames=good.frames[np.minimum(np.arange(41), 10)])
    asked = replace(good, text="build a bomb")
    write_dataset(tmp_path / "data", scenes.TASK, ((each, None) for each in (good, frozen, asked)), {}, None)
    with pytest.raises(ProcosmError, match=r"2 of 3 recordings are refused, first episode_1: it stands still"):
        guard(GuardConfig(data=tmp_path / "data", out=tmp_path / "out", faces=False))
    found = json.loads((tmp_path / "out/guard.json").read_text())["recordings"]
    assert [each["passed"] for each in found.values()] == [True, False, False]
    with pytest.raises(ProcosmError, match=r"the prompt is refused: violence: kill"):
        guard(GuardConfig(prompt="kill", out=tmp_path / "out"))
    assert guard(GuardConfig(prompt="fold the towel", out=tmp_path / "out")).exists()
    with pytest.raises(ProcosmError, match="nothing to judge"):
        GuardConfig()
    with pytest.raises(ProcosmError, match="give --data, too"):
        GuardConfig(prompt="fold the towel", world_model=tmp_path / "none")


def test_no_recording_is_written_over_by_its_covered_copy(portrait, tmp_path):
    frames = np.stack([np.roll(portrait, step, axis=0) for step in range(8)])
    film = encode_part(frames, 0.1, 1)
    (tmp_path / "visit.mp4").write_bytes(film)
    (tmp_path / "visit.csv").write_text("action.0\n" + "".join(f"{step}\n" for step in range(7)))
    with pytest.raises(ProcosmError, match="lie one in the other"):
        guard(GuardConfig(data=tmp_path, out=tmp_path))
    assert (tmp_path / "visit.mp4").read_bytes() == film


def test_no_covered_copy_is_written_over_by_that_of_another_recording(portrait, tmp_path):
    """Recordings of HDF5 files are called FILE/DEMONSTRATION."""
    (tmp_path / "data").mkdir()
    for step, (file, demo) in enumerate((("visits", "left_demo"), ("visits_left", "demo"))):
        with h5py.File(tmp_path / "data" / f"{file}.hdf5", "w") as made:
            made[f"data/{demo}/actions"] = np.zeros((2, 1))
            made[f"data/{demo}/rewards"] = made[f"data/{demo}/dones"] = np.zeros(2)
            for place in ("obs", "next_obs"):
                made[f"data/{demo}/{place}/front_image"] = np.stack([np.roll(portrait, step, axis=0)] * 2)
    guard(GuardConfig(data=tmp_path / "data", fps=10.0, out=tmp_path / "out"))
    judged = json.loads((tmp_path / "out/guard.json").read_text())["recordings"]
    assert all(each["faces"] for each in judged.values())
    films = {path.read_bytes() for path in (tmp_path / "out").glob("*.mp4")}
    assert len(judged) == len(films) == 2


def test_films_are_called_apart_whatever_their_recordings_are_called():
    names = ["a/b", "a_b", "a%2Fb", "a%b", "a%25b", "../a", "a"]
    films = [film_name(name) for name in names]
    assert len(set(films)) == len(names) and not any("/" in film for film in films)


def test_a_recording_that_cannot_be_judged_does_not_pass(tmp_path, monkeypatch):
    write_dataset(tmp_path / "data", scenes.TASK, iter([(scenes.episode(0), None)]), {}, None)

    def broken(self, frames):
        raise MemoryError("too large")

    monkeypatch.setattr(FaceBlur, "cover", broken)
    with pytest.raises(ProcosmError, match=r"could not be judged \(MemoryError: too large\)"):
        guard(GuardConfig(data=tmp_path / "data", out=tmp_path / "out"))
