"""The benchmark of instructions judges by what a frame shows: balls are found where MuJoCo has them."""

import numpy as np
import pytest

from procosm.benchmarks.dream.instruction import film, positions, reached, scores, table
from procosm.envs.truth.tabletop import INSTRUCTIONS, RADIUS_M


@pytest.fixture(scope="module")
def films():
    env = table()
    yield {text: list(film(env, 40 + i, text)) for i, text in enumerate(INSTRUCTIONS[::5])}
    env.close()


def test_balls_are_found_where_they_are(films):
    for frame, places in (each for video in films.values() for each in video):
        assert np.abs(positions(frame) - places).max() < RADIUS_M / 3


def test_the_goal_of_real_frames_is_the_one_that_was_done(films):
    for text, video in films.items():
        assert reached(video[0][0], video[-1][0]) == text
        assert reached(video[0][0], video[0][0]) == ""
    assert reached(np.full((32, 32, 3), 180, np.uint8), video[-1][0]) == ""  # no ball is seen


def test_shares_and_their_intervals():
    asked = ["a", "a", "b", "b"]
    own, other = scores(asked, ["a", "", "a", "b"])
    assert (own["value"], other["value"]) == (0.5, 0.25)
    # Wilson 1927, as Brown, Cai and DasGupta 2001 tabulate: 0 of 10 goes up to .278, 5 of 10 from .237 to .763.
    for reached_too, interval in ((0, (0.0, 0.278)), (5, (0.237, 0.763))):
        found = next(scores(["a"] * 10, ["a"] * reached_too + [""] * (10 - reached_too)))
        assert (found["low"], found["high"]) == pytest.approx(interval, abs=1e-3)
