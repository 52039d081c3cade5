"""How well what is planted is found: areas under the ROC curve, cuts and duplicates, each as rows of a result."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from procosm.benchmarks.dream.curation.planted import COPIES, FAULTS
from procosm.benchmarks.dream.curation.recordings import Recording
from procosm.world_model.curation.agreement import ActionModel
from procosm.world_model.curation.curate import CurateConfig
from procosm.world_model.curation.dedup import embed, embed_actions, find_duplicates
from procosm.world_model.curation.filter import FilterConfig, measure_actions, measure_pictures, reasons
from procosm.world_model.curation.inverse import Sample, small
from procosm.world_model.curation.split import SplitConfig, find_cuts
from procosm.world_model.data.episodes import Episode

Row = dict[str, Any]
PICTURE_FAULTS: dict[str, Callable[[dict[str, float]], float]] = {
    "frozen": lambda s: s["frozen"],
    "shaky": lambda s: s["shake"],
    "blurred": lambda s: s["blur"],
    "dark": lambda s: -s["brightness"],
}
LIMITS = FilterConfig()
SHOTS = 60


def auroc(bad: Sequence[float], good: Sequence[float]) -> float:
    """Probability that a bad clip scores above a good one, ties counted half."""
    above = np.subtract.outer(np.array(bad), np.array(good))
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def picture_faults(recordings: Sequence[Recording], seed: int) -> list[Row]:
    """Each fault of the picture against the same clips without it, over all tasks: limits have to hold for all."""
    rng = np.random.default_rng(seed)
    clips = [(r.task, *each) for r in recordings for each in r.episodes]
    good = [_scores(*clip) for clip in clips]
    rows = [_row("good clips that are dropped", np.mean([bool(reasons(s, LIMITS)) for s in good]), seed, len(good))]
    for fault, score in PICTURE_FAULTS.items():
        bad = [_scores(task, *FAULTS[fault](frames, actions, rng)) for task, frames, actions in clips]
        found = auroc([score(s) for s in bad], [score(s) for s in good])
        rows.append(_row(f"{fault} clips, AUROC", found, seed, 2 * len(clips)))
        rows.append(
            _row(f"{fault} clips that are dropped", np.mean([bool(reasons(s, LIMITS)) for s in bad]), seed, len(bad))
        )
    return rows


def _scores(task: Any, frames: np.ndarray, actions: np.ndarray) -> dict[str, float]:
    return measure_pictures(Episode(frames, actions, False, "train"), task)[0]


def action_faults(recording: Recording, seed: int) -> list[Row]:
    """Late, early and shuffled actions among good clips of one task; the model learns from all of them together."""
    rng = np.random.default_rng(seed)
    count = len(recording.episodes)
    each = count // 5
    kinds = rng.permutation(["time-skewed"] * each + ["action-shuffled"] * each + ["good"] * (count - 2 * each))
    clips = [
        (frames, actions) if kind == "good" else FAULTS[kind](frames, actions, rng)
        for kind, (frames, actions) in zip(kinds, recording.episodes, strict=True)
    ]
    samples = [(str(index), Sample(small(frames), actions)) for index, (frames, actions) in enumerate(clips)]
    model = ActionModel.learn(samples, clips[0][1].shape[1])
    task, rows = recording.task.id, []
    told = {"least": model.told.min(), "mean": model.told.mean(), "best": model.told.max()}
    for name, value in told.items():
        rows.append(_row(f"correlation of actions with what frames tell, {name}", value, seed, model.told.size, task))
    power = model.rate * len(clips[0][1]) ** 0.5
    rows.append(_row("clips that answer stand out by, expected", power, seed, count, task) | {"unit": "std"})
    answers = [model.judge(str(index), *clip) for index, clip in enumerate(clips)]
    if any(answer is None for answer in answers):
        return rows
    for kind, name in (("time-skewed", "gain"), ("action-shuffled", "agreement")):
        sign = -1 if name == "agreement" else 1
        values = {
            k: [sign * getattr(a, name) for a, q in zip(answers, kinds, strict=True) if q == k] for k in set(kinds)
        }
        rows.append(_row(f"{kind} clips, AUROC", auroc(values[kind], values["good"]), seed, count - each, task))
    for kind in ("good", "time-skewed", "action-shuffled"):
        judged = [measure_actions(a, np.zeros(1), 1.0) for a, q in zip(answers, kinds, strict=True) if q == kind]
        dropped = [bool(reasons(scores, LIMITS)) for scores in judged]
        rows.append(
            _row(f"{kind} clips that are dropped for their actions", np.mean(dropped), seed, len(dropped), task)
        )
    return rows


def cuts(recordings: Sequence[Recording], seed: int) -> list[Row]:
    """Shots of different scenes joined to films, and, for honesty, jumps within one scene."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, within in (("cuts between scenes", False), ("jumps within a scene", True)):
        hits = found = planted = 0
        for _ in range(SHOTS):
            film, truth = _film(recordings, rng, within)
            got = set(find_cuts(film, SplitConfig()))
            hits, found, planted = hits + len(got & truth), found + len(got), planted + len(truth)
        precision, recall = hits / max(1, found), hits / max(1, planted)
        rows += [
            _row(f"{name}, precision", precision, seed, found),
            _row(f"{name}, recall", recall, seed, planted),
            _row(f"{name}, F1", 2 * hits / max(1, found + planted), seed, planted),
        ]
    return rows


