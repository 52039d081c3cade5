"""WorldModelVectorEnv: many dreams as one natively batched Gymnasium vector environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from procosm.envs.dreams.arguments import check_dream, numbers, usable_actions
from procosm.envs.dreams.dreams import Dreams
from procosm.envs.dreams.observe import (
    Observation,
    Observed,
    action_space,
    checked_options,
    checked_seed,
    dream_space,
    overwrite,
    row,
)
from procosm.envs.dreams.reward import Reward
from procosm.envs.dreams.spec import PortableSpec
from procosm.envs.dreams.starts import Start, given_start, said
from procosm.envs.dreams.weights import open_model
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError

Seed = int | Sequence[int | None] | None


class WorldModelVectorEnv(PortableSpec, VectorEnv):
    """n dreams in one batch: one call of the world model moves all of them.

    Slot i equals ``WorldModelEnv`` with the same seed, to rounding, and a dream that ends begins again alone:
    its neighbours keep every bit. Infos hold ``start`` (n,), the window of real frames each dream began with, and what
    the checkpoint can tell of ``state`` (n, s), the estimate of the task's true state, ``success`` (n,), whether
    the last step was at its goal, and ``trust`` (n,), how probable it is that MuJoCo is now where the dream says
    (``procosm.envs.trust.trust``); where a dream ended, ``SAME_STEP`` adds ``final_obs`` and ``final_info``; and
    ``frames`` (n, k, H, W, 3) where a step is k > 1 frames and actions are (n, k, a). Each has its mask under
    ``_<key>``, as in Gymnasium.
    """

    action_space: spaces.Box
    metadata = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        checkpoint: str | Path | WorldModel | None = None,
        num_envs: int = 1,
        observation: str | Sequence[str] = "pixels",
        denoising_steps: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        device: str | torch.device = "cpu",
        starts: str | Sequence[int] = "task",
        name: str | None = None,
        mixed: bool = False,
        trust_below: float | None = None,
        reward: Reward | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        """Open a world model.

        Args:
            checkpoint: a checkpoint or run folder, or a loaded model; None for the weights that ship under ``name``.
            num_envs: dreams in the batch.
            observation: ``pixels`` (a Dict by view where there are several), ``latent``, ``state``, or a tuple of them
                for a Dict.
            denoising_steps: 1 takes the sampler's mean, or the most probable tokens, and is deterministic in the
                actions; more draw noise, or each token.
            max_episode_steps: steps after which a dream is truncated; None for the task's own, -1 for no limit.
            autoreset_mode: ``NEXT_STEP``, ``SAME_STEP`` or ``DISABLED`` (reset with ``options["reset_mask"]``).
            render_mode: ``rgb_array`` or None.
            device: where a checkpoint is loaded to: ``cpu``, ``cuda``, ``cuda:i``, or ``auto`` (CUDA where there is a
                device).
            starts: ``task`` begins as the task's own reset does, like the twin; ``wide`` with any window of logged
                frames, for practice: held-out ones, spread over the states that were reached, and those that the model
                learned from; indices with those windows only.
            name: the name under which weights ship; the registered ids give it.
            mixed: take products in bfloat16, the dynamics' and the decoder's: up to twice as fast where the processor
                has it, and equal to the single environment to fewer digits. A loaded model keeps its own setting unless
                this is True.
            trust_below: truncate dreams whose trust falls below this, 0 to 1; None lets them go on.
            reward: a function of what the model tells of a step (``procosm.envs.dreams.reward``), in place of the
                model's own reward; needed where it has none.
            sampling: how a dream draws where it takes several denoising steps, such as ``{"solver": "unipc"}``; names
                are those of ``procosm.world_model.interface.Sampling``.

        Raises:
            CheckpointError: no checkpoint, or one that cannot be read.
            TaskError: an argument out of range, a reward or an observation that the model does not tell.
        """
        self.render_mode = checked_render_mode(render_mode)
        self.autoreset_mode = as_autoreset_mode(autoreset_mode)
        self.shown = Observation.parse(observation)
        check_dream(num_envs=num_envs)
        model = open_model(checkpoint, name, device, mixed)
        self.dreams = Dreams(model, num_envs, denoising_steps, max_episode_steps, starts, trust_below, reward, sampling)
        self.task, self.time_limit = model.task, self.dreams.max_episode_steps
        self.num_envs = num_envs
        self.metadata = {
            **type(self).metadata,
            "render_fps": max(1, round(1 / model.task.dt_s)),
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = dream_space(self.shown, model)
        self.single_action_space = action_space(model.task, model.frames_per_step)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = cast(spaces.Box, batch_space(self.single_action_space, num_envs))
        self.conditions = model.conditions
        self._generators: list[np.random.Generator] = []
        self._finished = np.zeros(num_envs, bool)

    def reset(self, *, seed: Seed = None, options: dict[str, Any] | None = None) -> tuple[Observed, dict[str, Any]]:
        """Begin new dreams.

        Args:
            seed: an int seeds slot i with seed + i; a list gives each slot its own; None goes on drawing from the
                slots' generators.
            options: ``start``: the window to begin with, one for all or a list (None draws); or ``frames``:
                (n, t, H, W, 3) uint8 real frames to begin after, with ``actions`` (n, t - 1, a) between them, as in
                ``WorldModelEnv.reset``; ``instruction``: a text for all, or n of them; ``reset_mask``: (n,) bool array,
                the slots to reset, all others staying as they are, whatever stands in the other options in their place.

        Raises:
            TaskError: options or seeds that do not fit.
        """
        self._open("reset")
        (mask, windows, given, told), seeds = self._reset_options(options), self._slot_seeds(seed)
        super().reset(seed=None if _is_list(seed) else seeds[0])
        slots = np.flatnonzero(mask)
        self._seed_slots(seeds, slots)
        generators, chosen = [self._generators[slot] for slot in slots], [windows[slot] for slot in slots]
        self.dreams.restart(slots, generators, chosen, given, told)
        self._finished[slots] = False
        return self.dreams.observe(self.shown), self._infos(mask)

    def step(self, actions: np.ndarray) -> tuple[Observed, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move every dream by one step under (n, a) actions, which are clipped to their bounds.

        Returns:
            observations; rewards (n,) float64; terminations (n,) bool; truncations (n,) bool; infos.

        Raises:
            TaskError: before the first reset, or actions of another shape or not finite.
            ProcosmError: the model predicted something that is not a number.
        """
        self._open("step")
        if not self._generators:
            raise TaskError("no dream has begun: call reset() before step()")
        reward, terminated, truncated = self.dreams.advance(usable_actions(actions, self.action_space))
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._finished.any():
            # Their step was dreamed with the others, so that the batch keeps its shape, and is dropped.
            again = np.flatnonzero(self._finished)
            self._restart(again)
            reward[again], terminated[again], truncated[again] = 0.0, False, False
        self._finished = terminated | truncated
        observed = self.dreams.observe(self.shown)
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._finished.any():
            slots = np.flatnonzero(self._finished)
            infos = self._finals(observed, slots)
            self._restart(slots)
            overwrite(observed, slots, self.dreams.observe(self.shown, slots))
        return observed, reward, terminated, truncated, infos | self._infos(np.ones(self.num_envs, bool))

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The newest frame of every dream, (H, W, 3) uint8 each; None without ``render_mode="rgb_array"``."""
        if self.render_mode is None:
            return None
        self._open("render")
        if not self._generators:
            raise TaskError("no dream has begun: call reset() before render()")
        return tuple(self.dreams.frames())

    def _restart(self, slots: np.ndarray) -> None:
        self.dreams.restart(slots, [self._generators[slot] for slot in slots], [None] * len(slots))

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        """State, start, success and trust of the slots in ``mask``, zero elsewhere."""
        infos: dict[str, Any] = {}
        if self.dreams.state is not None:
            infos |= {"state": np.where(mask[:, None], self.dreams.state, np.float32(0)), "_state": mask.copy()}
        if self.dreams.step_frames is not None:
            shown = np.where(mask[:, None, None, None, None], self.dreams.step_frames, np.uint8(0))
            infos |= {"frames": shown, "_frames": mask.copy()}
        if self.dreams.said is not None:
            told = [text if there else None for text, there in zip(self.dreams.said, mask, strict=True)]
            infos |= {"instruction": np.array(told, object), "_instruction": mask.copy()}
        infos |= {"start": np.where(mask, self.dreams.start, 0), "_start": mask.copy()}
        if self.dreams.success is not None:
            infos |= {"success": self.dreams.success & mask, "_success": mask.copy()}
        if self.dreams.trust is not None:
            infos |= {"trust": np.where(mask, self.dreams.trust, np.float32(0)), "_trust": mask.copy()}
        return infos

    def _finals(self, observed: Observed, slots: np.ndarray) -> dict[str, Any]:
        """The last observation and info of the dreams that ended."""
        final = np.full(self.num_envs, None, object)
        for slot in slots:
            final[slot] = row(observed, slot)
        mask = self._finished.copy()
        return {"final_obs": final, "_final_obs": mask, "final_info": self._infos(mask), "_final_info": mask.copy()}

    def _reset_options(
        self, given: object
    ) -> tuple[np.ndarray, list[int | None], Start | None, tuple[str, ...] | None]:
        """(n,) the slots to reset, n start windows, and what the slots that are reset begin with in their place, and
        are told in words.
        """
        options = checked_options(given, ("start", "frames", "actions", "instruction", "reset_mask"))
        mask = options.get("reset_mask", np.ones(self.num_envs, bool))
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise TaskError(
                f"options['reset_mask'] must be a bool array of shape ({self.num_envs},) with at least one True"
            )
        if not self._generators and not mask.all():
            raise TaskError("the first reset must reset every slot: leave out options['reset_mask']")
        start = options.get("start")
        windows: Sequence = start if _is_list(start) else [start] * self.num_envs  # type: ignore[assignment]
        if len(windows) != self.num_envs:
            raise TaskError(f"options['start'] has {len(windows)} windows for {self.num_envs} slots")
        chosen = [None if window is None else self.dreams.windows.checked(window) for window in windows]
        told = said(self.dreams.model, options, self.num_envs)
        if told is not None:
            told = tuple(text for text, reset in zip(told, mask, strict=True) if reset)
        return mask, chosen, self._given(options, mask), told

    def _given(self, options: dict[str, Any], mask: np.ndarray) -> Start | None:
        """What the slots in ``mask`` begin with; the others' frames are not looked at."""
        frames, actions = (_of(mask, options.get(name)) for name in ("frames", "actions"))
        asked = options | {k: v for k, v in (("frames", frames), ("actions", actions)) if k in options}
        return given_start(self.dreams.model, asked, (int(mask.sum()),))

    def _slot_seeds(self, seed: Seed) -> list[int | None]:
        """n seeds, None where a slot goes on drawing from its generator."""
        if not _is_list(seed):
            first = checked_seed(seed)
            return [None if first is None else first + slot for slot in range(self.num_envs)]
        seeds = [checked_seed(each) for each in cast(Sequence, seed)]
        if len(seeds) != self.num_envs:
            raise TaskError(f"{len(seeds)} seeds for {self.num_envs} slots: give one for each, or a single int")
        return seeds

    def _seed_slots(self, seeds: list[int | None], slots: np.ndarray) -> None:
        """Give the slots that are reset the generators their seeds ask for."""
        if not self._generators:
            self._generators = [np.random.default_rng()] * self.num_envs
            seeds = [int(self.np_random.integers(2**31)) if each is None else each for each in seeds]
        for slot in slots:
            if seeds[slot] is not None:
                self._generators[slot] = seeding.np_random(seeds[slot])[0]

    def _open(self, call: str) -> None:
        """Refuse a call after ``close``."""
        if self.closed:
            raise TaskError(f"these environments are closed: make them again before {call}()")


