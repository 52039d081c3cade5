"""Every file that a run's page is made of: metrics, the training log, results, a CSV, films and pictures."""

import csv
import gzip
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from procosm.agents.judge.open_loop import METHODS
from procosm.agents.judge.summary import summarise, verdicts
from procosm.agents.report.report import write_report
from procosm.envs.films import write_mp4
from tests.fuzz.mutations import Case, cuts, drawn, flips, json_texts
from tests.fuzz.surfaces.checkpoint import holding

HORIZONS, TASK = 3, "InvertedPendulum-v5"
FREE = {"world_model", "configs", "details", "command", "commit", "date", "hardware", "versions", "reading"}
"""Words, and what may stand below ``provenance``: free, as long as it is JSON."""
MAYBE = {"sweep", "seed", "n", "low", "high", "panel", "signal", "network", "data", "policy", "evaluation", "details"}
MAYBE |= {"growth_of", "noise"}
"""What some version, row or run does not have."""
VAST_WRONG = {"n", "horizon", "frame_size", "action_repeat", "std", "relative_error", "dreams", "processes", "mujoco"}


def film(path: Path) -> None:
    write_mp4(path, [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 99, 199)], 10)


def metrics() -> dict:
    returns = [
        {"world": world, "policy": policy, "seed": seed, "return": base + 0.5 * seed, "steps": 10 + seed}
        for base, (world, policy) in enumerate(
            (("mujoco", "trained"), ("mujoco", "zero"), ("mujoco", "random"), ("dream", "trained"))
        )
        for seed in range(3)
    ]
    compared = [
        {"horizon": h, "method": method, "metric": metric, "value": v, "low": v - 0.01, "high": v + 0.01, "n": 9 - h}
        for h in range(1, HORIZONS + 1)
        for i, method in enumerate(METHODS)
        for metric in ("pixel_mse", "psnr_db", "latent_mse", "state_nrmse")
        if (method, metric) != ("tokenizer", "state_nrmse")
        for v in [0.1 * h + 0.02 * i]
    ]
    grown = [
        {"horizon": h, "slope": 0.9, "low": 0.8, "high": 1.1, "correlation": 0.9, "relative_error": 0.6, "n": 3}
        | {"noise": 0.1}
        for h in range(1, HORIZONS + 1)
    ]
    rates = {f"dream_{name}": 99.5 for name in ("latent", "state", "pixels", "single")}
    taken = {"collected": 60, "collected_train": 30, "collected_holdout": 20, "collected_constant": 10}
    origin = {"commit": "abc", "command": "procosm", "date": "2026-01-01", "hardware": "x", "versions": {"torch": "2"}}
    return {
        "task": TASK, "frame_size": 64, "dt_s": 0.04, "policy": {"algorithm": "ppo", "observation": "state"},
        "returns": summarise(returns), "open_loop": compared, "growth": grown,
        "growth_of": {"read": "features", "episodes": "holdout"},
        "speed": {"dreams": 4, "processes": 1, "cores": 2.0, **rates, "mujoco": 50.5},
        "films": {name: f"{name}.mp4" for name in ("comparison", "policy_mujoco", "policy_dream")},
        "sweep": {"file": "sweep.png", "actions": [[-3.0], [3.0]]}, "verdicts": verdicts(compared),
        "real_steps": {**taken, "looks_while_training": 46, "judging": 99, "action_repeat": 1},
        "seconds": {"data": 1.0, "policy": 2.5}, "provenance": {"world_model": {}, "evaluation": origin},
    }  # fmt: skip


def log() -> dict:
    rounds = [{"round": i, "imagined_steps": 32 * (i + 1), "dream_return": 3.5, "dream_length": 4.0} for i in range(2)]
    looks = [{"imagined_steps": 32 * (i + 1), "returns": [16.0, 28.0], "real_steps": 46, "lengths": [17, 29]}
             for i in range(2)]  # fmt: skip
    return {"algorithm": "ppo", "observation": "state", "rounds": rounds, "truth": looks}


def results() -> dict[str, dict]:
    plain = {"task": TASK, "unit": "1", "n": 9, "seed": 0}
    followed = [
        {
            **plain,
            "behaviour": "noise",
            "method": method,
            "horizon": h,
            "metric": metric,
            "value": v,
            "low": v,
            "high": v,
        }
        for h in (1, 2, 4)
        for method, v in (("dream", 0.5), ("copy last frame", 0.7))
        for metric in ("state_nrmse", "psnr_db")
    ]
    ranked = {**plain, "panel": "all", "horizon": "whole episode", "value": 0.9, "low": 0.8, "high": 1.0}
    panel = [{"policy": f"p{i}", "family": "ppo"} for i in range(2)]
    rows = [{**ranked, "metric": "Pearson r"}, {**ranked, "metric": "MMRV"}]
    trusted = {**plain, "metric": "AUROC", "value": 0.9, "low": 0.8, "high": 0.95, "signal": "latents"}
    return {
        "fidelity": {"rows": [*followed, {**plain, "metric": "judging steps", "value": 99}]},
        "ranking": {"rows": rows, "details": {"panel": panel}},
        "trust": {"rows": [trusted], "details": {"reading": "it knows"}},
    }