def _film(recordings: Sequence[Recording], rng: np.random.Generator, within: bool) -> tuple[np.ndarray, set[int]]:
    """One to four shots of 16 to 45 frames, and the frames with which all but the first begin."""
    scene, parts = int(rng.integers(len(recordings))), list[np.ndarray]()
    for _ in range(int(rng.integers(1, 5))):
        if not within and parts:
            scene = int(rng.choice([index for index in range(len(recordings)) if index != scene]))
        episodes = recordings[scene].episodes
        frames, length = episodes[int(rng.integers(len(episodes)))][0], int(rng.integers(16, 46))
        begin = int(rng.integers(len(frames) - length + 1))
        parts.append(frames[begin : begin + length])
    begins = np.cumsum([len(part) for part in parts])[:-1]
    return np.concatenate(parts), set(begins.tolist())


def duplicates(recordings: Sequence[Recording], seed: int) -> list[Row]:
    """Every clip of every task, and one copy of each, recoloured, cropped or coded again in turn."""
    rng = np.random.default_rng(seed)
    clips = [each for r in recordings for each in r.episodes]
    kinds = [list(COPIES)[index % len(COPIES)] for index in range(len(clips))]
    copies = [COPIES[kind](frames, rng) for kind, (frames, _) in zip(kinds, clips, strict=True)]
    embedded = np.stack([embed(frames) for frames in [*(f for f, _ in clips), *copies]])
    widest = max(actions.shape[1] for _, actions in clips)
    wide = [np.pad(actions, ((0, 0), (0, widest - actions.shape[1]))) for _, actions in clips]
    acted = np.stack([embed_actions(actions) for actions in [*wide, *wide]])
    rows = []
    everyone = np.ones((len(embedded), 1), np.float32)
    for name, actions, likeness in (
        ("duplicates", acted, CurateConfig.likeness),
        ("duplicates by pictures alone, cosine 0.75", everyone, 0.75),
    ):
        found = find_duplicates(embedded, actions, [0] * len(clips) + [1] * len(copies), likeness)
        right = [each for each in found if each.clip == each.original + len(clips)]
        rows += [
            _row(f"{name}, precision", len(right) / max(1, len(found)), seed, len(found)),
            _row(f"{name}, recall", len(right) / len(copies), seed, len(copies)),
        ]
        for kind in COPIES:
            hits = sum(kinds[each.original] == kind for each in right)
            rows.append(_row(f"{name}, recall of {kind}", hits / kinds.count(kind), seed, kinds.count(kind)))
    return rows


def _row(metric: str, value: Any, seed: int, n: int, task: str = "all") -> Row:
    return {"metric": metric, "task": task, "value": round(float(value), 4), "unit": "1", "seed": seed, "n": n}
