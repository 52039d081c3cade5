"""What one visitor plays: a dream beside MuJoCo, who steers it, and where in its history it stands."""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.envs.dreams.observe import action_space
from procosm.envs.dreams.weights import open_model
from procosm.envs.play.history import History
from procosm.envs.play.pair import Actions, Pair, Side
from procosm.envs.play.policy import STACK, Opens, SavedPilot, load_saved
from procosm.envs.play.protocol import MOST_DENOISING, Command, pack
from procosm.envs.play.record import save
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import Solver

TEXTS = 200
"""Texts that a page offers, at most."""
RECORDINGS = 200
"""Recordings that one visitor may leave on disk."""
BRIEF_S = 2.0
"""An episode that is shorter in real time is shown at half speed at first, to be seen at all."""
HOLD_S = 1.5
"""How long the last frame of an episode is shown before the next begins."""


@dataclass(frozen=True)
class Stage:
    """What all games of a server share.

    Attributes:
        checkpoint: folder of the world model. policy: a policy's zip, or None.
        without_policy: why there is no policy; empty where there is one.
        out: folder of recordings. saved: names of the folders in it that were written since the server began.
        device: where dreams are computed.
        trust_pickle: whether a policy that SB3 saved is opened, which runs the code in it.
        weakness: what is known to be wrong with this dream, for those who look at it; empty where nothing is.
        solver: how dreams draw where they take several denoising steps.
        opens: opens the policy.
    """

    checkpoint: Path
    policy: Path | None
    without_policy: str
    out: Path
    saved: set[str]
    device: str = "cpu"
    trust_pickle: bool = False
    weakness: str = ""
    solver: Solver = "euler"
    opens: Opens = load_saved


