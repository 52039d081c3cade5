"""The growth test where features are read with noise: of a linear world, whose noise and whose growth are known."""

import pytest
import torch

from procosm.world_model.data.on_disk import LatentFile, write_latents
from procosm.world_model.data.windows import Table
from procosm.world_model.evaluation.growth import agreement, changes, reading_noise
from procosm.world_model.interface import Prediction
from procosm.world_model.training.growth import growth, growth_verdict
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.validation import deviations
from tests.conftest import DECAY, BrightnessTokenizer, LinearDynamics, LinearMemory

EPISODES, STEPS, GATE = 120, 30, 0.5
ALL = torch.ones(4)
PUSH = torch.tensor([[0.5], [-0.25], [0.8], [1.0]])


class Featured(LinearDynamics):
    """The linear world, its four numbers read as features; ``speed`` 1 is right, ``push`` -1 takes actions inverted."""

    readouts = frozenset({"features"})

    def __init__(self, speed: float = 1.0, push: float = 1.0) -> None:
        self.speed, self.push = speed, push

    def read(self, memory):
        return {"features": memory.newest.flatten(1)}

    def step(self, memory, action, draws=None, sampling=None):
        after = DECAY * memory.newest + self.push * (action @ PUSH.T).view(-1, 1, 2, 2)
        memory = LinearMemory(memory.newest + self.speed * (after - memory.newest), memory.newest)
        return memory, Prediction(memory.newest, self.read(memory))


def logged(deviation: torch.Tensor, seed: int = 0) -> tuple[Table, torch.Tensor, torch.Tensor]:
    """Episodes of the linear world, their latents with noise of these (4,) deviations, and without it."""
    generator = torch.Generator().manual_seed(seed)
    z = [torch.randn(EPISODES, 4, generator=generator)]
    actions = 2 * torch.rand(EPISODES, STEPS + 1, 1, generator=generator) - 1
    for t in range(STEPS):
        z.append(DECAY * z[-1] + actions[:, t] @ PUSH.T)
    true = torch.stack(z, 1).flatten(0, 1)
    latents = (true + deviation * torch.randn(true.shape, generator=generator)).view(-1, 1, 2, 2)
    place = torch.arange(len(true)) % (STEPS + 1)
    first = torch.arange(len(true)) - place
    table = Table(
        frames=torch.zeros(len(true), 1, 1, 3, dtype=torch.uint8), actions=actions.flatten(0, 1),
        ends=torch.zeros(len(true)), first=first, last=first + STEPS, steps=(place < STEPS).nonzero()[:, 0], signals={},
    )  # fmt: skip
    return table, latents, true


def training(dynamics: Featured, deviation: torch.Tensor, tmp_path) -> Training:
    (train, z, _), (held_out, held_out_z, _) = logged(deviation, 0), logged(deviation, 1)
    tables, encoded = {"train": train, "holdout": held_out}, {"train": z, "holdout": held_out_z}
    return Training(BrightnessTokenizer(), dynamics, tables, 0, tmp_path, encoded=encoded)


SPREAD = 3 * (2 / (EPISODES * (STEPS - 2 * Featured.context))) ** 0.5
"""Of the variance of n numbers, three times its relative standard error, sqrt(2 / n)."""


@pytest.mark.parametrize("deviation", [torch.zeros(4), torch.tensor([0.05, 0.02, 0.1, 0.1])])
def test_the_noise_of_reading_is_found(deviation):
    found = reading_noise(Featured(), "features", *logged(deviation)[:2])
    torch.testing.assert_close(found, deviation**2, rtol=SPREAD, atol=1e-6)


