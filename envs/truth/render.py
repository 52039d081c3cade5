"""OpenGL frames of a MuJoCo scene, fast on a CPU and exact when many environments take turns.

Frames are drawn at twice their size and averaged 2 × 2, because things a few pixels wide (Reacher's fingertip) must
keep their exact place; from version 2 on each of the four is multisampled, for a cart that creeps by a tenth of a pixel
must be seen to move at every step, or a dream learns a friction that the task does not have. One light stands at the
eye, whatever lights the task has: its colours are then the same from everywhere, and a picture is bright. Shadows,
reflections, sky and haze are off and curved surfaces are coarse: on a CPU they cost more than everything else and carry
nothing a task needs. All of this is part of the pixels, so what a change here makes of them is a version of its own.
"""

import atexit
import contextlib
import os
import weakref
from collections.abc import Iterator

import numpy as np

from procosm.envs.truth.backend import GL_ADVICE, RENDERER, mujoco
from procosm.envs.truth.camera import Camera, Pose, axes
from procosm.envs.truth.model_camera import ModelCamera
from procosm.world_model.errors import TaskError

OVERSAMPLE = 2
MULTISAMPLES = {1: 0, 2: 4}
"""Samples of OpenGL's own for each drawn pixel, by version of the frames."""
VERSION = max(MULTISAMPLES)
"""Version of the frames made for new data; those of older data and checkpoints can be made as well."""
AMBIENT, DIFFUSE = 0.45, 0.6
_OFF = ("SHADOW", "REFLECTION", "SKYBOX", "HAZE", "FOG")


class _Renderer(mujoco.Renderer):
    """Frees its own OpenGL objects and nobody else's: their names mean other objects in other contexts."""

    def close(self) -> None:
        if _forked:  # OpenGL's own threads were left behind in the parent: any call would wait for them for ever
            self._gl_context = self._mjr_context = None
        if self._gl_context:
            self._gl_context.make_current()
        super().close()

    def release(self) -> None:
        """Let go of the context, so that another thread can draw next."""
        if RENDERER == "egl":
            from mujoco import egl

            egl.EGL.eglMakeCurrent(
                egl.EGL_DISPLAY, egl.EGL.EGL_NO_SURFACE, egl.EGL.EGL_NO_SURFACE, egl.EGL.EGL_NO_CONTEXT
            )


_open: "weakref.WeakSet[_Renderer]" = weakref.WeakSet()


_used = _forked = False
"""Whether OpenGL was used in this process, and in one that it was forked from."""


def _begin_child() -> None:
    global _forked
    _forked = _forked or _used


os.register_at_fork(after_in_child=_begin_child)


def _check_not_forked() -> None:
    if _forked:
        raise TaskError(
            "this process was forked from one that had drawn with OpenGL, which does not survive that: start it with "
            'spawn or forkserver, as gym.make_vec(..., vector_kwargs={"context": "forkserver"}) does, or fork '
            "before anything is drawn"
        )


def _close_all() -> None:
    for renderer in list(_open):
        renderer.close()


def _open_renderer(model: mujoco.MjModel, height: int, width: int) -> _Renderer:
    _check_not_forked()
    global _used
    from OpenGL.error import Error

    _used = True
    try:
        return _Renderer(model, height, width)
    except (ImportError, RuntimeError, ValueError, AttributeError, mujoco.FatalError, Error) as error:
        raise TaskError(
            f"OpenGL by {RENDERER} is installed but cannot draw here ({error}). Unset MUJOCO_EGL_DEVICE_ID if it is "
            f"set, import procosm before OpenGL, or set MUJOCO_GL=disable to cast rays instead; {GL_ADVICE}"
        ) from error


