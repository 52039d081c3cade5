"""The eight scenarios against the laws of physics, in closed form wherever there is one."""

import numpy as np
import pytest

from procosm.benchmarks.dream.physics.film import cameras, scene
from procosm.benchmarks.dream.physics.scenarios import SCENARIOS
from procosm.benchmarks.dream.physics.stage import GRAVITY, TIMESTEP_S
from procosm.envs.truth.backend import mujoco
from procosm.world_model.errors import TaskError

SEEDS = range(4)


def played(made, seconds, every_s=0.01):
    """Times, positions (t, k, 3), rotations (t, k, 3, 3) and total energies (t,) of a scene's objects."""
    made.model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    data = made.begin()
    times, places, turns, energies = [], [], [], []
    for _ in range(round(seconds / every_s) + 1):
        mujoco.mj_forward(made.model, data)
        times.append(data.time)
        places.append(data.xpos[made.objects].copy())
        turns.append(data.xmat[made.objects].reshape(-1, 3, 3).copy())
        energies.append(float(data.energy.sum()))
        mujoco.mj_step(made.model, data, round(every_s / TIMESTEP_S))
    return np.array(times), np.array(places), np.array(turns), np.array(energies)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_falls_freely_falls_by_half_g_t_squared(seed):
    made = scene("free fall", (0, seed))
    facts = made.facts
    lands = (facts["speed"] + np.sqrt(facts["speed"] ** 2 + 2 * GRAVITY * (facts["height"] - facts["half"]))) / GRAVITY
    times, places, _, energy = played(made, 2.0)
    flying = times < lands - 0.01
    expected = facts["height"] + facts["speed"] * times - GRAVITY * times**2 / 2
    np.testing.assert_allclose(places[flying, 0, 2], expected[flying], atol=1e-6)
    assert places[-1, 0, 2] == pytest.approx(facts["half"], abs=0.01)
    assert energy[-1] < energy[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_box_slides_at_g_times_sine_less_friction(seed):
    made = scene("tilted plane", (0, seed))
    theta = made.facts["tilt"]
    along = np.array([np.cos(theta), 0, -np.sin(theta)])
    for friction in (0.0, made.facts["friction"]):
        made.model.geom_friction[:, 0] = friction
        times, places, *_ = played(made, 0.3)
        acceleration = 2 * np.polyfit(times, (places[:, 0] - places[0, 0]) @ along, 2)[0]
        assert acceleration == pytest.approx(GRAVITY * (np.sin(theta) - friction * np.cos(theta)), rel=0.03, abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ball_rolls_to_the_other_side_without_gaining_energy(seed):
    made = scene("U-shaped slope", (0, seed))
    swing = made.facts["swing"]
    times, places, _, energy = played(made, 3.0)
    angle = np.arctan2(places[:, 0, 0], made.facts["centre_height"] - places[:, 0, 2])
    np.testing.assert_allclose(
        np.hypot(places[:, 0, 0], made.facts["centre_height"] - places[:, 0, 2]), swing, atol=0.01
    )
    mass = made.model.body_mass[made.objects[0]]
    climb = mass * GRAVITY * swing * (1 - np.cos(made.facts["angle"]))
    assert energy.max() < energy[0] + 0.01 * climb
    assert energy[times < 1.0].min() > energy[0] - 0.1 * climb
    # The pendulum of length 7/5 (R - r) (Goldstein: rolling without slipping), integrated from the same start.
    start, rate, first, step = angle[0], 0.0, None, 1e-4
    for i in range(30000):
        rate -= step * 5 / 7 * GRAVITY / swing * np.sin(start)
        start += step * rate
        if start * made.facts["side"] < 0:
            first = i * step
            break
    crossed = times[np.argmax(angle * made.facts["side"] < 0)]
    assert crossed == pytest.approx(first, rel=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_stable_stack_stands_and_the_unstable_one_falls_to_its_side(seed):
    _, places, _, _ = played(scene("stable stack", (0, seed)), 1.2)
    assert np.abs(places[-1] - places[0]).max() < 0.005
    made = scene("unstable stack", (0, seed))
    _, places, _, energy = played(made, 1.2)
    top = places[:, -1]
    assert top[-1, 2] < 0.6 * top[0, 2] and (top[-1, 0] - top[0, 0]) * made.facts["side"] > 0.2
    assert energy[-1] < energy[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_dominoes_fall_one_after_the_other(seed):
    made = scene("dominoes", (0, seed))
    times, _, turns, _ = played(made, 2.0)
    tilted = np.degrees(np.arccos(turns[:, :, 2, 2])) > 10
    assert tilted[-1].all()
    began = times[tilted.argmax(axis=0)]
    assert (np.diff(began) > 0).all()
    alone = scene("dominoes", (0, seed))
    alone.qvel[:] = 0
    _, _, turns, _ = played(alone, 1.0)
    assert np.degrees(np.arccos(turns[-1, :, 2, 2].clip(-1, 1))).max() < 0.5  # nobody falls unpushed


@pytest.mark.parametrize("seed", SEEDS)
def test_the_seesaw_tips_to_the_heavier_side_as_its_torque_says(seed):
    made = scene("seesaw", (0, seed))
    side, reach = made.facts["heavy_side"], made.facts["reach"]
    mass = made.model.body_mass[made.objects]
    times, places, turns, _ = played(made, 1.0)
    lean = np.arctan2(turns[:, 0, 0, 2], turns[:, 0, 0, 0])  # of the plank, about y
    assert lean[-1] * side > np.radians(10)
    # While the weights ride along: Σ m g x over the plank's inertia and theirs about the hinge.
    inertia = made.model.body_inertia[made.objects][0, 1]
    for i in (1, 2):
        arm = np.square(places[0, i] - places[0, 0]).sum()
        inertia += made.model.body_inertia[made.objects][i, 1] + mass[i] * arm
    expected = (mass[1] - mass[2]) * GRAVITY * reach / inertia
    early = times < 0.15
    found = 2 * np.polyfit(times[early], lean[early] * side, 2)[0]
    assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gyroscope_goes_round_at_m_g_r_over_i_omega(seed):
    made = scene("gyroscope", (0, seed))
    times, _, turns, energy = played(made, 1.0)
    axle = turns[:, 0, :, 0]
    heading = np.unwrap(np.arctan2(axle[:, 1], axle[:, 0]))
    assert np.polyfit(times, heading, 1)[0] == pytest.approx(made.facts["precession"], rel=0.02)
    assert np.degrees(np.abs(np.arcsin(axle[:, 2]))).max() < 3  # it does not fall
    assert np.ptp(energy) < 0.01 * np.abs(energy).max()
    still = scene("gyroscope", (0, seed))
    still.qvel[:] = 0
    assert played(still, 0.6)[2][-1, 0, 2, 0] < -0.5  # without its spin it does


@pytest.mark.parametrize("name", SCENARIOS)
def test_parameters_and_colours_come_from_the_seed(name):
    first, same, other = (scene(name, (0, seed)) for seed in (1, 1, 2))
    assert first.facts == same.facts != other.facts
    np.testing.assert_array_equal(first.model.geom_rgba, same.model.geom_rgba)
    classes = first.classes()
    coloured = classes[first.model.body_geomadr[first.objects]]
    assert (coloured > 0).all() and len(set(coloured)) == len(coloured) == (classes > 0).sum()


@pytest.mark.parametrize("name", SCENARIOS)
def test_four_cameras_hold_the_scene_in_view(name):
    made = scene(name, (0, 0))
    low, high = np.array(SCENARIOS[name].low), np.array(SCENARIOS[name].high)
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(8, 3)
    data = made.begin()
    eyes = cameras(SCENARIOS[name])
    assert len({(eye.azimuth, eye.elevation) for eye in eyes}) == 4
    for eye in eyes:
        pose = eye.pose(made.model, data)
        right = np.cross(pose.forward, pose.up)
        apart = corners - pose.position
        across = apart @ right / (apart @ pose.forward) / pose.tan_width
        up = apart @ pose.up / (apart @ pose.forward) / pose.tan_height
        assert max(np.abs(across).max(), np.abs(up).max()) < 1
        assert max(np.abs(across).max(), np.abs(up).max()) > 0.8


def test_an_unknown_scenario_is_an_error_that_names_those_there_are():
    with pytest.raises(TaskError, match=r"'falling cat'.*free fall.*gyroscope"):
        scene("falling cat", (0,))