class Game:
    """One game; it belongs to one thread, as MuJoCo's renderer does.

    Attributes:
        changed: whether there is something new to show.
        paused: whether it waits for a wish.
    """

    def __init__(self, stage: Stage) -> None:
        """Open the worlds and begin, the policy at the wheel if there is one: something good is seen at first sight.

        Raises:
            ProcosmError: the checkpoint or the policy cannot be used.
        """
        self._stage = stage
        # Each game reads its own weights: whatever spoils one cannot reach another.
        model = open_model(stage.checkpoint, None, stage.device)
        self._task, self._space = model.task, action_space(model.task)
        self._policy = SavedPilot(stage.policy, model, stage.trust_pickle, stage.opens) if stage.policy else None
        self._look_back = max(model.dynamics.context, STACK)
        self._denoising, self._horizon = 1, model.task.max_episode_steps
        self._speed = 0.5 if model.task.max_episode_steps * model.task.dt_s < BRIEF_S else 1.0
        self._pair = Pair(model, self._denoising, self._horizon, stage.solver)
        self._history = History()
        self._stick = [0.0] * len(model.task.action_low)
        self._sent_ms: float | None = None
        self._pilot = "policy" if self._policy else "human"
        self._games, self._seed = 0, -1
        self._recording, self._recorded = False, 0
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
            "instruct": self._instruct,
            "record": self._record,
        }
        self._begin()

    def close(self) -> None:
        """Record what is still to be recorded, and free MuJoCo's renderer."""
        self._keep()
        self._pair.close()

    @property
    def period_s(self) -> float:
        """Seconds from what is shown to the next step."""
        return HOLD_S if self._history.shown.over else self._task.dt_s / self._speed

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
            "without_reward": self._pair.without_reward,
            "weakness": self._stage.weakness,
            "conditions": sorted(self._pair.model.conditions),
            "takes_words": self._pair.model.takes_words,
            "texts": list(self._pair.model.texts[:TEXTS]),
        }

    def advance(self) -> None:
        """One step: of the worlds that go on, while those that are over are shown for a moment and begin anew."""
        self.changed = True
        began = time.perf_counter()
        actions = self._actions()
        decided = time.perf_counter()
        hold = round(HOLD_S * self._speed / self._task.dt_s)
        scene = self._pair.step(self._history.shown, actions, hold)
        scene.spent_ms["policy"] = 1e3 * (decided - began)
        if self._recording and self._history.full and self._history.oldest >= self._recorded:
            self._keep()  # before its beginning is forgotten
        self._history.add(scene)
        self._seed = max(self._seed, scene.seed)
        self._stepped.append(time.monotonic())

    def obey(self, wish: Command) -> None:
        """Do what a page asked for."""
        if wish.name == "steer":
            if len(wish.value) == len(self._stick):
                self._stick, self._sent_ms = wish.value, wish.sent_ms
                if any(wish.value):
                    self._pilot = "human"  # whoever touches the wheel has it
            return
        self.changed = True
        self._wishes[wish.name](wish.value)

    def _actions(self) -> Actions:
        """What to do in each world: the human's stick in both, or what the policy makes of what it sees in each."""
        low, high = self._space.low, self._space.high
        if self._pilot == "human" or self._policy is None:
            action = low + (np.array(self._stick, np.float32) + 1) / 2 * (high - low)
            return Actions(action, action)
        scenes = self._history.recent(self._look_back)
        worlds = ("dream", "truth") if scenes[-1].truth else ("dream", "dream")
        return Actions(*(np.clip(self._policy.act(self._pair, scenes, world), low, high) for world in worlds))

    def _begin(self) -> None:
        self._games, self._seed = self._games + 1, self._seed + 1
        self._history.begin(self._pair.begin(self._seed))
        self._recorded = 0

    def _keep(self) -> None:
        """Record what was played since the last recording, if that is wished and something was."""
        shown = self._history.shown.step
        scenes = self._history.since(min(self._recorded, shown))
        if not self._recording or len(scenes) < 2:
            return
        self._recorded, self._recordings = shown, self._recordings + 1
        if self._recordings > RECORDINGS:
            self._note, self._recording = f"{RECORDINGS} recordings are made: that is enough for one visit", False
            return
        try:
            folder = save(self._stage.out, self._task, scenes)
        except ProcosmError as error:
            self._note, self._recording = str(error), False
            return
        self._stage.saved.add(folder.name)
        self._note, self._saved = f"Saved {folder}", folder.name

    def _hand_over(self, value: Any) -> None:
        if value != "human" and self._policy is None:
            self._note = self._stage.without_policy
        else:
            self._pilot = value

    def _pause(self, value: Any) -> None:
        self.paused = value

    def _step(self, value: Any) -> None:
        self.paused = True
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

    def _instruct(self, value: Any) -> None:
        if not self._pair.model.takes_words:
            self._note = "This dream takes no words."
            return
        self._pair.instruction = value or None
        self._new(None)

    def _pace(self, value: Any) -> None:
        self._speed = value

    def _record(self, value: Any) -> None:
        if not value:
            self._keep()
        elif not self._recording:
            self._recorded = self._history.shown.step
        self._recording = value

    def view(self, number: int) -> bytes:
        """Everything the page shows, as its ``number``-th view."""
        scene, low, high = self._history.shown, self._space.low, self._space.high
        dream, truth = scene.dream, scene.truth
        taken = truth.action if dream.action is None and truth else dream.action
        header = {
            "view": number,
            "frame_size": [self._task.height, self._task.width],
            "game": self._games,
            "step": scene.step,
            "oldest": self._history.oldest,
            "newest": self._history.newest,
            "stick": [0.0] * len(low) if taken is None else (2 * (taken - low) / (high - low) - 1).tolist(),
            "dream": _numbers(dream),
            "truth": _numbers(truth) if truth else None,
            "together": scene.together,
            "difference": _rms(dream.frame, truth.frame) if truth and scene.together else None,
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
            "instruction": scene.moment.said,
            "note": self._note,
            "saved": self._saved,
        }
        self.changed, self._note = False, ""
        return pack(header, [dream.frame] + ([truth.frame] if truth else []))


def _numbers(side: Side) -> dict[str, Any]:
    names = ("seed", "step", "reward", "total", "termination", "ended", "cut")
    return {name: getattr(side, name) for name in names}


def _rms(first: np.ndarray, second: np.ndarray) -> float:
    """Root mean square difference of two frames, in grey levels of 255."""
    return float(np.sqrt(np.mean((first.astype(np.float32) - second) ** 2)))
