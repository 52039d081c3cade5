"""``curation.html``: what was dropped and why, with pictures, in one page that loads nothing from elsewhere."""

import base64
import html
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from procosm.world_model.curation.quality import spread
from procosm.world_model.curation.records import Clip, LogRecord
from procosm.world_model.curation.stages import Stages, cut
from procosm.world_model.data.logs import read_log
from procosm.world_model.errors import DatasetError
from procosm.world_model.files import write_bytes

SHOWN = 6
"""Clips shown for each reason."""
PICTURES, HEIGHT = 4, 72
"""Pictures of a clip, and their height in pixels."""
STYLE = Path(__file__).with_name("gallery.css")


@dataclass(frozen=True)
class Outcome:
    """What came of a run: every log's record, the clips that are kept, and those that are dropped."""

    records: list[LogRecord]
    kept: list[Clip]
    dropped: list[Clip]

    @property
    def refused(self) -> list[LogRecord]:
        """Logs that could not be read."""
        return [record for record in self.records if record.refused]

    def why(self) -> dict[str, list[Clip]]:
        """Dropped clips by their first reason, the most frequent first."""
        groups: dict[str, list[Clip]] = {}
        for clip in self.dropped:
            groups.setdefault(_word(clip.reasons[0]), []).append(clip)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))

    def summary(self) -> dict:
        """The numbers of a run as JSON values."""
        seconds: Counter[str] = Counter()
        for record in self.records:
            seconds.update(record.seconds)
        clips = len(self.kept) + len(self.dropped)
        return {
            "logs": len(self.records),
            "refused": {record.source: record.refused for record in self.refused},
            "clips": clips,
            "kept": len(self.kept),
            "kept_steps": sum(clip.last - clip.first for clip in self.kept),
            "held_out": sum(clip.kind == "holdout" for clip in self.kept),
            "too_short": sum(len(record.short) for record in self.records),
            "not_judged_by_actions": sum("agreement" not in clip.scores for clip in [*self.kept, *self.dropped]),
            "dropped": {reason: len(group) for reason, group in self.why().items()},
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "clips_per_second": {name: round(clips / value, 2) for name, value in seconds.items() if value > 0},
            "megabytes": round(sum(record.bytes for record in self.records) / 1e6, 1),
        }

    def told(self) -> str:
        """The numbers of a run in a sentence."""
        found = self.summary()
        reasons = ", ".join(f"{count} {reason}" for reason, count in found["dropped"].items())
        unjudged = found["not_judged_by_actions"] or "none"
        return (
            f"{found['logs']} logs ({len(found['refused'])} refused) gave {found['clips']} clips; {found['kept']} are "
            f"kept, {found['kept_steps']} steps; too short: {found['too_short'] or 'none'}; dropped: "
            f"{reasons or 'none'}; not judged by their actions: {unjudged}"
        )


def _word(reason: str) -> str:
    """A reason without its number: what many clips share."""
    return reason.partition(" (")[0].partition(" of ")[0]


def write_gallery(path: Path, outcome: Outcome, stages: Stages, source: str) -> None:
    """Write the page; pictures are read from the logs again, a few for each reason."""
    found = outcome.summary()
    rows = [
        ("logs", found["logs"]),
        ("logs refused", len(found["refused"])),
        ("pieces too short", found["too_short"]),
        ("clips", found["clips"]),
        ("clips not judged by their actions, which frames do not tell well enough", found["not_judged_by_actions"]),
        ("clips kept", found["kept"]),
        ("of these held out", found["held_out"]),
        ("steps kept", found["kept_steps"]),
    ]
    parts = [
        f"<h1>Curation of {html.escape(source)}</h1>",
        _table("What came of it", rows),
        _bars(outcome),
        _table("Seconds of work by stage", [(k, f"{v:.1f} s, {found['clips_per_second'].get(k, 0):.1f} clips/s")
                                            for k, v in found["seconds"].items()]),
        _section("Kept", outcome.kept[:: max(1, len(outcome.kept) // SHOWN)][:SHOWN], stages),
    ]  # fmt: skip
    parts += [_section(reason, clips, stages) for reason, clips in outcome.why().items()]
    if outcome.refused:
        parts.append(_table("Logs that could not be read", [(r.source, r.refused) for r in outcome.refused]))
    style = STYLE.read_text(encoding="utf-8")
    page = (
        f"<!doctype html><meta charset=utf-8><title>Curation</title><style>{style}</style><main>{''.join(parts)}</main>"
    )
    write_bytes(path, page.encode())


def _table(title: str, rows: list[tuple]) -> str:
    cells = "".join(f"<tr><th>{html.escape(str(a))}<td>{html.escape(str(b))}" for a, b in rows)
    return f"<h2>{html.escape(title)}</h2><table>{cells}</table>"


def _bars(outcome: Outcome) -> str:
    """How many clips each reason dropped, as bars against all clips."""
    total = max(1, len(outcome.kept) + len(outcome.dropped))
    groups = [("kept", len(outcome.kept)), *((reason, len(clips)) for reason, clips in outcome.why().items())]
    bars = "".join(
        f"<tr><th>{html.escape(reason)}<td><i style='width:{100 * count / total:.1f}%'></i> {count}"
        for reason, count in groups
    )
    return f"<h2>Clips by what became of them</h2><table class=bars>{bars}</table>"


def _section(title: str, clips: list[Clip], stages: Stages) -> str:
    shown = "".join(_card(clip, stages) for clip in clips[:SHOWN])
    count = f" <small>{len(clips)} clips, {min(SHOWN, len(clips))} shown</small>" if title != "Kept" else ""
    return f"<h2>{html.escape(title)}{count}</h2><div class=cards>{shown}</div>"


def _card(clip: Clip, stages: Stages) -> str:
    """One clip: pictures, where it comes from, why it was dropped, and what was measured."""
    scores = ", ".join(f"{name} {value:.3g}" for name, value in sorted(clip.scores.items()))
    why = html.escape("; ".join(clip.reasons) or clip.caption)
    return (
        f"<figure>{_strip(clip, stages)}<figcaption><b>{why}</b><br>{html.escape(clip.source)}, frames {clip.first} to "
        f"{clip.last}<br><small>{html.escape(scores)}</small></figcaption></figure>"
    )


def _strip(clip: Clip, stages: Stages) -> str:
    """A few frames of a clip side by side, as a picture in the page itself."""
    try:
        episode, _ = cut(read_log(stages.logs, clip.source), clip.span)
    except DatasetError:
        return "<p>its log cannot be read any more</p>"
    strip = Image.fromarray(np.concatenate(list(spread(episode.frames, PICTURES)), axis=1))
    strip = strip.resize((round(strip.width * HEIGHT / strip.height), HEIGHT))
    memory = io.BytesIO()
    strip.save(memory, "JPEG", quality=85)
    content = base64.b64encode(memory.getvalue()).decode()
    return f"<img alt='frames of {html.escape(clip.key)}' src='data:image/jpeg;base64,{content}'>"