def episodes() -> list[dict[str, str]]:
    return [{"policy": f"p{i}", "seed": str(s), "truth_return": str(i + s), "dream_return": str(i + s + 0.5)}
            for i in range(2) for s in range(3)]  # fmt: skip


def table(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["policy", "seed", "truth_return", "dream_return"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def tables() -> dict[str, tuple[bytes, bool]]:
    found: dict[str, tuple[bytes, bool]] = {"no rows": (table([]), True), "empty": (b"", True)}
    for column in ("policy", "seed", "truth_return", "dream_return"):
        for value in ("nan", "inf", "-inf", "x", "", "1e400", "1e300", "0x10", "1_0", "\x00", "9" * 5000, "-1"):
            rows = episodes()
            rows[-1][column] = value
            found[f"{column} = {value[:20]!r}"] = table(rows), not (value == "-1" and "return" in column)
        found[f"{column} missing"] = table([{k: v for k, v in row.items() if k != column} for row in episodes()]), True
    whole = table(episodes())
    found["a row twice"] = table([*episodes(), episodes()[0]]), True
    found["a policy missing"] = table(episodes()[:3]), True
    found["a row short"] = whole.rstrip().rsplit(b",", 1)[0], True
    found["a row long"] = whole.rstrip() + b",1,2\n", True
    found["no text"] = b"\xff\xfe" + whole, True
    found["a quote"] = whole + b'"', True
    return found


def prepared(folder: Path) -> Path:
    run = folder / "run"
    for name in ("policy", "evaluation", "benchmarks"):
        (run / name).mkdir(parents=True, exist_ok=True)
    (run / "metrics.json").write_text(json.dumps(metrics()))
    (run / "policy" / "training.json").write_text(json.dumps(log()))
    for name, document in results().items():
        (run / "benchmarks" / f"{name}.json").write_text(json.dumps(document))
    (run / "benchmarks" / "ranking.csv.gz").write_bytes(gzip.compress(table(episodes()), mtime=0))
    for name in ("evaluation/sweep.png", "benchmarks/trust.png"):
        Image.new("RGB", (8, 8)).save(run / name)
    for name in metrics()["films"].values():
        film(run / "evaluation" / name)
    write_report(run)
    return run


def page(run: Path, path: Path, content: bytes) -> None:
    with holding(path, content):
        write_report(run)


def wrong(path, kind):
    if FREE & set(path) and not (path[-1] in FREE and kind == "type"):
        return kind == "type" and "panel" in path and path[-1] in ("policy", "family")
    if kind in ("missing", "unknown"):
        return kind == "missing" and path[-1] not in MAYBE
    if kind == "vast":
        return path[-1] in VAST_WRONG
    return kind == "type" and path[-1] not in (FREE | {"dream_return", "dream_length", "signal"})


def cases(folder: Path) -> list[Case]:
    run = prepared(folder)
    made: list[Case] = []
    for name, count in (("metrics.json", 420), ("policy/training.json", 150), ("benchmarks/fidelity.json", 90),
                        ("benchmarks/ranking.json", 90), ("benchmarks/trust.json", 60)):  # fmt: skip
        path = run / name
        document = json.loads(path.read_text())
        found = [Case(f"{name}: {said}", partial(page, run, path, text), bad and not same(document, text))
                 for said, text, bad in json_texts(document, wrong)]  # fmt: skip
        made += drawn(found, count, 11)
    path = run / "benchmarks" / "ranking.csv.gz"
    made += [Case(f"ranking.csv: {said}", partial(page, run, path, gzip.compress(content)), bad)
             for said, (content, bad) in tables().items()]  # fmt: skip
    content = path.read_bytes()
    made += [
        Case(f"ranking.csv.gz: {said}", partial(page, run, path, spoilt), said[:3] == "cut" and spoilt != content)
        for said, spoilt in (*flips(content, 15, 12), *cuts(content))
    ]
    for name in ("evaluation/comparison.mp4", "evaluation/sweep.png", "benchmarks/trust.png"):
        path = run / name
        content = path.read_bytes()
        made += [Case(f"{name}: {said}", partial(page, run, path, spoilt), said in ("cut after 0 bytes", "text"))
                 for said, spoilt in (*flips(content, 15, 12), *cuts(content), ("text", b"x" * 999))]  # fmt: skip
    return made


def same(document, text: bytes) -> bool:
    try:
        return json.loads(text) == document
    except (ValueError, RecursionError):
        return False
