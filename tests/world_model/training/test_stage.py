import signal

import pytest
import torch
from torch import nn

from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_tensors
from procosm.world_model.stopping import signals_raise, signals_wait
from procosm.world_model.training import stage
from procosm.world_model.training.stage import StageConfig, rate, run_stage


def losses_of(model: nn.Module, stop_at: int | None = None):
    def losses(step: int):
        if step == stop_at:
            raise KeyboardInterrupt
        g = torch.Generator().manual_seed(step)
        loss = (model(torch.randn(8, 3, generator=g)) - torch.randn(8, 2, generator=g)).square().mean()
        return loss, {"loss": loss.detach()}

    return losses


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


CONFIG = StageConfig(steps=30, batch=8, learning_rate=1e-2)


@pytest.mark.parametrize("stop_at", [3, 7, 20, 29])
def test_a_stopped_stage_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, stop_at):
    monkeypatch.setattr(stage, "SAVE_SECONDS", 0.0)
    whole = fresh()
    expected = run_stage("whole", whole, losses_of(whole), CONFIG, tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        model = fresh()
        run_stage("part", model, losses_of(model, stop_at), CONFIG, tmp_path / "part.safetensors")
    model = fresh()
    metrics = run_stage("part", model, losses_of(model), CONFIG, tmp_path / "part.safetensors")
    assert metrics == expected
    for a, b in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_step_waits_for_its_end_and_for_the_save(tmp_path, number):
    model, save = fresh(), tmp_path / "s.safetensors"
    good = losses_of(model)

    def losses(step: int):
        if step == 13:
            signal.raise_signal(number)
        return good(step)

    with pytest.raises(KeyboardInterrupt), signals_raise():
        run_stage("s", model, losses, CONFIG, save)
    assert int(read_tensors(save)["step"]) == 14  # the step it came in is done, none after it
    again, whole = fresh(), fresh()
    metrics = run_stage("s", again, losses_of(again), CONFIG, save)
    assert metrics == run_stage("whole", whole, losses_of(whole), CONFIG, tmp_path / "whole.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), whole.parameters(), strict=True))


def test_a_second_signal_does_not_wait():
    with pytest.raises(KeyboardInterrupt), signals_wait():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")


def test_handlers_are_put_back_and_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_raise(), signals_wait() as stopping:
            signal.raise_signal(signal.SIGHUP)
            assert not stopping()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_work_is_saved_at_least_every_half_minute(tmp_path, monkeypatch):
    """Against a clock of its own: every step takes seven seconds."""
    clock, saves, save = iter(range(0, 10**6, 7)), [], tmp_path / "s.safetensors"
    monkeypatch.setattr(stage.time, "monotonic", lambda: float(now[0]))
    now = [0]
    model = fresh()
    good = losses_of(model)

    def losses(step: int):
        now[0] = next(clock)
        if save.exists():
            saves.append((int(read_tensors(save)["step"]), step))
        return good(step)

    run_stage("s", model, losses, CONFIG, save)
    assert saves and all(7 * (step - saved) <= 30 for saved, step in saves)


def test_a_finished_stage_is_loaded_not_run(tmp_path):
    model = fresh()
    metrics = run_stage("s", model, losses_of(model), CONFIG, tmp_path / "s.safetensors")
    again = fresh()
    assert run_stage("s", again, losses_of(again, stop_at=0), CONFIG, tmp_path / "s.safetensors") == metrics
    assert torch.equal(again[0].weight, model[0].weight)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_save(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SAVE_SECONDS", 0.0)
    model, save = fresh(), tmp_path / "s.safetensors"
    good = losses_of(model)
    with pytest.raises(ProcosmError, match=r"nan at step 16"):
        run_stage("s", model, lambda t: (good(t)[0] * (float("nan") if t == 16 else 1), {}), CONFIG, save)
    assert int(read_tensors(save)["step"]) == 16


def test_learning_rate_warms_up_and_decays():
    rates = [rate(step, CONFIG) for step in range(CONFIG.steps)]
    assert rates[0] < rates[2] == CONFIG.learning_rate
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.01 * CONFIG.learning_rate
