"""Films: what is drawn comes back from the mp4."""

import av
import numpy as np

from procosm.envs.films import BAND, SCALE, difference, panel, write_mp4


def test_frames_stand_side_by_side_enlarged_below_their_labels():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    page = panel(frames, ("left", "right"))
    assert page.shape == (8 * SCALE + BAND, 16 * SCALE, 3)
    assert (page[BAND::SCALE, : 8 * SCALE : SCALE] == frames[0]).all()
    assert (page[BAND + SCALE - 1 :: SCALE, 8 * SCALE :: SCALE] == frames[1]).all()
    assert page[:BAND].max() > 200  # something is written


def test_difference_is_symmetric_and_does_not_wrap_around():
    dark, bright = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 250, np.uint8)
    assert (difference(dark, bright) == 240).all() and (difference(bright, dark) == 240).all()


def test_an_mp4_holds_every_picture_in_order_at_the_right_pace(tmp_path):
    greys = np.linspace(20, 230, 12).astype(np.uint8)
    pictures = [np.full((36, 64, 3), grey, np.uint8) for grey in greys]
    with av.open(write_mp4(tmp_path / "film.mp4", pictures, 10)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 10
        shown = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
    np.testing.assert_allclose(shown, greys, atol=4)  # limited range and quantisation of 8-bit YUV
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
