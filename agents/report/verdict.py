"""What a run comes to, in sentences: does its policy beat doing nothing, and can its dream be trusted?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

GATE = 0.5
"""Relative error of the growth test above which a dream is not to be trusted, as in training."""


def number(value: float, digits: int = 1) -> str:
    """A number as people write it: thousands apart, no needless digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.{digits}f}"


def interval(found: Mapping[str, float]) -> str:
    """A mean with its 95 % interval."""
    return f"{number(found['mean'])} ({number(found['low'])} to {number(found['high'])})"


def success(found: Mapping[str, Any]) -> str:
    """The success rate of judged episodes with its 95 % interval, in percent."""
    rate, low, high = (f"{100 * found['success'][name]:.0f}" for name in ("rate", "low", "high"))
    return f"{rate} % of episodes end at the goal ({low} to {high})"


def policy_verdict(returns: Mapping[str, Any]) -> str:
    """Whether the policy earns more in MuJoCo than the zero action does, beyond chance (95 %)."""
    trained, zero = returns["mujoco"]["trained"], returns["mujoco"]["zero"]
    more = trained["mean"] - zero["mean"]
    margin = 1.96 * math.sqrt(trained["std"] ** 2 / trained["n"] + zero["std"] ** 2 / zero["n"])
    if more > margin:
        said = "beats doing nothing"
    elif more < -margin:
        said = "is worse than doing nothing"
    else:
        said = "cannot be told from doing nothing"
    return f"the policy {said} (mean return {number(trained['mean'])}, zero action {number(zero['mean'])})"


def dream_verdict(growth: Sequence[Mapping[str, float]]) -> str:
    """How far the dream may be trusted: up to the first horizon of the growth test whose error exceeds the gate."""
    if not growth:
        return "whether the dream can be trusted was not tested"
    missed = [row for row in growth if row["relative_error"] > GATE]
    if not missed:
        steps, few = growth[-1]["horizon"], min(row["n"] for row in growth)
        return f"the dream can be trusted for the {steps} steps that were tested (n = {few} or more)"
    first, worst = missed[0], max(missed, key=lambda row: row["relative_error"])
    why = f"growth error {worst['relative_error']:.2f} at step {worst['horizon']}, n = {worst['n']}; gate {GATE}"
    good = first["horizon"] - 1
    return f"the dream is not to be trusted {f'beyond {good} steps ' if good else ''}({why})"


def told(metrics: Mapping[str, Any]) -> str:
    """A judged run in a few lines for the terminal: returns with intervals beside both controls, and the verdicts."""
    lines, verdicts = [], [dream_verdict(metrics.get("growth", []))]
    if "returns" in metrics:
        real, dream = metrics["returns"]["mujoco"], metrics["returns"]["dream"]["trained"]
        rows = [("trained policy, MuJoCo", real["trained"]), ("zero action, MuJoCo", real["zero"])]
        rows += [("random actions, MuJoCo", real["random"]), ("trained policy, dream", dream)]
        lines = [f"Return of an episode of {metrics['task']}, mean and 95 % interval:"]
        lines += [f"  {name:<24}{interval(found)}, {found['n']} episodes" for name, found in rows]
        lines += [f"  {name:<24}{success(found)}" for name, found in rows if "success" in found]
        verdicts.insert(0, policy_verdict(metrics["returns"]))
    verdicts += [f"left out: {name}, for {why}" for name, why in metrics.get("left_out", {}).items()]
    return "\n".join([*lines, *(f"{verdict[:1].upper()}{verdict[1:]}." for verdict in verdicts)])