def _of(mask: np.ndarray, given: Any) -> Any:
    """The rows of (n, …) arrays, or of each in a dict, that ``mask`` chooses; anything else as it is."""
    if isinstance(given, Mapping):
        return {name: _of(mask, each) for name, each in given.items()}
    array = None if given is None else numbers(given, "options")
    return given if array is None or array.ndim == 0 or len(array) != len(mask) else array[mask]


def _is_list(value: object) -> bool:
    return (isinstance(value, Sequence) and not isinstance(value, str)) or np.ndim(value) > 0  # type: ignore[arg-type]


def checked_render_mode(render_mode: str | None) -> str | None:
    """The render mode, or a TaskError."""
    if render_mode is not None and not (isinstance(render_mode, str) and render_mode == "rgb_array"):
        raise TaskError(f"render_mode={render_mode!r}: a world model renders 'rgb_array', or nothing (None)")
    return render_mode


def as_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """The mode itself, or the one named like ``SAME_STEP`` or ``SameStep``; a TaskError for any other."""
    for known in AutoresetMode if isinstance(mode, str | AutoresetMode) else ():
        if mode in (known, known.name, known.value):
            return known
    raise TaskError(f"autoreset_mode={mode!r}: give one of {', '.join(known.name for known in AutoresetMode)}")
