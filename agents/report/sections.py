"""The sections of a run's page: each turns measured numbers into a sentence, a chart and a table."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from procosm.agents.report.charts import Bar, Line, bar_chart, line_chart
from procosm.agents.report.verdict import GATE, dream_verdict, interval, number, policy_verdict, success

Metrics = Mapping[str, Any]

TONES = {"dream": 1, "copy last frame": 2, "shuffled actions": 3, "tokenizer": 4}
STAGES = {
    "data": "collecting",
    "world_model": "training the world model",
    "policy": "training the policy",
    "evaluation": "judging",
}


def duration(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def headline(metrics: Metrics) -> str:
    """What came out: first whether the policy beats doing nothing and the dream can be trusted; then four numbers."""
    steps = metrics["real_steps"]
    total, height = sum(metrics["seconds"].values()), metrics["frame_size"]
    pixels = f"{height}×{metrics.get('frame_width', height)} pixels"
    verdict, read = dream_verdict(metrics.get("growth", [])), f"A dream of {pixels}, judged by held-out episodes."
    facts = [(number(steps["collected"]), "real steps collected"), (duration(total), "for the whole road")]
    if "returns" in metrics:
        trained, zero = metrics["returns"]["mujoco"]["trained"], metrics["returns"]["mujoco"]["zero"]
        about = f"mean return in MuJoCo, {trained['n']} episodes, 95 %: "
        about += f"{number(trained['low'])} to {number(trained['high'])}"
        facts = [(number(trained["mean"]), about), (number(zero["mean"]), "return of doing nothing"), *facts]
        verdict = f"{policy_verdict(metrics['returns'])}; {verdict}"
        read = f"Return of an episode from {pixels}, with a policy trained only in a dream."
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in facts)
    return f'<h1>{escape(metrics["task"])}: {escape(verdict)}</h1><p>{escape(read)}</p><div class="big">{tiles}</div>'


def returns_section(metrics: Metrics) -> str:
    """The policy in both worlds beside controls that learned nothing."""
    found, gap = metrics["returns"], metrics["returns"]["gap"]
    shown = [
        ("trained in the dream, in MuJoCo", found["mujoco"]["trained"], 1),
        ("the same policy, in the dream", found["dream"]["trained"], 4),
        ("random actions, in MuJoCo", found["mujoco"]["random"], 3),
        ("zero action, in MuJoCo", found["mujoco"]["zero"], 3),
    ]
    more = "more" if gap["mean"] > 0 else "less"
    if gap["low"] <= 0 <= gap["high"]:
        meaning = "No difference can be told from chance."
    elif gap["mean"] > 0:
        meaning = "It lives partly on faults of the model."
    else:
        meaning = "It does not live on faults of the model; long dreams are harder than the truth."
    bars = [Bar(name, each["mean"], interval(each), each["low"], each["high"], tone) for name, each, tone in shown]
    rows = [
        [name, *(number(each[k], 2) for k in ("mean", "std", "low", "high", "mean_steps", "n"))]
        for name, each, _ in shown
    ]
    return (
        "<h2>Return of an episode</h2>"
        f"<p>In its dream the policy earns {number(abs(gap['mean']))} {more} than in MuJoCo from the same first frames "
        f"(dream − MuJoCo, 95 %: {number(gap['low'])} to {number(gap['high'])}). {meaning}</p>"
        + "".join(f"<p>{escape(name)}: {success(each)}.</p>" for name, each, _ in shown if "success" in each)
        + bar_chart(bars, "mean return with 95 % intervals")
        + table("all numbers", ["", "mean", "std", "low", "high", "steps", "episodes"], rows)
    )


def dream(metrics: Metrics) -> str:
    """How far the dream follows MuJoCo: error by horizon, and growth."""
    rows, verdicts = metrics["open_loop"], metrics["verdicts"]
    charts = [
        _curves(rows, "state_nrmse", "Error of the true state", "in standard deviations; lower is better"),
        _curves(rows, "psnr_db", "Picture", "PSNR in dB; higher is better"),
        _curves(rows, "latent_mse", "Latent error", "mean square, standardised; lower is better"),
    ]
    if metrics.get("growth"):
        slopes = Line("slope", [(r["horizon"], r["slope"], r["low"], r["high"]) for r in metrics["growth"]], 1)
        chart = line_chart([slopes], "steps", "growth slope by horizon", reference=1.0)
        under, read = _growth_of(metrics)
        charts.append(figure(f"Growth under {under}", chart, f"dreamed over true change of {read}; 1 is right"))
    said = "; ".join(
        f"{_metric_name(metric)}: better than {control} at {each['better']} of {each['horizons']} horizons"
        for metric, by_control in verdicts.items()
        for control, each in by_control.items()
        if metric in ("state_nrmse", "latent_mse")
    )
    fewest = min(row["n"] for row in rows)
    return (
        "<h2>How true is the dream?</h2>"
        "<p>Held-out episodes that the model never saw, continued in the dream under the recorded actions. Copying the "
        "last frame and dreaming under another episode's actions must be worse.</p>"
        f"<p>Under {_growth_of(metrics)[0]}, {escape(dream_verdict(metrics.get('growth', [])))}.</p>"
        f"<p>{escape(said[:1].upper() + said[1:])}.</p>"
        f'<div class="two">{"".join(charts)}</div>'
        f'<p class="soft">Means over windows with 95 % bootstrap intervals; {rows[0]["n"]} windows at the first step, '
        f"{fewest} at the last, because episodes end.</p>"
    )


def training(log: Mapping[str, Any], metrics: Metrics) -> str:
    """Return while practising, imagined and true."""
    rounds = [(r["imagined_steps"], r["dream_return"]) for r in log["rounds"] if r["dream_return"] is not None]
    charts = []
    if rounds:
        chart = line_chart([Line("dream", rounds, 1)], "imagined steps", "return of short dreams")
        charts.append(figure("In the dream", chart, "mean return of the short dreams it practises in"))
    if log["truth"]:
        points = [(t["imagined_steps"], sum(t["returns"]) / len(t["returns"])) for t in log["truth"]]
        chart = line_chart([Line("MuJoCo", points, 2, dots=True)], "imagined steps", "true return while training")
        caption = f"mean of {len(log['truth'][0]['returns'])} whole episodes at each look; nothing is chosen by them"
        charts.append(figure("In MuJoCo", chart, caption))
    policy = metrics["policy"]
    return (
        f"<h2>Practice</h2><p>{escape(policy['algorithm'].upper())} on {escape(policy['observation'])} observations. "
        f'Imagined return alone proves nothing: a policy can learn the faults of its model.</p><div class="two">'
        f"{''.join(charts)}</div>"
    )


def resources(metrics: Metrics) -> str:
    """Time, real steps and speed."""
    steps, speed = metrics["real_steps"], metrics["speed"]
    times = [Bar(STAGES.get(name, name), seconds, duration(seconds)) for name, seconds in metrics["seconds"].items()]
    rates = [
        (f"dream, {speed['dreams']} at once, latents", speed["dream_latent"], 1),
        (f"dream, {speed['dreams']} at once, state", speed.get("dream_state"), 1),
        (f"dream, {speed['dreams']} at once, pixels", speed["dream_pixels"], 1),
        ("dream, one alone", speed["dream_single"], 1),
        (f"MuJoCo with pictures, {speed['processes']} processes", speed.get("mujoco"), 2),
    ]
    bars = [Bar(name, rate, f"{number(rate)} /s", tone=tone) for name, rate, tone in rates if rate is not None]
    rows = [
        ["collected: to train on", number(steps["collected_train"])],
        ["collected: held out", number(steps["collected_holdout"])],
        ["collected: constant actions, held out", number(steps["collected_constant"])],
        ["looks while the policy trained", number(steps["looks_while_training"])],
        ["judging, controls included", number(steps["judging"])],
    ]
    charts = [figure("Steps a second", bar_chart(bars, "steps a second"), "environment steps, random actions")]
    if times:
        charts.insert(0, figure("Time by stage", bar_chart(times, "time by stage"), "as recorded by each stage"))
    return (
        f'<h2>What it cost</h2><div class="two">{"".join(charts)}</div>'
        + f"<h3>Steps in MuJoCo</h3>{plain_table(['purpose', 'steps'], rows)}"
        + f'<p class="soft">A step here is {steps["action_repeat"]} control step(s) of the simulator. Only collected '
        "steps teach the world model or the policy.</p>"
    )


def _growth_of(metrics: Metrics) -> tuple[str, str]:
    """Under what the growth test was made, and of what, in words."""
    found = metrics.get("growth_of", {"read": "state", "episodes": "constant"})
    under = "a constant action" if found["episodes"] == "constant" else "the recorded actions"
    return under, "the state" if found["read"] == "state" else "features"


def honest_limits(metrics: Metrics) -> str:
    """What these numbers do not show."""
    growth, verdicts = metrics.get("growth", []), metrics["verdicts"]
    said = [
        "One run with one seed: it says nothing about how often the recipe succeeds.",
        "Intervals are over episodes and windows of this one policy and model, not over training runs.",
        "Outside the states that were collected the dream is unchecked.",
    ]
    for metric in ("state_nrmse", "latent_mse", "psnr_db"):
        for control, each in verdicts.get(metric, {}).items():
            if each["worse_at"]:
                at = ", ".join(map(str, each["worse_at"][:8])) + (" …" if len(each["worse_at"]) > 8 else "")
                said.append(f"By {_metric_name(metric)} the dream is no better than {control} at step {at}.")
    if not growth and "growth" not in metrics.get("left_out", {}):
        said.append("There are no constant-action episodes, so growth was not tested.")
    said += [f"Left out: {name}, for {why}." for name, why in metrics.get("left_out", {}).items()]
    under, read = _growth_of(metrics)
    said += [
        f"After {row['horizon']} steps under {under} the change of {read} is {row['slope']:.2f} times what it should "
        f"be, with an error of {row['relative_error']:.2f} ({row['n']} episodes)."
        for row in growth
        if row["relative_error"] > GATE
    ]
    items = "".join(f"<li>{escape(each)}</li>" for each in said)
    return f"<h2>Limits</h2><ul>{items}</ul>"


def provenance_table(metrics: Metrics) -> str:
    """Where the numbers come from."""
    source = metrics["provenance"]["evaluation"]
    rows = [[key, str(source[key])] for key in ("command", "commit", "date", "hardware")]
    rows.append(["versions", ", ".join(f"{name} {version}" for name, version in source["versions"].items())])
    items = "".join(f"<li>{escape(key)}: <code>{escape(value)}</code></li>" for key, value in rows)
    return (
        f"<h2>Provenance</h2><ul>{items}</ul><p class='soft'>Every number stands in metrics.json beside this page.</p>"
    )


def _metric_name(metric: str) -> str:
    names = {"state_nrmse": "state error", "latent_mse": "latent error", "psnr_db": "PSNR", "pixel_mse": "pixel error"}
    return names[metric]


def _curves(rows: Sequence[Mapping[str, Any]], metric: str, title: str, caption: str) -> str:
    """A chart of one metric; nothing where it was not measured."""
    chosen = [row for row in rows if row["metric"] == metric]
    if not chosen:
        return ""
    lines = [
        Line(
            method,
            [(r["horizon"], r["value"], r["low"], r["high"]) for r in chosen if r["method"] == method],
            TONES[method],
        )
        for method in TONES
        if any(row["method"] == method for row in chosen) and not (metric == "latent_mse" and method == "tokenizer")
    ]
    return figure(title, line_chart(lines, "steps into the dream", f"{title} by horizon"), caption)


def figure(title: str, chart: str, caption: str) -> str:
    """A chart under its title, with a line that says how to read it."""
    return f"<figure><h3>{escape(title)}</h3>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def table(summary: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table behind its summary, closed at first."""
    return f"<details><summary>{escape(summary)}</summary>{plain_table(head, rows)}</details>"
