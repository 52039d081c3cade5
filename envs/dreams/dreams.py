"""Dreams side by side: one call of the dynamics moves all of them, and each can begin again alone.

Both environments are thin shells around this: ``WorldModelVectorEnv`` holds many dreams, ``WorldModelEnv`` one.
A dream draws random numbers only when it begins, from its slot's generator: which window of real frames it starts
from, and the seed of its own noise. So slot i of a batch and a single environment with the same seed dream alike.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch

from procosm.envs.dreams.arguments import check_dream, chosen_sampling
from procosm.envs.dreams.observe import Observation, Observed, host, pixels_of
from procosm.envs.dreams.reward import Reward, Told, checked_reward, rewards
from procosm.envs.dreams.spec import NO_LIMIT, checked_limit
from procosm.envs.dreams.starts import GIVEN, Start, Windows
from procosm.envs.trust.trust import watch
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.interface import Memory, Prediction
from procosm.world_model.threads import one_thread

SEEN = ("reward", "state", "features", "termination", "success")
"""Readouts that every step of a dream makes use of."""


class Outcome(NamedTuple):
    """What one step led to; each (n,).

    Attributes:
        reward: float64; the model's own is clipped to the range in its data, so that no policy is paid for
            extrapolation.
        terminated: the model holds the end for more likely than not.
        truncated: the dream is as long as it may be, or trusted less than it must be.
    """

    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class Moment(NamedTuple):
    """All that one dream is at one step: enough to go back to it, or to go on from it with other settings.

    Attributes:
        memory: what the model remembers of it, and of no other.
        latents: (context, c, h, w), newest last.
        read: state (s,) and features (f,), float32, those that the model tells.
        start, elapsed: as in ``Dreams``.
        draws: the generator of the dream's own noise, as it was then.
        forecasts: (k, s), those that tell its trust; None where the checkpoint cannot.
        frames: (k, H, W, 3) uint8, those of its last step; None where a step is one frame.
        said: what it was told in words.
    """

    memory: Memory
    latents: torch.Tensor
    read: dict[str, np.ndarray]
    start: int
    elapsed: int
    draws: np.random.Generator
    forecasts: torch.Tensor | None
    frames: np.ndarray | None = None
    said: str = ""

    @property
    def state(self) -> np.ndarray | None:
        """(s,) float32; None where the model tells none."""
        return self.read.get("state")


class Dreams:
    """A batch of dreams.

    Attributes:
        latents: (n, context, c, h, w), what is shown of each dream, newest last.
        read: what the model reads off each dream's latents, of what it has learned to: ``state`` (n, s), its estimate
            of the task's true state, and ``features`` (n, f); float32.
        termination: (n,) float32, the probability that the last step ended the task; 0 where a dream has just begun,
            and always in a model that tells of no end.
        success: (n,) bool, whether the model holds it for more likely than not that the last step was at the task's
            goal; None where it does not tell.
        start: (n,) int64, the window each dream began with, as ``Windows`` numbers them; -1 for given frames.
        windows: those of the checkpoint.
        elapsed: (n,) int64, steps since it began.
        said: n texts, what each dream is told in words; None where the model takes none.
        trust: (n,) float32, how probably the dream is still near the truth; None where the checkpoint cannot tell.
        step_frames: (n, k, H, W, 3) uint8, all frames of the last step, each the first where a dream has just begun;
            None where a step is one frame.
    """

    @one_thread()
    def __init__(
        self,
        model: WorldModel,
        count: int,
        denoising_steps: int = 1,
        max_episode_steps: int | None = None,
        starts: str | Sequence[int] = "task",
        trust_below: float | None = None,
        reward: Reward | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        """Room for ``count`` dreams; none has begun.

        Args:
            model: the world model.
            count: n.
            denoising_steps: 1 takes the sampler's mean, or the most probable tokens; more draw the noise it starts
                from, or each token.
            max_episode_steps: steps after which a dream is truncated; None for the task's own, -1 for no limit.
            starts: ``task`` begins as the task's own reset does, ``wide`` with logged windows (held-out ones spread
                over the states that were reached, and those it learned from), indices with those windows.
            trust_below: dreams trusted less than this are truncated; None lets them go on.
            reward: in place of the model's own, see ``procosm.envs.dreams.reward``.
            sampling: further settings of ``procosm.world_model.interface.Sampling``, by name.

        Raises:
            TaskError: an argument out of range, or no reward in the model and none given.
        """
        check_dream(num_envs=count, denoising_steps=denoising_steps, trust_below=trust_below)
        self.model = model
        self._reward = checked_reward(reward, model)
        self._sampling = chosen_sampling(denoising_steps, sampling)
        self.max_episode_steps = checked_limit(max_episode_steps) or model.task.max_episode_steps
        self.windows = Windows(model, starts)
        shape = (count, *model.starts.shape[1:])
        self.latents, self._spare = model.starts.new_zeros(shape), model.starts.new_zeros(shape)
        self._memory: Memory | None = None
        self.read = {name: np.zeros((count, size), np.float32) for name, size in model.read_sizes.items()}
        # What trust is about, the state before features; on the model's device.
        self._watched = next((name for name in ("state", "features") if name in self.read), "")
        self._estimate = self.latents.new_zeros((count, model.read_sizes.get(self._watched, 0)), dtype=torch.float32)
        self.termination = np.zeros(count, np.float32)
        self.success = np.zeros(count, bool) if "success" in model.dynamics.readouts else None
        frames = model.frames_per_step
        self.step_frames = np.zeros((count, frames, *model.task.frame_shape), np.uint8) if frames > 1 else None
        self.start = np.zeros(count, np.int64)
        self.elapsed = np.zeros(count, np.int64)
        self.said: list[str] | None = [""] * count if model.takes_words else None
        self._draws = [np.random.default_rng(0)] * count
        self._slots = np.arange(count)
        if trust_below is not None and model.trust is None:
            raise TaskError(
                f"trust_below={trust_below}, but this checkpoint of {model.task.id} cannot tell its trust: "
                "`python -m procosm.envs.trust.calibrate --world-model PATH --data PATH` teaches it"
            )
        self._trust_below = trust_below
        self._watch = watch(model.trust, count) if self._watched and model.trust is not None else None
        self.trust = None if self._watch is None else np.ones(count, np.float32)

    @property
    def state(self) -> np.ndarray | None:
        """(n, s) float32, the estimated true states; None where the model tells none."""
        return self.read.get("state")

    @one_thread()
    @torch.inference_mode()
    def restart(
        self,
        slots: np.ndarray,
        generators: Sequence[np.random.Generator],
        windows: Sequence[int | None],
        given: Start | None = None,
        said: Sequence[str] | None = None,
    ) -> None:
        """Begin new dreams in some slots and leave the others as they are.

        Args:
            slots: (k,) which slots.
            generators: k generators; each is drawn from twice, whatever the settings, so that the same seed begins
                with the same windows at every number of denoising steps.
            windows: k windows to begin with; None draws one.
            given: what the k dreams begin with in place of windows.
            said: k texts, what they are told in words in place of what was asked for where their windows were logged.

        Raises:
            TaskError: no such window.
        """
        chosen, usable = [], self.windows.usable
        for slot, generator, window in zip(slots.tolist(), generators, windows, strict=True):
            drawn = usable[generator.integers(len(usable))]
            self._draws[slot] = np.random.default_rng(generator.integers(2**63))
            chosen.append(int(drawn) if window is None else self.windows.checked(window))
        self.start[slots] = chosen if given is None else GIVEN
        start = self.windows.start(chosen) if given is None else given
        self.begin(slots, start if said is None else start._replace(said=tuple(said)))

    @one_thread()
    @torch.inference_mode()
    def begin(self, slots: np.ndarray, start: Start) -> None:
        """Begin new dreams in (k,) slots.

        Their noise goes on as it was: ``restart`` draws it, and windows to begin with, for each seed.
        """
        condition = start.condition(self.model)
        if self.said is not None:
            for slot, text in zip(slots.tolist(), start.said, strict=True):
                self.said[slot] = text
        if start.shown == 0:
            words, draws = None if condition is None else condition.text, [self._draws[slot] for slot in slots]
            first = self.model.dynamics.first(draws, self._sampling, words)  # type: ignore[attr-defined]
            self.elapsed[slots] = 0
            self._check_numbers("latent", first.flatten(1).float().abs().amax(1).cpu().numpy(), slots)
            start = start._replace(latents=first[:, None].expand_as(start.latents), shown=1)
        told = start.shown is not None and self.model.fewest <= start.shown
        seen = start.latents[:, -start.shown :] if told else start.latents  # type: ignore[operator]
        index, begun = self._there(slots), self.model.begin(seen, condition)
        if self._memory is None:  # until they begin, too, the others are dreams like the first
            self._memory = begun.take(index.new_zeros(len(self._slots)))
        self._memory.put(index, begun)
        self.elapsed[slots], self.termination[slots] = 0, 0.0
        if self.success is not None:
            self.success[slots] = False
        self.latents[index] = start.latents
        if self.step_frames is not None:
            self.step_frames[slots] = host(self.model.tokenizer.decode(start.latents)[:, -1:])
        estimates = {name: value.float() for name, value in self.model.dynamics.read(begun).items()}
        for name, estimate in estimates.items():
            self.read[name][slots] = estimate.cpu().numpy()
            self._check_numbers(name, self.read[name][slots], slots)
        if not self._watched:
            return
        estimate = self._estimate[index] = estimates[self._watched]
        if self._watch is not None and self.trust is not None:
            self.trust[slots] = self._watch.begin(index, estimate).cpu().numpy()
            self._check_numbers("trust", self.trust[slots], slots)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Dreams":
        """Dreams that go on by themselves; the world model, which never changes, is shared."""
        memo[id(self.model)] = self.model
        twin = memo[id(self)] = copy.copy(self)
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin

    def moment(self, slot: int) -> Moment:
        """What the dream in ``slot`` is now; a copy.

        Raises:
            TaskError: no dream has begun.
        """
        return Moment(
            self._remembered.take(self._there(self._slots[[slot]])),
            self.latents[slot].clone(),
            {name: values[slot].copy() for name, values in self.read.items()},
            int(self.start[slot]),
            int(self.elapsed[slot]),
            copy.deepcopy(self._draws[slot]),
            None if self._watch is None else self._watch.forecasts(slot),
            None if self.step_frames is None else self.step_frames[slot].copy(),
            "" if self.said is None else self.said[slot],
        )

    @property
    def _remembered(self) -> Memory:
        if self._memory is None:
            raise TaskError("no dream has begun: call restart() first")
        return self._memory

    @one_thread()
    @torch.inference_mode()
    def resume(self, slot: int, moment: Moment) -> None:
        """Make the dream in ``slot`` what it was at ``moment``, here or in other ``Dreams`` of the same model.

        It then dreams on as it did then, also where noise is drawn, given the same number of denoising steps.
        """
        if self._memory is None:
            self._memory = moment.memory.take(self._there(np.zeros(len(self._slots), np.int64)))
        self._memory.put(self._there(self._slots[[slot]]), moment.memory)
        self.latents[slot], self._draws[slot] = moment.latents, copy.deepcopy(moment.draws)
        self.start[slot], self.elapsed[slot], self.termination[slot] = moment.start, moment.elapsed, 0.0
        if self.success is not None:
            self.success[slot] = False
        if self.step_frames is not None and moment.frames is not None:
            self.step_frames[slot] = moment.frames
        if self.said is not None:
            self.said[slot] = moment.said
        for name, values in moment.read.items():
            self.read[name][slot] = values
        if self._watched:
            self._estimate[slot] = self._there(moment.read[self._watched])
        if self._watch is not None and self.trust is not None:
            assert moment.forecasts is not None  # told by the same model
            self.trust[slot] = self._watch.resume(slot, moment.forecasts, self._estimate[slot])
            self._check_numbers("trust", self.trust[[slot]], np.array([slot]))

    @one_thread()
    @torch.inference_mode()
    def advance(self, actions: np.ndarray) -> Outcome:
        """One step of every dream, under (n, a) or (n, k, a) float32 actions within bounds.

        Raises:
            ProcosmError: the model predicted something that is not a number.
        """
        action = self._there(actions)
        self._memory, prediction = self.model.step(self._remembered, action, self._draws, self._sampling)
        # Two buffers take turns: shifting in place would copy onto memory still to be read.
        self._spare[:, :-1] = self.latents[:, 1:]
        self._spare[:, -1] = prediction.latents
        self.latents, self._spare = self._spare, self.latents
        if prediction.frames is not None:
            self.step_frames = host(prediction.frames)
        self.elapsed += 1
        seen = self._seen(action, prediction)
        for name, values in self.read.items():
            values[:] = seen[name]
        if "termination" in seen:
            self.termination[:] = seen["termination"][:, 0]
        if self.success is not None:
            self.success[:] = seen["success"][:, 0] > 0.5
        truncated = (self.elapsed >= self.max_episode_steps) & (self.max_episode_steps != NO_LIMIT)
        if self.trust is not None:
            self.trust[:] = seen["trust"][:, 0]
            if self._trust_below is not None:
                truncated |= self.trust < self._trust_below
        if self._reward is None:
            limits = self.model.reward_range
            reward = seen["reward"][:, 0] if limits is None else np.clip(seen["reward"][:, 0], *limits)
        else:
            told = self._told(actions, prediction)
            reward = np.sum([rewards(self._reward, each, len(actions)) for each in told], axis=0)
        return Outcome(reward, self.termination > 0.5, truncated)

    def _seen(self, action: torch.Tensor, prediction: Prediction) -> dict[str, np.ndarray]:
        """(n, k) float64 numbers of this step by name, those that the model tells; the device is waited for once.

        Raises:
            ProcosmError: one of them is not finite.
        """
        told = {name: value.reshape(len(action), -1) for name, value in prediction.readouts.items() if name in SEEN}
        told["latent"] = prediction.latents.flatten(1).float().abs().amax(1, keepdim=True)  # not finite if one is not
        if self._watched:
            told[self._watched] = self._estimate = told[self._watched].float()
        if self._watch is not None:
            told["trust"] = self._watch.advance(action, self._estimate)[:, None]
        columns = torch.cat(list(told.values()), dim=1).to("cpu", torch.float64).numpy()
        ends = accumulate(value.shape[1] for value in told.values())
        seen = {name: columns[:, end - told[name].shape[1] : end] for name, end in zip(told, ends, strict=True)}
        if not np.isfinite(columns).all():
            for name in (*SEEN, "latent", "trust"):
                if name in seen:
                    self._check_numbers(name, seen[name], self._slots)
        return seen

    def _told(self, actions: np.ndarray, prediction: Prediction) -> list[Told]:
        """What a reward of the user's own may read of this step; of each of its frames where it is several."""
        if self.step_frames is not None:
            shown, done = self.step_frames.swapaxes(0, 1), actions.swapaxes(0, 1)
            return [Told({"action": a.copy, "frames": f.copy}) for a, f in zip(done, shown, strict=True)]
        readouts = {name: partial(host, value) for name, value in prediction.readouts.items()}
        latents = partial(host, prediction.latents)
        return [Told({"action": actions.copy, "latents": latents, "frames": self.frames, **readouts})]

    def _there(self, array: np.ndarray) -> torch.Tensor:
        """An array on the dreams' device."""
        return torch.from_numpy(array).to(self.latents.device)

    def _check_numbers(self, name: str, values: np.ndarray, slots: np.ndarray) -> None:
        """Refuse (k, …) values of k slots that are not finite: which, in which dream, at which step."""
        if not np.isfinite(values).all():
            first = np.argwhere(~np.isfinite(values))[0]
            slot = int(slots[first[0]])
            raise ProcosmError(
                f"the world model of {self.model.task.id} predicted a {name} of {values[tuple(first)]} in slot {slot}, "
                f"step {self.elapsed[slot]} of the dream from window {self.start[slot]}: its weights are damaged or "
                "its training diverged. Train it again, or open another checkpoint"
            )

    @one_thread()
    @torch.inference_mode()
    def frames(self, slots: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(k, H, W, 3) uint8, the newest frame of some dreams, decoded; views stand side by side."""
        if self.step_frames is not None:
            return self.step_frames[slots, -1].copy()
        return host(self.model.decode(self._chosen(slots)[:, -1]))

    def _chosen(self, slots: np.ndarray | slice) -> torch.Tensor:
        """(k, context, c, h, w), the latents of some dreams."""
        return self.latents[self._there(slots) if isinstance(slots, np.ndarray) else slots]

    def observe(self, shown: Observation, slots: np.ndarray | slice = slice(None)) -> Observed:
        """What some dreams show; arrays of the caller's own. The decoder runs only where pixels are shown."""
        return shown.show(
            {
                "pixels": lambda: pixels_of(self.model.task, self.frames(slots)),
                "latent": lambda: host(self._chosen(slots).float()),
                **{name: values[slots].copy for name, values in self.read.items()},
            }
        )
