"""``procosm guard``: prompts, recordings and dreams judged in one go, with every reason written down."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from procosm.world_model.curation.engine import EngineConfig
from procosm.world_model.data.logs import Logs, LogsConfig, open_logs, read_log
from procosm.world_model.data.video_stream import encode_part
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_bytes, write_json
from procosm.world_model.folders import check_apart, check_out
from procosm.world_model.guardrails.faces import FaceBlur
from procosm.world_model.guardrails.frames import Familiarity, check_video, join
from procosm.world_model.guardrails.prompts import PromptGuard, Verdict, read_blocklist
from procosm.world_model.progress import Progress

QUALITY = 16
"""Of videos whose faces were covered: H.264's constant rate factor."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig(EngineConfig):
    """What to judge, and by what."""

    prompt: str = ""
    """A text that a robot or a world model is asked with."""
    data: Path | None = None
    """Recordings: a dataset, shards, or logs of any format that procosm ingest reads."""
    world_model: Path | None = None
    """Checkpoint whose tokenizer says whether it knows what recordings show."""
    blocklist: Path | None = None
    """Words to refuse in place of those that come with procosm: lemmas, one a line, under [category] headings."""
    fps: Annotated[float, Gt(0)] | None = None
    """Frames per second of recordings that do not say."""
    faces: bool = True
    """Find faces, and cover them in a copy."""
    out: Path = Path("runs/guard")
    """Folder for guard.json and the copies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt and self.data is None:
            raise ProcosmError("there is nothing to judge: give --prompt, --data or both")
        if self.world_model is not None and self.data is None:
            raise ProcosmError("--world-model judges recordings, and there are none: give --data, too")


def guard(config: GuardConfig) -> Path:
    """Judge a prompt and recordings; returns ``OUT/guard.json``.

    Raises:
        ProcosmError: something is refused; the file says what and why. Or ``out`` and the recordings lie one in the
            other.
    """
    if config.data is not None:
        check_apart(config.out, config.data)  # a covered copy is called as its recording is
    check_out(config.out)
    prompts = PromptGuard(read_blocklist(config.blocklist)) if config.blocklist else PromptGuard()
    found: dict[str, Any] = {"prompt": _told(prompts.judge(config.prompt)), "recordings": {}}
    if config.data is not None:
        found["recordings"] = _judge_recordings(config, prompts)
    write_json(config.out / "guard.json", found)
    refused = [name for name, each in found["recordings"].items() if not each["passed"]]
    if not found["prompt"]["passed"]:
        raise ProcosmError(f"the prompt is refused: {'; '.join(found['prompt']['reasons'])}")
    if refused:
        first = "; ".join(found["recordings"][refused[0]]["reasons"])
        raise ProcosmError(
            f"{len(refused)} of {len(found['recordings'])} recordings are refused, first {refused[0]}: {first}. "
            f"{config.out / 'guard.json'} has all reasons"
        )
    return config.out / "guard.json"


@dataclass(frozen=True)
class _Judge:
    """Judges recordings, here or in another process."""

    logs: Logs
    prompts: PromptGuard
    familiar: Familiarity | None
    blur: FaceBlur | None

    def __call__(self, name: str) -> list[tuple[str, dict[str, Any], bytes]]:
        """What is said of a recording, and its film with the faces covered, empty where there are none."""
        film = b""
        try:
            episode = read_log(self.logs, name).episode
            verdicts = [self.prompts.judge(episode.text), check_video(episode.frames, episode.actions)]
            verdicts += [self.familiar.check(episode.frames)] if self.familiar else []
            found = _told(join(verdicts))
            if self.blur is not None:
                covered, faces = self.blur.cover(episode.frames)
                found["faces"] = len(faces)
                if faces:
                    film = encode_part(covered, self.logs.task.dt_s, QUALITY)
        except Exception as error:  # what could not be judged does not pass, whatever went wrong
            found = _told(Verdict(False, (f"it could not be judged ({type(error).__name__}: {error})",)))
        return [(name, found, film)]


def _judge_recordings(config: GuardConfig, prompts: PromptGuard) -> dict[str, dict[str, Any]]:
    assert config.data is not None
    logs = open_logs(LogsConfig(data=config.data, fps=config.fps))
    familiar = _familiarity(config.world_model) if config.world_model else None
    judge = _Judge(logs, prompts, familiar, FaceBlur() if config.faces else None)
    judged: dict[str, dict[str, Any]] = {}
    with Progress(len(logs.names), "recordings judged", "recordings") as bar:
        for name, found, film in config.engine().stream(logs.names, judge, in_order=True):
            judged[name] = found
            if film:
                write_bytes(config.out / film_name(name), film)
            bar.update(1)
    return judged


def film_name(recording: str) -> str:
    """The file name of a recording's covered copy, in one folder: no two recordings have the same one."""
    return f"{recording.replace('%', '%25').replace('/', '%2F')}.mp4"


def _familiarity(folder: Path) -> Familiarity:
    """What a checkpoint's tokenizer knows, from the frames that its dreams begin with."""
    from procosm.world_model import checkpoint

    model = checkpoint.load(folder)
    frames = model.start_frames.flatten(0, 1).cpu().numpy()
    return Familiarity(model.tokenizer, frames[np.unique(np.linspace(0, len(frames) - 1, 256).round().astype(int))])


def _told(verdict: Verdict) -> dict[str, Any]:
    return {"passed": verdict.passed, "reasons": list(verdict.reasons)}