def test_latents_on_disk_are_dreamed_of_some_episodes_at_a_time(tmp_path, monkeypatch):
    table, latents, _ = logged(torch.zeros(4))
    write_latents(tmp_path / "latents", iter([latents]))
    dreamed = []

    class Watched(Featured):
        def step(self, memory, action, draws=None, sampling=None):
            dreamed.append(len(action))
            return super().step(memory, action, draws, sampling)

    whole = changes(Watched(), "features", table, latents, 5)
    assert set(dreamed) == {EPISODES}
    monkeypatch.setattr("procosm.world_model.evaluation.growth.FRAMES", 50)
    dreamed.clear()
    parts = changes(Watched(), "features", table, LatentFile(tmp_path / "latents", latents.shape), 5)
    assert set(dreamed) == {50, EPISODES - 100} and whole.true.shape == (EPISODES, 5, 4)
    assert all(torch.allclose(ours, theirs) for ours, theirs in zip(parts, whole, strict=True))


def test_where_noise_hides_the_world_it_is_rather_too_much():
    """What noisy neighbours cannot tell of a moment counts as well."""
    deviation = torch.tensor([0.3, 0.05, 0.4, 0.2])
    found = reading_noise(Featured(), "features", *logged(deviation)[:2]) / deviation**2
    assert (found > 1 - SPREAD).all() and 1.05 < found.max() < 1.2


def test_what_was_logged_has_no_noise():
    assert not reading_noise(LinearDynamics(), "state", *logged(ALL)[:2]).any()


def uncorrected(found: Training) -> list[float]:
    seen = changes(found.dynamics, "features", found.tables["holdout"], found.latents["holdout"], 10)
    deviation = deviations(found)[1]
    return [each.error for each in agreement(seen.true / deviation, seen.dreamed / deviation, seen.there)]


def test_noise_alone_neither_fails_a_right_dream_nor_passes_a_wrong_one(tmp_path):
    noisy = torch.tensor([0.1, 0.05, 0.4, 0.2])
    right = training(Featured(), noisy, tmp_path)
    assert max(uncorrected(right)) > GATE, "the noise counts as an error of the dream"
    rows = growth(right)
    assert growth_verdict(rows, GATE)["passed"] and rows[-1]["horizon"] == 10
    assert all(0 < row["noise"] < 0.2 and row["slope"] == pytest.approx(1, abs=0.1) for row in rows)
    for wrong in (Featured(speed=0.3), Featured(speed=0.0), Featured(push=-1.0), Featured(speed=2.0)):
        found = growth(training(wrong, noisy, tmp_path))
        assert growth_verdict(found, GATE)["passed"] is False, vars(wrong)
    still = growth(training(Featured(speed=0.0), noisy, tmp_path))
    assert all(row["slope"] == pytest.approx(0, abs=0.1) and row["error"] > 0.9 for row in still)


def test_errors_are_those_that_exact_readings_would_show(tmp_path):
    """Dreams at half the rate, begun where noise has them begin, beside the world as it truly was."""
    found = training(Featured(speed=0.5), 0.15 * ALL, tmp_path)
    table, noisy, true = logged(0.15 * ALL, 1)
    seen = changes(found.dynamics, "features", table, noisy, 10)
    at = torch.unique(table.first) + Featured.context - 1
    dreamed, exact = seen.dreamed + noisy[at].flatten(1)[:, None], true[at[:, None] + torch.arange(1, 11)]
    deviation = deviations(found)[1]
    weight = (1 - (0.15 / deviation) ** 2).sqrt() / deviation
    rows = growth(found)
    assert len(rows) >= 6
    for row in rows:
        h = row["horizon"] - 1
        error, size = (((each) * weight).norm() for each in (dreamed[:, h] - exact[:, h], exact[:, h] - true[at]))
        assert row["error"] == pytest.approx(float(error / size), rel=SPREAD)


def test_where_nothing_moves_beyond_the_noise_nothing_is_judged(tmp_path):
    rows = growth(training(Featured(), 5 * ALL, tmp_path))
    verdict = growth_verdict(rows, GATE)
    assert rows == [] and verdict["passed"] is None and "more than the noise" in verdict["reason"]


def test_few_moments_are_no_reason_to_forgive():
    table, latents, _ = logged(0.5 * ALL)
    few = Table(**{**vars(table), "steps": table.steps[:40]})
    assert not reading_noise(Featured(), "features", few, latents).any()
    assert (reading_noise(Featured(), "features", table, latents) > 0.2).all()
