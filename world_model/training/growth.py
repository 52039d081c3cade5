"""The growth test of a model in training, and its verdict, which decides whether training goes on."""

from typing import Any

from procosm.world_model.evaluation import growth as evaluator
from procosm.world_model.evaluation.growth import DECIDING, Reading, reading_noise
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.validation import deviations

GROWTH_HORIZON = 10


def growth(training: Training, horizon: int = GROWTH_HORIZON) -> list[dict[str, float]]:
    """The growth test, in standard deviations of the training episodes.

    It is made of constant-action episodes, else of held-out ones, under their actions; of states, else of features; of
    every other episode, the rest of which is left to judge the finished model.

    Returns:
        a row for each horizon at which something has changed: ``error``, size of the difference over size of the true
        change (0 is perfect, 1 is standing still); ``slope``, least-squares slope of dreamed change on true change (1
        is right, .5 is half the rate); ``noise``, share of the recorded change that is noise; ``n``, episodes.
    """
    dynamics, (name, deviation) = training.dynamics, deviations(training)
    kind = "constant" if "constant" in training.tables else "holdout"
    if name is None:
        return []
    reading = Reading(name, deviation, reading_noise(dynamics, name, training.table, training.latents["train"]))
    table, latents = training.tables[kind], training.latents[kind]
    return [
        {"horizon": each.horizon, "error": each.error, "slope": each.slope, "noise": each.noise, "n": len(each.true)}
        for each in evaluator.growth(dynamics, reading, table, latents, horizon, DECIDING)
    ]


def growth_verdict(rows: list[dict[str, float]], gate: float | None) -> dict[str, Any]:
    """Whether a growth test was passed: at no horizon may the error exceed the gate.

    Returns:
        ``gate``; ``passed``, None where nothing was tested, and then a ``reason``; ``by_horizon``, the rows;
        ``growth_error`` and ``growth_slope`` of the worst horizon ``at_horizon``, judged by ``growth_episodes``.
    """
    if gate is None or not rows:
        why = (
            "this preset has no gate"
            if gate is None
            else "beside those that judge no episode is long enough, or nothing moved by more than the noise of reading"
        )
        return {"gate": gate, "passed": None, "reason": why, "by_horizon": rows}
    worst = max(rows, key=lambda row: row["error"])
    return {
        "gate": gate,
        "passed": worst["error"] <= gate,
        "by_horizon": rows,
        "growth_error": worst["error"],
        "growth_slope": worst["slope"],
        "growth_episodes": worst["n"],
        "at_horizon": worst["horizon"],
    }


def describe_growth(verdict: dict[str, Any]) -> str:
    """A verdict in a sentence, with every horizon's error and episodes."""
    if verdict["passed"] is None:
        return f"growth test while training: nothing was tested, for {verdict['reason']}; `procosm evaluate` judges it"
    each = ", ".join(f"{row['horizon']}: {row['error']:.2f} (n {row['n']})" for row in verdict["by_horizon"])
    said = "passed" if verdict["passed"] else "missed; the dream is not to be trusted far"
    return f"growth test: {said}. Error by step, gate {verdict['gate']}: {each}"
