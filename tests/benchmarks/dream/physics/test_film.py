"""Films: masks by OpenGL against masks by rays, states against masks, the seed against itself."""

import numpy as np
import pytest

from procosm.benchmarks.dream.physics import film as filming
from procosm.benchmarks.dream.physics.film import FRAME_SIZE, cameras, film, scene
from procosm.benchmarks.dream.physics.scenarios import SCENARIOS
from procosm.benchmarks.dream.physics.stage import PALETTE
from procosm.envs.truth.raycast import RaycastRenderer


@pytest.mark.parametrize("name", SCENARIOS)
def test_masks_are_where_rays_hit_and_colours_show(name):
    taken = film(name, (0, 3), frames=1, masks=True)
    made = scene(name, (0, 3))
    data, of_geom = made.begin(), np.append(made.classes(), 0)
    for view, camera in enumerate(cameras(SCENARIOS[name])):
        rays = RaycastRenderer(made.model, FRAME_SIZE, FRAME_SIZE, camera).geoms(data, camera.pose(made.model, data))
        hit = of_geom[rays].reshape(FRAME_SIZE, 2, FRAME_SIZE, 2)[:, 0, :, 0]
        seen, frame = taken.classes[view, 0], taken.frames[view, 0] / 255
        for colour in set(of_geom) - {0}:
            both, either = ((seen == colour) & (hit == colour)).sum(), ((seen == colour) | (hit == colour)).sum()
            assert seen[seen == colour].size > 8, "an object is hidden, or too small to see"
            assert both / either > 0.6  # a sample at the corner of each pixel, against the vote of four
            tint = frame[seen == colour].mean(axis=0)
            likeness = [np.corrcoef(tint, other)[0, 1] for other in PALETTE]
            assert int(np.argmax(likeness)) == colour - 1


def test_states_say_where_the_camera_sees_an_object():
    taken = film("U-shaped slope", (0, 1), frames=40, masks=True)
    places = taken.states.reshape(4, 40, len(PALETTE), 4)
    for view in (0, 3):
        for t in (0, 20, 39):
            colour = taken.classes[view, t].max()
            middle = (places[view, t, colour - 1, :2] + 1) * FRAME_SIZE / 2
            rows, columns = np.nonzero(taken.classes[view, t] == colour)
            assert np.hypot(columns.mean() + 0.5 - middle[0], rows.mean() + 0.5 - middle[1]) < 1.5
            others = np.delete(places[view, t], colour - 1, axis=0)
            assert not others.any()


def test_a_film_is_the_same_every_time_and_moves():
    first, again = film("seesaw", (2, 5), frames=15), film("seesaw", (2, 5), frames=15)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.physics, again.physics)
    assert (first.frames[:, 0] != first.frames[:, -1]).any(axis=(1, 2, 3)).all()
    assert first.frames.shape == (4, 15, FRAME_SIZE, FRAME_SIZE, 3)
    assert first.states.shape == (4, 15, filming.STATE_SIZE) and first.states.dtype == np.float32
