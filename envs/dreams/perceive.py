"""Real frames seen through a world model, so that a policy made in the dream runs in MuJoCo: one episode or many."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from procosm.envs.dreams.observe import Observation, Observed, dream_space, pixels_of, pixels_space, row
from procosm.envs.dreams.spec import portable
from procosm.envs.dreams.weights import open_model
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError


def _frames_of(task: Task) -> dict[str, Any]:
    """All that decides what a task's frames show, as JSON values."""
    values = json.loads(json.dumps(asdict(task)))
    twin = values["twin"] or {}
    shown = {name: twin.get(name) for name in ("cameras", "renderer", "version")}
    return {name: values[name] for name in ("id", "views", "action_repeat")} | shown


class Eyes:
    """Turns real frames into what dreams show, remembering for each of some episodes what it saw before.

    Args:
        model: whose tokenizer and readouts are used.
        shown: what is shown.
        slots: how many episodes are watched side by side.
        stack: frames that ``pixels`` are, one after the other on the channels, as policies see them: views side by
            side, and blank frames before an episode's first. 0 shows one frame, as environments do.
    """

    def __init__(self, model: WorldModel, shown: Observation, slots: int, stack: int = 0) -> None:
        self.model, self.shown, self._stack = model, shown, stack
        self._latents = model.starts.new_zeros((slots, *model.starts.shape[1:]))
        height, width, colours = model.task.frame_shape
        self._frames = np.zeros((slots, height, width, colours * max(1, stack)), np.uint8)

    @torch.inference_mode()
    def see(self, slots: np.ndarray, frames: np.ndarray, first: bool) -> Observed:
        """What is shown of the frames; arrays of the caller's own.

        Args:
            slots: (k,) int64, whose frames these are. frames: (k, H, W, 3) uint8, views side by side.
            first: whether they begin new episodes: then a first latent fills the context.

        Returns:
            (k, …) of the kinds that are shown: (k, s), (k, f), (k, context, c, h, w) or (k, H, W, 3 stack).
        """
        if "pixels" in self.shown.kinds:
            before = np.zeros_like(self._frames[slots]) if first else self._frames[slots]
            self._frames[slots] = np.concatenate((before[..., 3:], frames), axis=-1)
        sources = {"pixels": lambda: self._pixels(self._frames[slots])}
        if self.shown.kinds == ("pixels",):
            return self.shown.show(sources)
        index = torch.from_numpy(slots).to(self._latents.device)
        seen = self.model.encode(frames[:, None])  # (k, 1, c, h, w)
        before = seen.expand(-1, self._latents.shape[1] - 1, -1, -1, -1) if first else self._latents[index][:, 1:]
        window = self._latents[index] = torch.cat((before, seen), dim=1)
        sources |= {
            "latent": lambda: _host(window),
            "state": lambda: _host(self.model.read("state", window)),
            "features": lambda: _host(self.model.read("features", window)),
        }
        return self.shown.show(sources)

    def _pixels(self, frames: np.ndarray) -> Observed:
        return frames if self._stack else pixels_of(self.model.task, frames)


def _host(tensor: torch.Tensor) -> np.ndarray:
    return tensor.to("cpu", torch.float32, copy=True).numpy()


class PerceiveWrapper(gym.Wrapper, RecordConstructorArgs):
    """Shows a truth env's frames as the world model's latents or state estimates.

    Everything shown comes from pixels alone: each real frame is encoded, the last ``context`` latents are kept (the
    first frame of an episode repeated to fill them), and ``state`` and ``features`` are what the model reads off these
    latents. The true state stays where the truth env puts it, in ``info["state"]``.
    """

    def __init__(
        self,
        env: gym.Env,
        checkpoint: str | Path | WorldModel,
        observation: str | Sequence[str] = "state",
        device: str | torch.device = "cpu",
    ) -> None:
        """Look at ``env`` through the model of ``checkpoint``.

        Args:
            env: a truth env that observes pixels, alone or in a Dict.
            checkpoint: a checkpoint or run folder, or a loaded model.
            observation: ``latent``, ``state``, ``features``, ``pixels``, or a tuple of them for a Dict.
            device: where a checkpoint is loaded to, as in ``WorldModelVectorEnv``.

        Raises:
            CheckpointError: no checkpoint, or one that cannot be read.
            TaskError: the env's frames are not the ones the model was trained on.
        """
        recorded = portable({"checkpoint": checkpoint, "observation": observation, "device": device})
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, **recorded)
        gym.Wrapper.__init__(self, env)
        self.model = open_model(checkpoint, None, device)
        self.shown = Observation.parse(observation)
        self._check_frames()
        self.observation_space = dream_space(self.shown, self.model)
        self._eyes = Eyes(self.model, self.shown, 1)

    def _check_frames(self) -> None:
        """Refuse an env whose frames the model was not trained on."""
        seen, learned = _frames_of(self.env.get_wrapper_attr("task")), _frames_of(self.model.task)
        other = [key for key in learned if seen[key] != learned[key]]
        if other:
            raise TaskError(
                "this env does not show the frames the world model learned: "
                + "; ".join(f"{key} is {seen[key]!r}, learned with {learned[key]!r}" for key in other)
                + ". Make the env from the checkpoint's own task, or train on this one"
            )
        space = self.env.observation_space
        pixels = pixels_space(self.model.task)
        self._alone = space == pixels
        if not self._alone and not (isinstance(space, spaces.Dict) and space.spaces.get("pixels") == pixels):
            raise TaskError(f"to perceive anything the wrapped env must observe pixels, but it observes {space}")

    def _see(self, observed: Observed, first: bool) -> Observed:
        frame = self.model.task.join(observed if self._alone else observed["pixels"])
        return row(self._eyes.see(np.zeros(1, np.int64), frame[None], first), 0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Reset the truth env and fill the context with its first frame."""
        observed, info = self.env.reset(seed=seed, options=options)
        return self._see(observed, first=True), info

    def step(self, action: np.ndarray) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Step the truth env and look at the frame it leads to."""
        observed, reward, terminated, truncated, info = self.env.step(action)
        return self._see(observed, first=False), float(reward), terminated, truncated, info
