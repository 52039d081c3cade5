"""The eight scenarios of Cosmos §5.3 (arXiv 2501.03575): what stands where, and what is drawn.

Each function draws its parameters from a generator and gives a
:class:`procosm.benchmarks.dream.physics.stage.Scene`, whose ``facts`` name those that a law of physics is about.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from procosm.benchmarks.dream.physics.stage import GRAVITY, Scene, Stage


def free_fall(rng: np.random.Generator) -> Scene:
    """A ball, cube or cylinder dropped, or thrown straight up or down."""
    stage = Stage(rng, friction=0.5)
    kind, r = str(rng.choice(["sphere", "box", "cylinder"])), rng.uniform(0.24, 0.34)
    height, speed = rng.uniform(1.2, 2.2), rng.uniform(-1.0, 1.5)
    stage.thing(kind, [r, r, r], [rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 0.3), height])
    return stage.scene([[0, 0, speed]], height=height, speed=speed, half=r)


def tilted_plane(rng: np.random.Generator) -> Scene:
    """A box slides down a ramp; how slippery it is cannot be seen in one picture."""
    tilt, friction = np.radians(rng.uniform(20, 40)), rng.uniform(0.0, 0.3)
    stage, half, length = Stage(rng, friction), rng.uniform(0.2, 0.27), 1.1
    along, normal = np.array([np.cos(tilt), 0, -np.sin(tilt)]), np.array([np.sin(tilt), 0, np.cos(tilt)])
    middle = np.array([-0.2, 0, length * np.sin(tilt) + 0.02])
    stage.still("box", [length, 0.45, 0.02], middle, lean=tilt)
    stage.thing("box", [half, half, half], middle - rng.uniform(0.55, 0.85) * along + (0.02 + half) * normal, lean=tilt)
    speed = rng.uniform(0.0, 0.8)
    return stage.scene([speed * along], tilt=tilt, friction=friction, speed=speed)


def u_shaped_slope(rng: np.random.Generator) -> Scene:
    """A ball rolls down one side of a trough and up the other."""
    stage, trough, r = Stage(rng, friction=1.0), 1.2, rng.uniform(0.2, 0.3)
    plates, widest = 48, np.radians(75)
    step = 2 * widest / plates
    for angle in -widest + step * (np.arange(plates) + 0.5):
        centre = [(trough + 0.03) * np.sin(angle), 0, trough + 0.06 - (trough + 0.03) * np.cos(angle)]
        stage.still("box", [trough * np.tan(step / 2), 0.4, 0.03], centre, lean=-angle)
    side, angle = rng.choice([-1, 1]), np.radians(rng.uniform(35, 62))
    swing = trough - r
    at = [side * swing * np.sin(angle), 0, trough + 0.06 - swing * np.cos(angle)]
    stage.thing("sphere", [r], at)
    return stage.scene(swing=swing, angle=angle, side=float(side), radius=r, centre_height=trough + 0.06)


def _stack(rng: np.random.Generator, lean: tuple[float, float]) -> Scene:
    """Four boxes; each stands off the one below by a share of its edge between the two numbers of ``lean``."""
    stage, edge = Stage(rng, friction=0.8), rng.uniform(0.38, 0.46)
    side, height, x, y = rng.choice([-1, 1]), 0.0, rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.1)
    for _ in range(4):
        tall = edge * rng.uniform(0.85, 1.0)
        stage.thing("box", [edge / 2, edge / 2, tall / 2], [x, y, height + tall / 2])
        height += tall
        x += side * edge * rng.uniform(*lean)
    return stage.scene(side=float(side), edge=edge)


def stable_stack(rng: np.random.Generator) -> Scene:
    """A tower that stands: nothing may move."""
    return _stack(rng, (-0.12, 0.12))


def unstable_stack(rng: np.random.Generator) -> Scene:
    """A tower whose upper boxes stand too far out: it falls to one side."""
    return _stack(rng, (0.30, 0.42))


def dominoes(rng: np.random.Generator) -> Scene:
    """Five in a row; the first is pushed."""
    stage, side = Stage(rng, friction=0.3), rng.choice([-1, 1])
    height, thickness, spacing = rng.uniform(0.7, 0.85), rng.uniform(0.15, 0.19), rng.uniform(0.38, 0.44)
    for place in np.arange(5) - 2:
        at = [side * (place * spacing - 0.15), 0, height / 2]
        stage.thing("box", [thickness / 2, 0.26, height / 2], at)
    push = rng.uniform(0.75, 1.2)  # m/s at half its height, turning about its lower edge
    return stage.scene([[side * push, 0, 0, 0, side * 2 * push / height, 0]], side=float(side), push=push)


def seesaw(rng: np.random.Generator) -> Scene:
    """Two weights on a level plank: it tips to the heavier, which is the larger one."""
    stage, pivot, half = Stage(rng, friction=1.0), 0.5, 1.1
    heavy_side, reach = rng.choice([-1, 1]), rng.uniform(0.75, 0.9)
    heavy, light = rng.uniform(0.2, 0.26), rng.uniform(0.12, 0.17)
    stage.plank([half, 0.22, 0.05], [0, 0, pivot], steepest=np.arcsin((pivot - 0.06) / half))
    for side, r in ((heavy_side, heavy), (-heavy_side, light)):
        stage.thing("box", [r, r, r], [side * reach, 0, pivot + 0.05 + r])
    stage.still("cylinder", [0.045, 0.26], [0, 0, 0.26])
    return stage.scene(heavy_side=float(heavy_side), heavy=heavy, light=light, reach=reach, pivot=pivot)


def gyroscope(rng: np.random.Generator) -> Scene:
    """A wheel spins on an axle held at one end, and goes round the pivot instead of falling."""
    stage, pivot = Stage(rng, friction=0.5), 1.0
    radius, reach, thickness = rng.uniform(0.4, 0.5), rng.uniform(0.45, 0.6), 0.14
    spin = rng.choice([-1, 1]) * rng.uniform(25, 45)
    stage.still("cylinder", [0.06, pivot / 2], [0, 0, pivot / 2])
    stage.spinner(radius, thickness, reach, [0, 0, pivot], heading=rng.uniform(-np.pi, np.pi))
    precession = GRAVITY * reach / (0.5 * radius**2 * spin)  # m g r / (I ω), I that of the wheel about its axle
    return stage.scene([[spin, 0, precession]], spin=spin, precession=precession, reach=reach, radius=radius)


@dataclass(frozen=True)
class Scenario:
    """A scenario, and the box, two opposite corners in metres, that every camera holds in view."""

    make: Callable[[np.random.Generator], Scene]
    low: tuple[float, float, float]
    high: tuple[float, float, float]


SCENARIOS = {
    "free fall": Scenario(free_fall, (-0.9, -0.5, 0.0), (0.9, 0.5, 2.4)),
    "tilted plane": Scenario(tilted_plane, (-1.2, -0.45, 0.0), (1.3, 0.45, 1.5)),
    "U-shaped slope": Scenario(u_shaped_slope, (-1.15, -0.4, 0.05), (1.15, 0.4, 1.0)),
    "stable stack": Scenario(stable_stack, (-0.6, -0.4, 0.0), (0.6, 0.4, 1.75)),
    "unstable stack": Scenario(unstable_stack, (-1.1, -0.4, 0.0), (1.1, 0.4, 1.7)),
    "dominoes": Scenario(dominoes, (-1.25, -0.25, 0.0), (1.25, 0.25, 0.85)),
    "seesaw": Scenario(seesaw, (-1.15, -0.3, 0.0), (1.15, 0.3, 1.2)),
    "gyroscope": Scenario(gyroscope, (-0.9, -0.9, 0.3), (0.9, 0.9, 1.5)),
}
