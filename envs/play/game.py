"""What one visitor plays: a dream beside MuJoCo, who steers it, and where in its history it stands."""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.envs.observe import action_space
from procosm.envs.play.history import History
from procosm.envs.play.pair import Pair, Scene, Side
from procosm.envs.play.policy import STACK, SavedPilot
from procosm.envs.play.protocol import MOST_DENOISING, Command, pack
from procosm.envs.play.record import save
from procosm.envs.weights import open_model
from procosm.world_model.errors import ProcosmError

RECORDINGS = 200
"""Dreams that one visitor may leave on disk."""


@dataclass(frozen=True)
class Stage:
    """What all games of a server share.

    Attributes:
        checkpoint: folder of the world model. policy: a policy's zip, or None.
        without_policy: why there is no policy; empty where there is one.
        out: folder of recordings. saved: names of the folders in it that were written since the server began.
        device: where dreams are computed.
        trust_pickle: whether a policy that SB3 saved is opened, which runs the code in it.
    """

    checkpoint: Path
    policy: Path | None
    without_policy: str
    out: Path
    saved: set[str]
    device: str = "cpu"
    trust_pickle: bool = False


class Game:
    """One game; it belongs to one thread, as MuJoCo's renderer does.

    Attributes:
        changed: whether there is something new to show.
        paused: whether it waits for a wish.
    """

    def __init__(self, stage: Stage) -> None:
        """Open the worlds and begin the first dream.

        Raises:
            ProcosmError: the checkpoint or the policy cannot be used.
        """
        self._stage = stage
        # Each game reads its own weights: whatever spoils one cannot reach another.
        model = open_model(stage.checkpoint, None, stage.device)
        self._task, self._space = model.task, action_space(model.task)
        self._policy = SavedPilot(stage.policy, model, stage.trust_pickle) if stage.policy else None
        self._look_back = max(model.dynamics.context, STACK)
        self._denoising, self._horizon, self._speed = 1, model.task.max_episode_steps, 1.0
        self._pair = Pair(model, self._denoising, self._horizon)
        self._history = History()
        self._stick = [0.0] * len(model.task.action_low)
        self._sent_ms: float | None = None
        self._pilot, self._recording, self._seed = "human", False, -1
        self._kept: Scene | None = None
        self._recordings, self._note, self._saved = 0, "", ""
        self._stepped: deque[float] = deque(maxlen=256)
        self.paused, self.changed = False, True
        self._wishes = {
            "pilot": self._hand_over,
            "pause": self._pause,
            "step": self._step,
            "new": self._new,
            "show": self._show,
            "horizon": self._limit,
            "denoising": self._denoise,
            "speed": self._pace,
            "record": self._record,
        }
        self._begin()

    def close(self) -> None:
        """Record what is still to be recorded, and free MuJoCo's renderer."""
        self._keep()
        self._pair.close()

    @property
    def period_s(self) -> float:
        """Seconds from one step to the next."""
        return self._task.dt_s / self._speed

    @property
    def over(self) -> bool:
        """Whether the dream that is shown goes no further."""
        return self._history.shown.over

    def welcome(self) -> dict[str, Any]:
        """What a page needs to know once."""
        return {
            "kind": "welcome",
            "task": self._task.id,
            "motors": len(self._task.action_low),
            "dt_s": self._task.dt_s,
            "longest": self._task.max_episode_steps,
            "most_denoising": MOST_DENOISING,
            "policy": self._stage.policy.name if self._stage.policy else "",
            "without_policy": self._stage.without_policy,
            "without_truth": self._pair.without_truth,
        }

    def advance(self) -> None:
        """One step of both worlds; where the dream is over, the next begins."""
        self.changed = True
        if self.over:
            self._begin()
            return
        began = time.perf_counter()
        action = self._action()
        decided = time.perf_counter()
        scene = self._pair.step(self._history.shown, action)
        scene.spent_ms["policy"] = 1e3 * (decided - began)
        self._history.add(scene)
        self._stepped.append(time.monotonic())
        if scene.over:
            self._keep()

    def obey(self, wish: Command) -> None:
        """Do what a page asked for."""
        if wish.name == "steer":
            if len(wish.value) == len(self._stick):
                self._stick, self._sent_ms = wish.value, wish.sent_ms
            return
        self.changed = True
        self._wishes[wish.name](wish.value)

    def _action(self) -> np.ndarray:
        """(a,) float32 in the task's units: the human's stick, or what the policy makes of what it sees."""
        low, high = self._space.low, self._space.high
        if self._pilot == "human" or self._policy is None:
            return low + (np.array(self._stick, np.float32) + 1) / 2 * (high - low)
        return np.clip(self._policy.act(self._pair, self._history.recent(self._look_back), self._pilot), low, high)

    def _begin(self) -> None:
        self._seed += 1
        self._history.begin(self._pair.begin(self._seed))

    def _keep(self) -> None:
        """Record the dream so far, if that is wished and something is new."""
        shown = self._history.shown
        if not self._recording or shown is self._kept or shown.step == self._history.oldest:
            return
        self._kept, self._recordings = shown, self._recordings + 1
        if self._recordings > RECORDINGS:
            self._note, self._recording = f"{RECORDINGS} dreams are recorded: that is enough for one visit", False
            return
        try:
            folder = save(self._stage.out, self._task, self._history.until_shown(), self._seed)
        except ProcosmError as error:
            self._note, self._recording = str(error), False
            return
        self._stage.saved.add(folder.name)
        self._note, self._saved = f"Saved {folder}", folder.name

    def _hand_over(self, value: Any) -> None:
        if value != "human" and self._policy is None:
            self._note = self._stage.without_policy
        elif value == "truth" and self._pair.without_truth:
            self._note = self._pair.without_truth
        else:
            self._pilot = value

    def _pause(self, value: Any) -> None:
        self.paused = value

    def _step(self, value: Any) -> None:
        self.paused = True
        if not self.over:
            self.advance()

    def _new(self, value: Any) -> None:
        self._keep()
        self._begin()

    def _show(self, value: Any) -> None:
        self.paused = True
        self._history.show(value)

    def _limit(self, value: Any) -> None:
        self._horizon = min(value, self._task.max_episode_steps)
        self._pair.configure(self._denoising, self._horizon)

    def _denoise(self, value: Any) -> None:
        self._denoising = value
        self._pair.configure(self._denoising, self._horizon)

    def _pace(self, value: Any) -> None:
        self._speed = value

    def _record(self, value: Any) -> None:
        if not value:
            self._keep()
        self._recording = value

    def view(self, number: int) -> bytes:
        """Everything the page shows, as its ``number``-th view."""
        scene, low, high = self._history.shown, self._space.low, self._space.high
        header = {
            "view": number,
            "frame_size": self._task.frame_size,
            "seed": self._seed,
            "step": scene.step,
            "oldest": self._history.oldest,
            "newest": self._history.newest,
            "stick": (2 * (scene.action - low) / (high - low) - 1).tolist(),
            "dream": _numbers(scene.dream),
            "truth": _numbers(scene.truth) if scene.truth else None,
            "cut": scene.cut,
            "difference": _rms(scene.dream.frame, scene.truth.frame) if scene.truth else None,
            "trust": scene.trust,
            "spent_ms": scene.spent_ms,
            "fps": sum(time.monotonic() - at < 1 for at in self._stepped),
            "sent_ms": self._sent_ms,
            "pilot": self._pilot,
            "paused": self.paused,
            "recording": self._recording,
            "speed": self._speed,
            "horizon": self._horizon,
            "denoising": self._denoising,
            "note": self._note,
            "saved": self._saved,
        }
        self.changed, self._note = False, ""
        return pack(header, [scene.dream.frame] + ([scene.truth.frame] if scene.truth else []))


def _numbers(side: Side) -> dict[str, Any]:
    return {"reward": side.reward, "total": side.total, "termination": side.termination, "ended": side.ended}


def _rms(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of two frames, in grey levels of 255."""
    return float(np.sqrt(np.mean((first.astype(np.float32) - second) ** 2)))