class GLRenderer:
    """Draws one model with an OpenGL context of its own.

    Args:
        model: the MuJoCo model; its visual quality is set to the fast settings, its physics is left alone.
        height, width: of a frame, pixels.
        camera: whose poses :meth:`draw` will be given.
        version: of the frames, a key of ``MULTISAMPLES``.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        height: int,
        width: int,
        camera: Camera | ModelCamera,
        version: int = VERSION,
    ) -> None:
        quality = model.vis.quality
        quality.shadowsize, quality.offsamples = 0, MULTISAMPLES[version]
        quality.numslices, quality.numstacks, quality.numquads = 16, 8, 2
        model.vis.global_.offheight, model.vis.global_.offwidth = OVERSAMPLE * height, OVERSAMPLE * width
        light = model.vis.headlight
        light.active, light.ambient[:], light.diffuse[:], light.specular[:] = 1, AMBIENT, DIFFUSE, 0.0
        model.light_active[:] = 0
        self._floors = _Floors(model, camera)
        with self._floors.cut_in(model):
            self._renderer = _open_renderer(model, OVERSAMPLE * height, OVERSAMPLE * width)
        for name in _OFF:
            self._renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{name}")] = 0
        _open.add(self._renderer)
        # atexit runs the last registered first, and contexts must go before the display that the first one opened.
        atexit.unregister(_close_all)
        atexit.register(_close_all)

    def draw(self, data: mujoco.MjData, pose: Pose) -> np.ndarray:
        """uint8 (height, width, 3): what ``data`` looks like from ``pose``."""
        return _average(self._render(data, pose))

    def geoms(self, data: mujoco.MjData, pose: Pose) -> np.ndarray:
        """(2 height, 2 width): the id of the geom seen at each sample of a frame, −1 for none."""
        self._renderer.enable_segmentation_rendering()
        ids, kinds = np.moveaxis(self._render(data, pose), -1, 0)
        self._renderer.disable_segmentation_rendering()
        return np.where(kinds == int(mujoco.mjtObj.mjOBJ_GEOM), ids, -1)

    def _render(self, data: mujoco.MjData, pose: Pose) -> np.ndarray:
        _check_not_forked()
        self._renderer.update_scene(data)
        scene = self._renderer.scene
        self._floors.lay(scene, pose.lookat)
        for eye in scene.camera:
            eye.pos, eye.forward, eye.up, eye.orthographic = pose.position, pose.forward, pose.up, 0
            eye.frustum_near, eye.frustum_far = pose.near, pose.far
            eye.frustum_top, eye.frustum_bottom = pose.near * pose.tan_height, -pose.near * pose.tan_height
            eye.frustum_center, eye.frustum_width = 0.0, pose.near * pose.tan_width
        image = self._renderer.render()
        self._renderer.release()
        return image

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


def floor_period(size: np.ndarray, texrepeat: np.ndarray, uniform: bool) -> np.ndarray:
    """(2,) metres after which a floor looks the same again; ``size`` holds the plane's half lengths in metres."""
    repeat = np.where(texrepeat > 0, texrepeat, 1.0)
    return 2.0 / repeat if uniform else 2.0 * size[:2] / repeat


class _Floors:
    """Keeps the floors of a model under a camera that travels.

    Physics takes a plane as endless, OpenGL draws its finite size: HalfCheetah runs off its 40 m floor. So a floor
    moves along by whole periods of its texture. Where the camera wants a runway, floors are cut to it while the context
    is made, and the texture's repeats shrink with it so that tiles keep theirs. The model keeps its sizes: another
    renderer of it, or of a copy, finds them as they were.
    """

    def __init__(self, model: mujoco.MjModel, camera: Camera | ModelCamera) -> None:
        self._travels = bool(camera.follow)
        self._across = int(np.argmax(np.abs(axes(camera.azimuth, camera.elevation)[0][:2])))
        self._cut = np.ones(model.ngeom)
        for geom in np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)):
            half = model.geom_size[geom, self._across]
            if camera.runway and half > camera.runway:
                self._cut[geom] = camera.runway / half

    @contextlib.contextmanager
    def cut_in(self, model: mujoco.MjModel) -> Iterator[None]:
        """The floors of ``model`` as long as they are drawn."""
        whole = model.geom_size[:, self._across].copy()
        model.geom_size[:, self._across] *= self._cut
        try:
            yield
        finally:
            model.geom_size[:, self._across] = whole

    def lay(self, scene: mujoco.MjvScene, centre: np.ndarray) -> None:
        """Move the floors of ``scene`` under ``centre``."""
        for geom in scene.geoms[: scene.ngeom] if self._travels else ():
            if int(geom.type) != int(mujoco.mjtGeom.mjGEOM_PLANE) or abs(geom.mat[2, 2]) < 0.999:
                continue
            repeat, uniform, size = np.array(geom.texrepeat), bool(geom.texuniform), np.array(geom.size)
            if self._cut[geom.objid] < 1:
                size[self._across] *= self._cut[geom.objid]
                geom.size = size
                if not uniform:
                    repeat[self._across] *= self._cut[geom.objid]
                    geom.texrepeat = repeat
            period = floor_period(size, repeat, uniform)
            place = np.array(geom.pos)
            shift = period * np.round((centre[:2] - place[:2]) / period)
            if self._cut[geom.objid] < 1:
                shift[self._across] = centre[self._across] - place[self._across]
            place[:2] += shift
            geom.pos = place


def _average(image: np.ndarray) -> np.ndarray:
    """Mean over 2 × 2 blocks, rounded: uint8 (2h, 2w, 3) to uint8 (h, w, 3)."""
    rows = image[0::2].astype(np.uint16)
    rows += image[1::2]
    total = rows[:, 0::2] + rows[:, 1::2]
    total += 2
    total >>= 2
    return total.astype(np.uint8)
