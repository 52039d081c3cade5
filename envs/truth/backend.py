"""The one place that imports MuJoCo: it reads ``MUJOCO_GL`` as it is imported, so the renderer is settled here first.

Every other file says ``from procosm.envs.truth.backend import mujoco``. Where the user set neither ``MUJOCO_GL`` nor
``PYOPENGL_PLATFORM``, the order is egl, osmesa, then none, in which case frames are ray-cast
(``procosm.envs.truth.raycast``). What the user set is kept; if nothing can be drawn with it, the first environment that
is to draw says so, and what draws nothing works all the same.
"""

import ctypes
import importlib
import logging
import os
import sys
from collections.abc import Mapping

from procosm.world_model.errors import TaskError

RENDERERS = {"egl": ("libEGL.so.1", "libGL.so.1"), "osmesa": ("libOSMesa.so.8",), "raycast": ()}
INSTALL = {"egl": "apt-get install libegl1 libgl1", "osmesa": "apt-get install libosmesa6"}
GL_ADVICE = f"{INSTALL['egl']} installs an OpenGL that needs neither GPU nor display"
_OFF = ("disable", "disabled", "off", "false", "0", "raycast")
_ANY = ("", "enable", "enabled", "on", "true", "1")


def _installed(renderer: str) -> bool:
    try:
        for library in RENDERERS[renderer]:
            ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _choose(environment: Mapping[str, str]) -> tuple[str, str]:
    """The renderer, and why nothing can be drawn with it ("" where it can)."""
    asked = environment.get("MUJOCO_GL", "").lower().strip()
    platform = environment.get("PYOPENGL_PLATFORM", "").lower()
    if asked in _OFF:
        return "raycast", ""
    names = {"MUJOCO_GL": "" if asked in _ANY else asked, "PYOPENGL_PLATFORM": platform}
    wishes = {variable: name for variable, name in names.items() if name}
    for variable, name in wishes.items():
        if name not in INSTALL:
            return "raycast", (
                f"{variable}={environment[variable]} is set, and procosm draws with egl or osmesa, or casts rays: "
                f"unset {variable}, or set MUJOCO_GL to egl, osmesa or disable"
            )
    if len(set(wishes.values())) > 1:
        return "raycast", f"MUJOCO_GL={asked} and PYOPENGL_PLATFORM={platform} contradict each other: unset one of them"
    if wishes:
        variable, name = next(iter(wishes.items()))
        if _installed(name):
            return name, ""
        return "raycast", (
            f"{variable}={name} is set, and its library is not installed: {INSTALL[name]}, or unset {variable}"
        )
    found = next(name for name in RENDERERS if _installed(name))
    if found == "raycast" and not asked:
        logging.getLogger("procosm").warning("no OpenGL library found: frames are ray-cast, slowly. %s", GL_ADVICE)
    elif found == "raycast":
        return found, f"MUJOCO_GL={asked} is set, and there is no OpenGL: {INSTALL['egl']}, or unset MUJOCO_GL"
    return found, ""


_already = "mujoco" in sys.modules
_before = os.environ.get("MUJOCO_GL")
RENDERER, BROKEN = _choose(os.environ)
"""Renderer of this process (``egl``, ``osmesa`` or ``raycast``), and why the one that the user set cannot draw."""
os.environ["MUJOCO_GL"] = "disable" if RENDERER == "raycast" else RENDERER

import mujoco  # noqa: E402

if _already and RENDERER != "raycast":
    # Somebody imported MuJoCo before us, which may have made it choose another OpenGL: let it choose again.
    for _name in ("mujoco.gl_context", "mujoco.rendering.classic.gl_context"):
        if _name in sys.modules:
            importlib.reload(sys.modules[_name])
if _before:
    os.environ["MUJOCO_GL"] = _before
elif BROKEN:
    del os.environ["MUJOCO_GL"]  # or worker processes would cast rays without a word


def resolve(wanted: str) -> str:
    """The renderer to use when ``wanted`` (``auto`` or a name) is asked for.

    Raises:
        TaskError: this process cannot draw with it.
    """
    if wanted == "raycast":
        return wanted
    if wanted != "auto" and wanted not in RENDERERS:
        raise TaskError(f"renderer {wanted!r} is unknown: give one of auto, {', '.join(RENDERERS)}")
    if BROKEN:
        raise TaskError(BROKEN)
    if wanted in ("auto", RENDERER):
        return RENDERER
    raise TaskError(
        f"renderer {wanted!r} is asked for, but this process draws with {RENDERER!r}, and pixels of different "
        f"renderers never mix. Set MUJOCO_GL={wanted} before Python starts; if its library is missing, "
        f"{INSTALL[wanted]} installs it"
    )


__all__ = ["GL_ADVICE", "RENDERER", "RENDERERS", "mujoco", "resolve"]
