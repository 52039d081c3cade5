"""What every scenario is built from: a grey floor, grey things that stand still, coloured things that move.

Each moving object has a colour of its own, so that its outline can be found again in a dreamed picture. Lengths are
metres, times seconds, angles radians unless a name says otherwise; x points right, y away from the first camera, z up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from procosm.envs.truth.backend import mujoco

PALETTE = np.array(
    [
        [0.90, 0.12, 0.12],  # red
        [0.95, 0.85, 0.10],  # yellow
        [0.15, 0.75, 0.20],  # green
        [0.10, 0.80, 0.90],  # cyan
        [0.20, 0.25, 0.95],  # blue
        [0.90, 0.20, 0.85],  # magenta
    ]
)
FLOOR_GREY, STILL_GREY = 0.42, 0.62
Numbers = Sequence[float] | np.ndarray
GRAVITY = 9.81
TIMESTEP_S = 0.002
CONTACT = (0.006, 1.0)
"""Time constant (s) and damping ratio of contacts: as hard as the timestep allows."""
DENSITY = 500.0
"""kg/m³ of every object, so that what looks heavier is heavier."""


@dataclass(frozen=True)
class Scene:
    """One scenario with its parameters drawn, ready to be set off.

    Attributes:
        model: the MuJoCo model; it starts in its ``qpos0``.
        qvel: (nv,) velocities at the start.
        objects: (k,) ids of the bodies that move, in the order they were put up.
        facts: the drawn parameters that the laws of physics are about, by name.
    """

    model: mujoco.MjModel
    qvel: np.ndarray
    objects: np.ndarray
    facts: dict[str, float] = field(default_factory=dict)

    def begin(self) -> mujoco.MjData:
        """The scene at its first moment."""
        data = mujoco.MjData(self.model)
        data.qvel[:] = self.qvel
        mujoco.mj_forward(self.model, data)
        return data

    def classes(self) -> np.ndarray:
        """(ngeom,) 1 + the place in ``PALETTE`` of each geom's colour; 0 for what is grey."""
        like = np.isclose(self.model.geom_rgba[:, None, :3], PALETTE, atol=1e-6).all(axis=2)
        return np.where(like.any(axis=1), 1 + like.argmax(axis=1), 0)


class Stage:
    """A scene while it is put up.

    Args:
        rng: draws the colours.
        friction: sliding friction between any two things here.
    """

    def __init__(self, rng: np.random.Generator, friction: float) -> None:
        self.spec = mujoco.MjSpec()
        self.spec.option.timestep = TIMESTEP_S
        self.spec.option.gravity = [0, 0, -GRAVITY]
        self.spec.option.integrator = mujoco.mjtIntegrator.mjINT_RK4  # a gyroscope sinks under the others
        self.spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        self.spec.compiler.degree = False
        shape = self.spec.default.geom
        shape.friction = [friction, 0.005, 0.0001]
        shape.solref = CONTACT
        shape.density = DENSITY
        self._colours = iter(PALETTE[rng.permutation(len(PALETTE))])
        self._objects: list[str] = []
        self.still("plane", [20, 20, 1], [0, 0, 0], grey=FLOOR_GREY)

    def still(self, kind: str, size: Numbers, at: Numbers, lean: float = 0.0, grey: float = STILL_GREY) -> None:
        """A grey thing that never moves, turned about y by ``lean``."""
        self.spec.worldbody.add_geom(
            type=_kind(kind), size=_three(size), pos=at, quat=_turn(lean), rgba=[grey, grey, grey, 1]
        )

    def thing(self, kind: str, size: Numbers, at: Numbers, lean: float = 0.0) -> None:
        """A coloured thing that is free to move."""
        body = self._body(at, _turn(lean))
        body.add_freejoint()
        body.add_geom(type=_kind(kind), size=_three(size), rgba=[*next(self._colours), 1])

    def plank(self, size: Numbers, at: Numbers, steepest: float) -> None:
        """A coloured plank on a hinge about y, between stops at ``steepest`` to either side."""
        body = self._body(at, _turn(0.0))
        body.add_joint(
            type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 1, 0], limited=True, range=[-steepest, steepest],
            solref_limit=CONTACT,
        )  # fmt: skip
        body.add_geom(type=_kind("box"), size=_three(size), rgba=[*next(self._colours), 1])
        self.spec.add_exclude(bodyname1="world", bodyname2=body.name)  # the pivot inside it and the floor at its stops

    def spinner(self, radius: float, thickness: float, reach: float, at: Numbers, heading: float) -> None:
        """A coloured wheel ``reach`` from the ball joint that holds its weightless axle, which points ``heading``."""
        body = self._body(at, _turn(heading, about=3))
        body.add_joint(type=mujoco.mjtJoint.mjJNT_BALL)
        for size, place, colour, density in (
            ([radius, thickness / 2], reach, next(self._colours), DENSITY),
            ([0.035, reach / 2], reach / 2, np.full(3, STILL_GREY), 0.0),
        ):
            body.add_geom(
                type=_kind("cylinder"), size=_three(size), pos=[place, 0, 0], quat=_turn(np.pi / 2),
                rgba=[*colour, 1], density=density, contype=0, conaffinity=0,
            )  # fmt: skip

    def _body(self, at: Numbers, quat: Numbers) -> mujoco.MjsBody:
        self._objects.append(f"object {len(self._objects)}")
        return self.spec.worldbody.add_body(name=self._objects[-1], pos=at, quat=quat)

    def scene(self, velocities: Sequence[Numbers] = (), **facts: float) -> Scene:
        """The finished scene.

        Args:
            velocities: of the first few objects: (vx, vy, vz, ωx, ωy, ωz) of a free one (ω in its own axes), the rates
                of its joint of any other. The others are at rest.
            facts: see :class:`Scene`.
        """
        model = self.spec.compile()
        objects = np.array([model.body(name).id for name in self._objects])
        qvel = np.zeros(model.nv)
        for body, velocity in zip(objects, velocities, strict=False):
            first = model.body_dofadr[body]
            qvel[first : first + len(velocity)] = velocity
        return Scene(model, qvel, objects, facts)


def _kind(name: str) -> int:
    return getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}")


def _three(size: Numbers) -> list[float]:
    return [*size, 0.0, 0.0][:3]


def _turn(angle: float, about: int = 2) -> list[float]:
    """Quaternion of a turn about x, y or z (1, 2, 3)."""
    quat = [np.cos(angle / 2), 0.0, 0.0, 0.0]
    quat[about] = np.sin(angle / 2)
    return quat
