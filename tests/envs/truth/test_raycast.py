"""Frames without OpenGL: the same picture as OpenGL's, by other means, and a way to them on a bare machine."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from procosm.envs.truth import backend
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.errors import TaskError


@pytest.mark.parametrize("task", ["InvertedPendulum-v5", "HalfCheetah-v5", "Reacher-v5"])
def test_both_renderers_draw_the_robot_in_the_same_place(task):
    pictures = []
    for renderer in (backend.RENDERER, "raycast"):
        env = MujocoEnv(task, renderer=renderer)
        env.reset(seed=0)
        for _ in range(3):
            frame = env.step(0.5 * env.action_space.high)[0]
        pictures.append(frame.astype(float))
    colour = [np.ptp(picture, axis=-1) > 35 for picture in pictures]
    assert colour[0].sum() > 20
    both, either = (colour[0] & colour[1]).sum(), (colour[0] | colour[1]).sum()
    assert both / either > 0.7
    centres = [np.argwhere(mask).mean(axis=0) for mask in colour]
    np.testing.assert_allclose(centres[0], centres[1], atol=0.7)


def test_frames_are_repeatable_and_small_things_have_soft_edges():
    env = MujocoEnv("Reacher-v5", renderer="raycast")
    first = env.reset(seed=1)[0]
    np.testing.assert_array_equal(env.reset(seed=1)[0], first)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 20


def test_a_process_without_opengl_makes_the_same_ray_cast_frames():
    code = (
        "import hashlib; from procosm.envs.truth.mujoco import MujocoEnv; env = MujocoEnv('Reacher-v5');"
        "print(env.twin.renderer, hashlib.sha256(env.reset(seed=1)[0].tobytes()).hexdigest())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_GL": "disable"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = MujocoEnv("Reacher-v5", renderer="raycast").reset(seed=1)[0]
    assert run.stdout.split() == ["raycast", hashlib.sha256(here.tobytes()).hexdigest()]


def test_without_libraries_rays_are_cast_and_one_line_says_what_to_install(monkeypatch, caplog):
    monkeypatch.setattr(backend, "RENDERERS", MISSING)
    assert backend._choose({}) == ("raycast", "")
    assert len(caplog.records) == 1 and "apt-get install libegl1 libgl1" in caplog.text


MISSING = {"egl": ("libNoSuchEGL.so.1",), "osmesa": ("libNoSuchMesa.so.8",), "raycast": ()}
THERE = {"egl": (), "osmesa": (), "raycast": ()}


@pytest.mark.parametrize(
    ("environment", "renderer"),
    [
        ({}, "egl"),
        ({"MUJOCO_GL": "", "PYOPENGL_PLATFORM": ""}, "egl"),
        ({"MUJOCO_GL": "1"}, "egl"),
        ({"MUJOCO_GL": " OSMesa "}, "osmesa"),
        ({"PYOPENGL_PLATFORM": "osmesa"}, "osmesa"),
        ({"MUJOCO_GL": "on", "PYOPENGL_PLATFORM": "osmesa"}, "osmesa"),
        ({"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "EGL"}, "egl"),
        ({"MUJOCO_GL": "off", "PYOPENGL_PLATFORM": "x11"}, "raycast"),
        ({"MUJOCO_GL": "raycast"}, "raycast"),
    ],
)
def test_a_choice_of_the_user_is_kept(environment, renderer, monkeypatch):
    monkeypatch.setattr(backend, "RENDERERS", THERE)
    assert backend._choose(environment) == (renderer, "")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"MUJOCO_GL": "egl"}, "apt-get install libegl1 libgl1, or unset MUJOCO_GL"),
        ({"MUJOCO_GL": "osmesa"}, "apt-get install libosmesa6, or unset MUJOCO_GL"),
        ({"PYOPENGL_PLATFORM": "osmesa"}, "apt-get install libosmesa6, or unset PYOPENGL_PLATFORM"),
        ({"MUJOCO_GL": "1"}, "unset MUJOCO_GL"),
        ({"MUJOCO_GL": "glfw"}, "unset MUJOCO_GL"),
        ({"MUJOCO_GL": "nonsense"}, "unset MUJOCO_GL"),
        ({"PYOPENGL_PLATFORM": "x11"}, "unset PYOPENGL_PLATFORM"),
        ({"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "osmesa"}, "unset one"),
    ],
)
def test_a_choice_that_cannot_draw_is_one_error_and_no_other_renderer_takes_its_place(environment, says, monkeypatch):
    monkeypatch.setattr(backend, "RENDERERS", MISSING)
    monkeypatch.setattr(backend, "BROKEN", backend._choose(environment)[1])
    for wanted in ("auto", "egl", "osmesa"):
        with pytest.raises(TaskError, match=says):
            backend.resolve(wanted)
    assert backend.resolve("raycast") == "raycast"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MUJOCO_GL", "glfw"), ("MUJOCO_GL", "1"), ("PYOPENGL_PLATFORM", "x11")],
)
def test_variables_of_the_user_stay_as_they_are(variable, value):
    code = (
        "import os; from procosm.envs.truth.mujoco import MujocoEnv\n"
        "try:\n    print(MujocoEnv('Reacher-v5').twin.renderer)\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
        f"print(os.environ.get({variable!r}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**bare_environment(), variable: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [first_found() if value == "1" else "TaskError", value]


def bare_environment() -> dict[str, str]:
    """This process's environment as it was before a renderer was chosen."""
    return {key: text for key, text in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}


def first_found() -> str:
    """What is chosen where nothing was asked for."""
    return next(name for name in backend.RENDERERS if backend._installed(name))


def test_mujoco_imported_first_draws_all_the_same():
    code = (
        "import mujoco; from procosm.envs.truth import backend; from procosm.envs.truth.mujoco import MujocoEnv;"
        "print(backend.RENDERER, MujocoEnv('Reacher-v5').reset(seed=0)[0].std() > 5)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=bare_environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [first_found(), "True"]


def test_pixels_of_another_renderer_are_refused():
    other = next(name for name in ("egl", "osmesa") if name != backend.RENDERER)
    with pytest.raises(TaskError, match=f"MUJOCO_GL={other}"):
        MujocoEnv("Reacher-v5", renderer=other)
