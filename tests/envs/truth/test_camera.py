"""Cameras: where things land in the picture, and whether tasks nobody chose a view for can be seen."""

import json

import mujoco
import numpy as np
import pytest

from procosm.envs.collect.collect import CollectConfig, _assembled, _check_motion, plan
from procosm.envs.truth import probe as probe_module
from procosm.envs.truth.camera import Camera, axes, choose_camera
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.raycast import RaycastRenderer
from procosm.envs.truth.render import GLRenderer, floor_period
from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import DatasetError, TaskError
from tests.envs import own_tasks

CAMERA = Camera((0.3, -0.2, 0.5), 60.0, -25.0, 4.0, 2.4, 1.3, "", "", 0.0)
RENDERERS = [GLRenderer, RaycastRenderer]


@pytest.mark.parametrize("kind", RENDERERS)
@pytest.mark.parametrize(("across", "up"), [(0.0, 0.0), (0.7, 0.3), (-0.8, -0.4)])
def test_a_ball_lands_where_the_pinhole_formula_says(kind, across, up):
    _, right, above = axes(CAMERA.azimuth, CAMERA.elevation)
    place = np.array(CAMERA.lookat) + across * right + up * above
    text = " ".join(str(value) for value in place)
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody><geom type='sphere' size='.05' pos='{text}'/></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    image = kind(model, 128, 128, CAMERA).draw(data, CAMERA.pose(model, data)).sum(axis=-1).astype(float)
    rows, columns = np.indices(image.shape) + 0.5
    centre = np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()
    # The ball is in the plane through the point looked at, so width and height there are the picture's edges.
    expected = 128 * np.array([0.5 + across / CAMERA.width, 0.5 - up / CAMERA.height])
    np.testing.assert_allclose(centre, expected, atol=0.6)
    radius = 128 * 0.05 / np.array([CAMERA.width, CAMERA.height])
    assert (image > 0).sum() == pytest.approx(np.pi * radius.prod(), rel=0.35)


@pytest.mark.parametrize(
    ("task", "azimuth", "elevation", "follow"),
    [
        ("InvertedPendulum-v5", 90.0, 0.0, ""),
        ("Reacher-v5", 90.0, -90.0, ""),
        ("HalfCheetah-v5", 90.0, -12.0, "x"),
        ("Swimmer-v5", 90.0, -90.0, "xy"),
        ("Ant-v5", 90.0, -35.0, "xy"),
        ("Pusher-v5", 90.0, -60.0, ""),
    ],
)
def test_the_plane_of_motion_gives_the_direction_and_a_free_root_is_followed(task, azimuth, elevation, follow):
    camera = choose_camera(task)
    assert (camera.azimuth, camera.elevation, camera.follow) == (azimuth, elevation, follow)


@pytest.mark.parametrize(
    "task",
    ["InvertedPendulum-v5", "Reacher-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "InvertedDoublePendulum-v5"],
)
def test_bodies_stay_in_view_and_fill_it_in_episodes_the_camera_was_not_chosen_from(task):
    env = MujocoEnv(task, observation="state")
    model, data = env.simulator.model, env.simulator.data
    camera = Camera.from_json(env.twin.cameras["main"])
    _, right, above = axes(camera.azimuth, camera.elevation)
    rng = np.random.default_rng(77)
    inside, extent = [], np.zeros(2)
    for seed in range(5):
        env.reset(seed=500 + seed)
        for _ in range(15):
            _, _, terminated, *_ = env.step(0.5 * rng.uniform(env.action_space.low, env.action_space.high))
            if terminated:
                break
            pose = camera.pose(model, data)
            offset = data.xipos[1:] - pose.position
            depth = offset @ pose.forward
            places = np.stack([offset @ right / pose.tan_width, offset @ above / pose.tan_height], -1) / depth[:, None]
            inside.append(np.abs(places).max() < 1)
            extent = np.maximum(extent, np.ptp(places, axis=0) / 2)
    assert np.mean(inside) > 0.97
    # Centres of mass, so a robot whose outline fills the picture spans less: the pendulum's pole counts half.
    assert extent.max() > 0.25


def test_a_driven_rail_is_seen_to_both_ends():
    env = MujocoEnv("InvertedPendulum-v5")
    env.reset(seed=0)
    for end in (-1.0, 1.0):
        physics = env.physics()
        physics[1] = 0.97 * end
        frame, _ = env.reset(options={"physics": physics})
        columns = np.flatnonzero((frame[..., 0] > 120) & (frame[..., 2] < 60)) % 64
        assert len(columns) and np.abs(columns.mean() - (31.5 + 30.5 * end)) < 4


def test_what_hangs_free_is_seen_all_the_way_round():
    pytest.importorskip("dm_control")
    camera = choose_camera("dm_control/cartpole-swingup")
    top = camera.lookat[2] + 0.5 * camera.height
    # The pole is 1 m long and turns about a cart 1 m up.
    assert top > 2.0 and camera.lookat[2] - 0.5 * camera.height < 0.0


def test_a_followed_robot_stays_in_place_while_the_floor_moves_under_it():
    env = MujocoEnv("HalfCheetah-v5")
    start, info = env.reset(seed=0)
    model = env.simulator.model
    floor = int(np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE))[0])
    material = int(model.geom_matid[floor])
    period = floor_period(
        np.array(model.geom_size[floor]), np.array(model.mat_texrepeat[material]), bool(model.mat_texuniform[material])
    )[0]

    def moved(metres: float) -> np.ndarray:
        physics = info["physics"].copy()
        physics[1] += metres
        return env.reset(options={"physics": physics})[0].astype(int)

    same = np.abs(moved(period) - start)
    assert (same.max(axis=-1) > 8).mean() < 0.01
    # Half a period along, dark tiles are light; the robot is where it was.
    other = np.abs(moved(0.5 * period) - start).max(axis=-1) > 60
    assert other[-12:].mean() > 0.3 and other[:30].mean() < 0.01
    # Far beyond the floor's own 40 m it is still there.
    assert (np.abs(moved(1000 * period) - start).max(axis=-1) > 8).mean() < 0.01


