"""``procosm guard``: prompts, recordings and dreams judged in one go, with every reason written down."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from procosm.world_model.data.logs import LogsConfig, open_logs, read_log
from procosm.world_model.data.video_stream import encode_part
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_bytes, write_json
from procosm.world_model.folders import check_out
from procosm.world_model.guardrails.faces import FaceBlur
from procosm.world_model.guardrails.frames import Familiarity, check_video, join
from procosm.world_model.guardrails.prompts import PromptGuard, Verdict, read_blocklist
from procosm.world_model.progress import Progress
from procosm.world_model.settings import Settings

QUALITY = 16
"""Of videos whose faces were covered: H.264's constant rate factor."""


@dataclass(frozen=True)
class GuardConfig(Settings):
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


def guard(config: GuardConfig) -> Path:
    """Judge a prompt and recordings; returns ``OUT/guard.json``.

    Raises:
        ProcosmError: something is refused; the file says what and why.
    """
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


def _judge_recordings(config: GuardConfig, prompts: PromptGuard) -> dict[str, dict[str, Any]]:
    assert config.data is not None
    logs = open_logs(LogsConfig(data=config.data, fps=config.fps))
    familiar = _familiarity(config.world_model) if config.world_model else None
    blur = FaceBlur() if config.faces else None
    found: dict[str, dict[str, Any]] = {}
    with Progress(len(logs.names), "recordings judged", "recordings") as bar:
        for name in logs.names:
            try:
                episode = read_log(logs, name).episode
                verdicts = [prompts.judge(episode.text), check_video(episode.frames, episode.actions)]
                verdicts += [familiar.check(episode.frames)] if familiar else []
                found[name] = _told(join(verdicts))
                if blur is not None:
                    covered, faces = blur.cover(episode.frames)
                    found[name]["faces"] = len(faces)
                    if faces:
                        content = encode_part(covered, logs.task.dt_s, QUALITY)
                        write_bytes(config.out / f"{name.replace('/', '_')}.mp4", content)
            except Exception as error:  # what could not be judged does not pass, whatever went wrong
                found[name] = _told(Verdict(False, (f"it could not be judged ({type(error).__name__}: {error})",)))
            bar.update(1)
    return found


def _familiarity(folder: Path) -> Familiarity:
    """What a checkpoint's tokenizer knows, from the frames that its dreams begin with."""
    from procosm.world_model import checkpoint

    model = checkpoint.load(folder)
    frames = model.start_frames.flatten(0, 1).cpu().numpy()
    return Familiarity(model.tokenizer, frames[np.unique(np.linspace(0, len(frames) - 1, 256).round().astype(int))])


def _told(verdict: Verdict) -> dict[str, Any]:
    return {"passed": verdict.passed, "reasons": list(verdict.reasons)}
