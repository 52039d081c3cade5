import pytest
import torch
from torch import nn

from procosm.world_model.files import read_tensors
from procosm.world_model.interface import ProcosmError
from procosm.world_model.stage import StageConfig, rate, run_stage


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


CONFIG = StageConfig(steps=30, batch=8, learning_rate=1e-2, save_every=7)


@pytest.mark.parametrize("stop_at", [3, 7, 20, 29])
def test_a_stopped_stage_ends_as_an_uninterrupted_one(tmp_path, stop_at):
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


def test_a_finished_stage_is_loaded_not_run(tmp_path):
    model = fresh()
    metrics = run_stage("s", model, losses_of(model), CONFIG, tmp_path / "s.safetensors")
    again = fresh()
    assert run_stage("s", again, losses_of(again, stop_at=0), CONFIG, tmp_path / "s.safetensors") == metrics
    assert torch.equal(again[0].weight, model[0].weight)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_save(tmp_path):
    model, save = fresh(), tmp_path / "s.safetensors"
    good = losses_of(model)
    with pytest.raises(ProcosmError, match=r"nan at step 16"):
        run_stage("s", model, lambda t: (good(t)[0] * (float("nan") if t == 16 else 1), {}), CONFIG, save)
    assert int(read_tensors(save)["step"]) == 14


def test_learning_rate_warms_up_and_decays():
    rates = [rate(step, CONFIG) for step in range(CONFIG.steps)]
    assert rates[0] < rates[2] == CONFIG.learning_rate
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.01 * CONFIG.learning_rate
