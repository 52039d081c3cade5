"""The pipeline: logs of any format to training shards, resumable after a kill at any moment."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval

from procosm.world_model.curation import dedup
from procosm.world_model.curation.agreement import ActionModel
from procosm.world_model.curation.annotate import Captioner, TemplateCaptioner
from procosm.world_model.curation.engine import Engine, EngineConfig
from procosm.world_model.curation.filter import FilterConfig
from procosm.world_model.curation.gallery import Outcome, write_gallery
from procosm.world_model.curation.inverse import Sample, small
from procosm.world_model.curation.records import Clip, LogRecord, Manifest, unpacked
from procosm.world_model.curation.shard import Plan, plan_shards, write_index, write_shard
from procosm.world_model.curation.split import SplitConfig
from procosm.world_model.curation.stages import Piece, Stages, cut, split_log
from procosm.world_model.curation.vision_language import VisionLanguageCaptioner
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.logs import Logs, LogsConfig, held_out, open_logs, read_log
from procosm.world_model.data.shards import ShardJson
from procosm.world_model.errors import DatasetError, ProcosmError
from procosm.world_model.files import read_json, write_json
from procosm.world_model.folders import check_apart, check_out
from procosm.world_model.lock import lock
from procosm.world_model.progress import Progress
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count, Seed, Share

OURS = ("index.json", "curation.html", "curation.json", "provenance.json", "manifest")


@dataclass(frozen=True, kw_only=True)
class CurateConfig(LogsConfig, EngineConfig):
    """What to curate, how, and where to put it."""

    out: Path
    """Folder for the shards and the page about them; the same command goes on with what is there."""
    holdout: Annotated[float, Interval(ge=0, le=0.5)] = 0.1
    """Share of the logs that is kept from training, to judge by."""
    quality: Annotated[int, Interval(ge=0, le=51)] = 0
    """Of the video in shards: 0 keeps every pixel, 1 (best) to 51 is H.264's constant rate factor."""
    clips_per_shard: Count = 256
    """Clips of one shard at the most."""
    likeness: Share = 0.5
    """Cosine of two clips' embeddings from which on one of them is a duplicate, if their actions agree, too."""
    action_logs: Annotated[int, Interval(ge=0, le=1000)] = 64
    """Logs from which it is learned how frames answer to actions; 0: logs are not judged by their actions."""
    captioner: Path | None = None
    """Folder of a vision-language model (transformers) that captions clips; by default the task makes a sentence."""
    seed: Seed = 0
    """Of everything drawn."""
    split: SplitConfig = field(default_factory=SplitConfig)
    limits: FilterConfig = field(default_factory=FilterConfig)


def curate(config: CurateConfig, captioner: Captioner | None = None) -> Path:
    """Split, filter, annotate, remove duplicates, and write shards; returns their folder.

    Killed at any moment, the same command goes on: what is measured of a log is written down once and for all, and a
    shard is there whole or not at all.

    Args:
        captioner: puts clips into words; by default that of ``config.captioner``.

    Raises:
        ProcosmError: settings that contradict what is there, logs that cannot be read, nothing left to keep.
    """
    check_apart(config.out, config.data)
    work = config.out / "manifest"
    begun = (work / "settings.json").exists()  # else tars are somebody's, and not to be cleared away
    check_out(config.out, lambda name: name in OURS or (begun and name.endswith((".tar", ".json"))))
    logs = open_logs(config)
    if captioner is None and config.captioner is not None:
        captioner = VisionLanguageCaptioner(config.captioner).checked()
    with lock(work / "lock", config.out):
        _check_settings(work / "settings.json", config, logs)
        stages = Stages(
            logs, config.split, config.limits, _action_model(work, logs, config), captioner or TemplateCaptioner()
        )
        engine = config.engine()
        manifest = Manifest(work / "logs.jsonl")
        _measure(engine, stages, manifest)
        records = [manifest.done[name] for name in logs.names]
        outcome = choose(records, config)
        shards = _write_shards(engine, stages, outcome, config)
        write_index(config.out, logs.task, shards)
        write_json(config.out / "provenance.json", provenance({"curate": config}))
        write_json(config.out / "curation.json", outcome.summary())
        write_gallery(config.out / "curation.html", outcome, stages, str(config.data))
    print(outcome.told())
    return config.out


def _measure(engine: Engine, stages: Stages, manifest: Manifest) -> None:
    """Bring the manifest up to date: every log read, cut and measured."""
    names = stages.logs.names
    todo = [name for name in names if name not in manifest.done]
    with Progress(len(names), "logs measured", "logs", len(names) - len(todo)) as bar:
        totals: Counter[str] = Counter()
        for record in collect(engine.stream(todo, stages.read, stages.measure, stages.describe)):
            manifest.add(record)
            totals.update({"clips": len(record.clips), **record.seconds})
            bar.update(1)
            bar.show(
                {name: value for name, value in totals.items() if name != "clips"}, 1, f"{totals['clips']:g} clips"
            )


def collect(pieces: Iterable[Piece]) -> Iterator[LogRecord]:
    """Pieces in any order to the record of each log, once the last of its pieces has come."""
    waiting: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        found = waiting[piece.log.source]
        found.append(piece)
        if len(found) == piece.count:
            clips = sorted((each.clip for each in found if each.clip), key=lambda clip: clip.first)
            seconds: Counter[str] = Counter()
            for each in found:
                seconds.update(each.seconds)
            yield replace(piece.log, clips=clips, seconds=dict(seconds))
            del waiting[piece.log.source]


