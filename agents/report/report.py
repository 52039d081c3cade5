"""One page that shows a run: the result first, then how far to trust it. It asks the network for nothing."""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from procosm.agents.judge.measurements import judge_again, read_metrics
from procosm.agents.policy.training_log import read_log
from procosm.agents.report.measured import measured_sections
from procosm.agents.report.result_files import read_film, read_picture
from procosm.agents.report.sections import (
    dream,
    headline,
    honest_limits,
    provenance_table,
    resources,
    returns_section,
    training,
)
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_bytes
from procosm.world_model.folders import check_out

STYLE = Path(__file__).with_name("page.css")

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""Content-Security-Policy of the page: even a mistake of ours could load nothing from elsewhere."""


@dataclass(frozen=True)
class ReportConfig:
    """Which run the page is about."""

    run: Path
    """Run folder that has been evaluated."""
    results: Path | None = None
    """Folder of benchmark results; those about this run's task are shown beside RUN/benchmarks."""


def write_report(run: Path, results: Path | None = None) -> Path:
    """Write ``RUN/report.html`` from ``RUN/metrics.json``, the training log, the films and what benchmarks measured.

    Raises:
        CheckpointError: the run has not been evaluated, or a file of it is damaged.
        ProcosmError: its folder cannot be written.
    """
    check_out(run)
    if results is not None and not results.is_dir():
        raise ProcosmError(f"--results {results} is no folder: give one with results of benchmarks, or leave it out")
    metrics = read_metrics(run / "metrics.json", run)
    log = read_log(run / "policy") if "policy" in metrics else None
    body, title = _body(run, metrics, log, results), f"return of {metrics['task']}"
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>procosm: {escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
    write_bytes(run / "report.html", page.encode())
    return run / "report.html"


def _body(run: Path, metrics: dict[str, Any], log: dict[str, Any] | None, results: Path | None) -> str:
    films = {name: film(run / "evaluation" / file, judge_again(run)) for name, file in metrics["films"].items()}
    return "\n".join(
        (
            headline(metrics),
            _wide(
                films["comparison"],
                "Held-out episodes: MuJoCo, the dream under the same actions, and how far they differ.",
            ),
            returns_section(metrics) if "returns" in metrics else "",
            _pair(films) if "policy_mujoco" in films else "",
            _sweep(run, metrics),
            dream(metrics),
            *measured_sections(run, metrics["task"], results),
            training(log, metrics) if log is not None else "",
            resources(metrics),
            honest_limits(metrics),
            provenance_table(metrics),
        )
    )


def film(path: Path, advice: str) -> str:
    """A video element that holds its mp4 and, as its poster, the picture from the middle."""
    content, middle = read_film(path, advice)
    poster = io.BytesIO()
    middle.save(poster, format="JPEG", quality=80)
    return (
        f'<video controls loop muted playsinline preload="metadata" width="{middle.width}" '
        f'height="{middle.height}" poster="data:image/jpeg;base64,{_base64(poster.getvalue())}">'
        f'<source type="video/mp4" src="data:video/mp4;base64,{_base64(content)}"></video>'
    )


def _sweep(run: Path, metrics: dict[str, Any]) -> str:
    """The action sweep; nothing for a run judged by a version that did not draw it."""
    if "sweep" not in metrics:
        return ""
    content = _base64(read_picture(run / "evaluation" / metrics["sweep"]["file"], judge_again(run)))
    return (
        "<h2>Does it do what it is told?</h2><p>From one real frame, the same action over and over: MuJoCo above, the "
        "dream below, each until it holds the episode for ended.</p>"
        f'<figure><img alt="frames by step for each constant action" src="data:image/png;base64,{content}"></figure>'
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _wide(video: str, caption: str) -> str:
    return f"<figure>{video}<figcaption>{escape(caption)}</figcaption></figure>"


def _pair(films: dict[str, Any]) -> str:
    return (
        '<div class="two small">'
        + _wide(films["policy_mujoco"], "The policy in MuJoCo, from pixels alone, at most 30 pictures a second.")
        + _wide(films["policy_dream"], "The same policy in the dream, from the same first frame.")
        + "</div>"
    )
