"""The open-loop comparison, which training and judging share, against a loop over windows, steps and numbers."""

import numpy as np
import pytest
import torch

from procosm.world_model.evaluation.open_loop import METHODS, Recorded, compared
from tests.conftest import CONTEXT, DECAY, PUSH, LinearDynamics

WINDOWS, HORIZON = 7, 5
LASTS = (5, 5, 1, 3, 5, 2, 4)
"""Steps of each window after its context."""


@pytest.fixture
def recorded() -> Recorded:
    """Noise: no method is right about it."""
    rng = np.random.default_rng(0)
    there = torch.tensor(LASTS)[:, None] > torch.arange(HORIZON)
    return Recorded(
        torch.from_numpy(rng.normal(size=(WINDOWS, CONTEXT + HORIZON, 1, 2, 2)).astype(np.float32)),
        torch.from_numpy(rng.uniform(-1, 1, (WINDOWS, HORIZON, 1)).astype(np.float32)),
        there,
        torch.tensor([3, 0, 6, 2, 1, 5, 4]),
        read="state",
        readings=torch.from_numpy(rng.normal(size=(WINDOWS, HORIZON, 2)).astype(np.float32)),
    )


def alone(recorded: Recorded, window: int, actions_of: int, steps: int) -> tuple[list[float], list[float]]:
    """Four numbers of the linear world, and its state, after so many of a window's steps: in Python's own numbers."""
    z = [float(value) for value in recorded.latents[window, CONTEXT - 1].flatten()]
    before = z
    for t in range(steps):
        action = float(recorded.actions[actions_of, t, 0])
        before, z = z, [DECAY * value + float(push) * action for value, push in zip(z, PUSH[:, 0], strict=True)]
    return z, [z[0], z[0] - before[0]]


def test_each_window_and_step_is_what_a_loop_makes_of_it(recorded):
    steps = list(compared(LinearDynamics(), recorded))
    assert len(steps) == HORIZON and [step.there.tolist() for step in steps] == recorded.there.T.tolist()
    for t, step in enumerate(steps):
        assert tuple(step.shown) == METHODS and step.shown["copy"].reading is None
        errors = step.latent_errors()
        for window in range(WINDOWS):
            true = [float(value) for value in recorded.latents[window, CONTEXT + t].flatten()]
            assert step.true.latents[window].flatten().tolist() == true
            assert step.true.reading[window].tolist() == recorded.readings[window, t].tolist()
            for method, actions_of in (("dream", window), ("shuffled", int(recorded.order[window])), ("copy", None)):
                still = actions_of is None
                z, state = alone(recorded, window, 0 if still else actions_of, 0 if still else t + 1)
                assert step.shown[method].latents[window].flatten().tolist() == pytest.approx(z, abs=1e-5)
                expected = sum((a - b) ** 2 for a, b in zip(z, true, strict=True)) / 4
                assert float(errors[method][window]) == pytest.approx(expected, rel=1e-4)
                if not still:
                    assert step.shown[method].reading[window].tolist() == pytest.approx(state, abs=1e-5)


def test_without_readings_latents_alone_are_compared(recorded):
    bare = Recorded(recorded.latents, recorded.actions, recorded.there, recorded.order)
    for step in compared(LinearDynamics(), bare):
        assert step.true.reading is None and all(shown.reading is None for shown in step.shown.values())
