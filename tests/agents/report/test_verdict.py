"""A run's verdicts in sentences: the policy beside doing nothing, and how far the dream can be trusted."""

import pytest

from procosm.agents.report.verdict import dream_verdict, policy_verdict, told


def returns(trained: float, zero: float, std: float = 10.0, n: int = 100) -> dict:
    def found(mean: float) -> dict:
        return {"mean": mean, "std": std, "low": mean - 2, "high": mean + 2, "n": n}

    mujoco = {"trained": found(trained), "zero": found(zero), "random": found(-7.0)}
    return {"mujoco": mujoco, "dream": {"trained": found(trained + 3)}}


def growth(*errors: float) -> list[dict]:
    return [{"horizon": h, "relative_error": e, "n": 20 - h} for h, e in enumerate(errors, 1)]


@pytest.mark.parametrize(
    ("trained", "zero", "said"),
    [(812.0, 25.0, "beats"), (600.0, 950.0, "is worse than"), (25.0, 26.0, "cannot be told from")],
)
def test_the_policy_is_set_beside_doing_nothing(trained, zero, said):
    assert f"the policy {said} doing nothing" in policy_verdict(returns(trained, zero))


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ((0.1, 0.2, 0.3), "can be trusted for the 3 steps that were tested (n = 17 or more)"),
        ((0.31, 0.35, 0.55, 0.93, 0.72), "not to be trusted beyond 2 steps (growth error 0.93 at step 4, n = 16"),
        ((1.0, 0.4), "is not to be trusted (growth error 1.00 at step 1"),  # a model that moves nothing
        ((), "was not tested"),
    ],
)
def test_the_dream_is_trusted_as_far_as_every_horizon_passes(errors, said):
    assert said in dream_verdict(growth(*errors))


def test_the_terminal_gets_returns_with_intervals_both_controls_and_the_verdicts():
    text = told({"task": "Ant-v5", "returns": returns(600.0, 950.0), "growth": growth(0.9)})
    for part in ("600 (598 to 602), 100 episodes", "950 (948 to 952)", "-7 (-9 to -5)", "603 (601 to 605)"):
        assert part in text
    assert "The policy is worse than doing nothing" in text and "The dream is not to be trusted" in text