def test_the_choice_repeats_and_survives_json():
    camera = choose_camera("Hopper-v5")
    probe_module._probe.cache_clear()
    assert choose_camera("Hopper-v5") == camera
    assert Camera.from_json(json.loads(json.dumps(camera.to_json()))) == camera


@pytest.mark.parametrize("values", [{}, {"lookat": [0, 0, 0]}, {**CAMERA.to_json(), "fovy": 45}])
def test_other_json_is_no_camera(values):
    with pytest.raises(TaskError, match="no camera"):
        Camera.from_json(values)


def test_a_camera_of_another_robot_is_refused():
    env = MujocoEnv("Reacher-v5", camera={**CAMERA.to_json(), "body": "tail", "follow": "x"})
    with pytest.raises(TaskError, match="tail"):
        env.reset(seed=0)


AWAY = {**CAMERA.to_json(), "lookat": [0.0, 0.0, 900.0], "elevation": 60.0}
INSIDE = {**CAMERA.to_json(), "lookat": [0.0, 0.0, -0.01], "elevation": -90.0, "distance": 0.01}
INSIDE |= {"width": 0.01, "height": 0.01}
HIDDEN = own_tasks.ARM.replace('size=".05"', 'size=".05" group="4"').replace("0 0 2", "0 0 1")


@pytest.mark.parametrize(
    ("camera", "renderer"),
    [(AWAY, "auto"), (AWAY, "raycast"), (INSIDE, "auto")],  # rays meet a surface from inside as well
    ids=["away", "away, rays", "inside the arm"],
)
def test_a_camera_that_sees_nothing_is_refused_by_the_tasks_name(camera, renderer):
    env = MujocoEnv(f"{own_tasks.HERE}:Told-v0", camera=camera, renderer=renderer)
    with pytest.raises(TaskError, match="Told-v0"):
        _check_motion(env)


def test_a_task_of_which_nothing_can_be_seen_is_refused():
    with pytest.raises(TaskError, match="nothing that a picture shows moves"):
        MujocoEnv(f"{own_tasks.HERE}:Told-v0", env_kwargs={"xml": HIDDEN})


def test_actuators_without_limits_do_not_fling_a_task_out_of_sight():
    pytest.importorskip("dm_control")
    env = MujocoEnv("dm_control/lqr-lqr_2_1")
    assert env.action_space.high.tolist() == [1.0] and env.twin.cameras["main"]["distance"] < 100
    assert env.reset(seed=0)[0].std() > 5
    _check_motion(env)


def test_a_camera_of_the_model_sees_what_mujocos_own_renderer_sees_through_it():
    name = f"{own_tasks.HERE}:Told-v0"
    env = MujocoEnv(name, camera="hand", frame_size=64)  # it rides on the arm
    env.reset(seed=0)
    for _ in range(3):
        frame = env.step(env.action_space.high)[0]
    with mujoco.Renderer(env.simulator.model, 64, 64) as renderer:
        renderer.update_scene(env.simulator.data, camera="hand")
        theirs = renderer.render()
    ours, true = (np.ptp(picture.astype(int), axis=-1) > 35 for picture in (frame, theirs))
    assert true.sum() > 50 and (ours & true).sum() / (ours | true).sum() > 0.8
    assert env.twin.cameras == {"main": {"name": "hand"}} and MujocoEnv.from_task(env.task).task == env.task
    with pytest.raises(TaskError, match="it has above, wrong way, hand"):
        MujocoEnv(name, camera="nobody")
    with pytest.raises(TaskError, match="sees nothing"):
        MujocoEnv(name, camera="wrong way").reset(seed=0)


def test_a_pose_of_four_values_is_a_camera():
    pose = {"lookat": [0.0, 0.0, 0.0], "azimuth": 90, "elevation": -90, "distance": 2.0}
    camera = Camera.from_json(pose)
    assert camera.width == camera.height == pytest.approx(2 * 2 * np.tan(np.radians(22.5)), abs=1e-3)
    for wrong in ({"distance": 0}, {"lookat": [0, 0]}, {"azimuth": np.nan}, {"follow": "w"}, {"width": "wide"}):
        with pytest.raises(TaskError, match="no camera"):
            Camera.from_json({**pose, **wrong})


def test_a_dataset_of_one_value_never_passes(tmp_path, monkeypatch):
    job = plan(CollectConfig("Reacher", tmp_path, steps=100, frame_size=32))
    blank = Episode(np.full((3, 32, 32, 3), 7, np.uint8), np.zeros((2, 2), np.float32), False, "train")
    monkeypatch.setattr("procosm.envs.collect.collect.read_part", lambda *_: iter([(blank, None)]))
    with pytest.raises(DatasetError, match="7 all over"):
        list(_assembled(tmp_path, job))