def choose(records: list[LogRecord], config: CurateConfig) -> Outcome:
    """Which clips are kept: those that no filter dropped and that repeat no better one."""
    passed = [clip for record in records for clip in record.clips if not clip.reasons]
    dropped = [clip for record in records for clip in record.clips if clip.reasons]
    copies = {}
    if passed:
        rank = [(round(clip.scores["blur"] * 20), clip.first - clip.last) for clip in passed]
        seen = np.stack([unpacked(clip.embedding) for clip in passed])
        acted = np.stack([unpacked(clip.acted) for clip in passed])
        found = dedup.find_duplicates(seen, acted, rank, config.likeness, config.seed)
        copies = {each.clip: (passed[each.original].key, each.likeness) for each in found}
    for index, (original, likeness) in copies.items():
        dropped.append(replace(passed[index], reasons=[f"duplicate of {original} ({likeness:.2f})"]))
    kept = [clip for index, clip in enumerate(passed) if index not in copies]
    sources = list(dict.fromkeys(clip.source for clip in kept))
    apart = held_out(sources, config.holdout)
    kept = [replace(c, kind="holdout") if c.source in apart and c.kind == "train" else c for c in kept]
    return Outcome(records, kept, sorted(dropped, key=lambda clip: clip.key))


def _write_shards(engine: Engine, stages: Stages, outcome: Outcome, config: CurateConfig) -> list[ShardJson]:
    """Every shard of the kept clips."""
    if not outcome.kept:
        raise DatasetError(
            f"nothing is left of {config.data}: {outcome.told()}. Move the limits (--split.shortest, --limits.*), and "
            "give another --out"
        )
    plans = plan_shards(outcome.kept, stages.logs.task, config.clips_per_shard)
    wanted = {plan.name for plan in plans}
    for path in config.out.glob("*.tar"):
        if path.name not in wanted:  # of a run with other logs or limits
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)

    def write(plan: Plan) -> list[ShardJson]:
        return [write_shard(config.out, plan, stages.logs.task, _Reader(stages), config.quality)]

    with Progress(len(plans), "shards written", "shards") as bar:
        found = []
        for shard in engine.stream(plans, write):
            found.append(shard)
            bar.update(1)
    return sorted(found, key=lambda shard: shard["name"])


class _Reader:
    """Gives the clips of a log one after the other and reads the log once."""

    def __init__(self, stages: Stages) -> None:
        self._stages, self._name, self._log = stages, "", None

    def __call__(self, clip: Clip) -> Episode:
        if self._log is None or self._name != clip.source:
            self._name, self._log = clip.source, read_log(self._stages.logs, clip.source)  # type: ignore[assignment]
        assert self._log is not None
        episode, _ = cut(self._log, clip.span)
        return replace(episode, kind=clip.kind)


def _action_model(work: Path, logs: Logs, config: CurateConfig) -> ActionModel:
    """How frames answer to actions in these logs, learned from a sample of them, once."""
    path, size = work / "actions.safetensors", len(logs.task.action_low)
    if path.exists():
        return ActionModel.load(path)
    model = ActionModel.learn(_samples(logs, config), size)
    model.save(path)
    return model


def _samples(logs: Logs, config: CurateConfig) -> Iterator[tuple[str, Sample]]:
    """The longest shot of each of some logs, evenly chosen; damaged ones are left to be refused later."""
    chosen = np.unique(np.linspace(0, len(logs.names) - 1, config.action_logs).round().astype(int))
    for index in chosen.tolist():
        try:
            log = read_log(logs, logs.names[index])
        except DatasetError:
            continue
        spans, _ = split_log(log, logs.task.dt_s, config.split)
        if spans:
            episode, _ = cut(log, max(spans, key=lambda span: span.count))
            yield log.name, Sample(small(episode.frames), episode.actions)


def _check_settings(path: Path, config: CurateConfig, logs: Logs) -> None:
    """Refuse to go on with other settings than those with which a run began; where it runs may change."""
    free = {"out", "workers", "ray_address"}
    asked: dict[str, Any] = {k: v for k, v in asdict(config).items() if k not in free}
    settings = {
        k: _place(v) if isinstance(v, Path) else {n: str(x) for n, x in v.items()} if isinstance(v, Mapping) else str(v)
        for k, v in asked.items()
    }
    settings["logs"] = str(len(logs.names))
    if not path.exists():
        write_json(path, settings)
        return
    before = read_json(path, "delete the folder around it, and run the same command again")
    for name in asked:  # earlier versions wrote paths as they were typed
        if isinstance(asked[name], Path) and isinstance(before.get(name), str):
            before[name] = _place(Path(before[name]))
    differing = [name for name, value in settings.items() if before.get(name) != value]
    if differing:
        said = ", ".join(f"{name} was {before.get(name)} and is {settings[name]}" for name in differing)
        raise ProcosmError(f"{config.out} was begun with other settings ({said}): give another --out, or delete it")


def _place(path: Path) -> str:
    """A path as it is called from anywhere."""
    return str(path.expanduser().resolve())
