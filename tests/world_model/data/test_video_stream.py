from pathlib import Path

import av
import numpy as np
import pytest

from procosm.world_model.data.video_stream import LOSSLESS, encode_part, frames_of, join_parts, probe
from procosm.world_model.errors import DatasetError


def film(frames: int, height: int = 20, width: int = 24) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), np.uint8)


@pytest.mark.parametrize("dt_s", [0.04, 1001 / 30000, 0.5])
@pytest.mark.parametrize("quality", [LOSSLESS, 23])
def test_parts_become_one_film_with_every_frame_at_its_time(dt_s, quality, tmp_path):
    parts, paths = [film(9), film(1), film(4)], []
    for index, part in enumerate(parts):
        paths.append(tmp_path / f"{index}.mp4")
        paths[-1].write_bytes(encode_part(part, dt_s, quality))
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(join_parts(paths))
    expected = np.stack([frame for path in paths for frame in frames_of(path)])
    found = np.stack(list(frames_of(whole)))
    np.testing.assert_array_equal(found, expected)
    if quality == LOSSLESS:
        np.testing.assert_array_equal(found, np.concatenate(parts))
    with av.open(str(whole)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, dt_s * np.arange(14), atol=1e-4)
    about = probe(whole)
    assert (about.frames, about.height, about.width) == (14, 20, 24) and about.dt_s == pytest.approx(dt_s, rel=1e-6)


def test_odd_sides_are_kept(tmp_path):
    path = tmp_path / "odd.mp4"
    path.write_bytes(encode_part(film(3, 17, 21), 0.04, 10))
    assert [frame.shape for frame in frames_of(path)] == 3 * [(17, 21, 3)]


def test_what_is_no_video_is_named(tmp_path):
    whole = encode_part(film(9), 0.04, LOSSLESS)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        container.add_stream("pcm_s16le", rate=8000)
    for name, content in (("text.mp4", b"no video"), ("cut.mp4", whole[: len(whole) // 2]), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(content)
    for path in (tmp_path / "none.mp4", tmp_path / "text.mp4", tmp_path / "cut.mp4", tmp_path / "empty.mp4", sound):
        for read in (probe, lambda path: list(frames_of(path)), lambda path: join_parts([path])):
            with pytest.raises(DatasetError, match=path.name):
                read(Path(path))
