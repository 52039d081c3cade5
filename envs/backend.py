"""The one place that imports MuJoCo: it reads ``MUJOCO_GL`` as it is imported, so the renderer is settled here first.

Every other file says ``from procosm.envs.backend import mujoco``. The order is egl, osmesa, then none, in which case
frames are ray-cast (``procosm.envs.raycast``). A ``MUJOCO_GL`` that the user set is kept.
"""

import ctypes
import importlib
import logging
import os
import sys

from procosm.world_model.interface import TaskError

RENDERERS = {"egl": ("libEGL.so.1", "libGL.so.1"), "osmesa": ("libOSMesa.so.8",), "raycast": ()}
GL_ADVICE = "apt-get install libegl1 libgl1 installs an OpenGL that needs neither GPU nor display"
_OFF = ("disable", "disabled", "off", "false", "0")


def _installed(renderer: str) -> bool:
    try:
        for library in RENDERERS[renderer]:
            ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _choose() -> str:
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked in _OFF:
        return "raycast"
    if asked in RENDERERS:
        return asked
    found = next(name for name in RENDERERS if _installed(name))
    os.environ["MUJOCO_GL"] = "disable" if found == "raycast" else found
    if found == "raycast":
        logging.getLogger("procosm").warning("no OpenGL library found: frames are ray-cast, slowly. %s", GL_ADVICE)
    return found


_already = "mujoco" in sys.modules
_before = os.environ.get("MUJOCO_GL")
RENDERER = _choose()
"""Renderer of this process: ``egl``, ``osmesa`` or ``raycast``."""

import mujoco  # noqa: E402

if _already and _before is None and RENDERER != "raycast":
    # Somebody imported MuJoCo before us, which made it choose a windowed OpenGL: let it choose again.
    for _name in ("mujoco.gl_context", "mujoco.rendering.classic.gl_context"):
        if _name in sys.modules:
            importlib.reload(sys.modules[_name])


def resolve(wanted: str) -> str:
    """The renderer to use when ``wanted`` (``auto`` or a name) is asked for.

    Raises:
        TaskError: this process cannot draw with it.
    """
    if wanted in ("auto", RENDERER):
        return RENDERER
    if wanted == "raycast":
        return wanted
    if wanted not in RENDERERS:
        raise TaskError(f"renderer {wanted!r} is unknown: give one of auto, {', '.join(RENDERERS)}")
    raise TaskError(
        f"renderer {wanted!r} is asked for, but this process draws with {RENDERER!r}, and pixels of different "
        f"renderers never mix. Set MUJOCO_GL={wanted} before Python starts; if its library is missing, {GL_ADVICE}"
    )


__all__ = ["GL_ADVICE", "RENDERER", "RENDERERS", "mujoco", "resolve"]
