"""PerceiveWrapper: a truth env seen through a world model, so that a policy made in the dream runs in MuJoCo."""

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

from procosm.envs.dreams.observe import Observation, Observed, dream_space, pixels_space
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


class PerceiveWrapper(gym.Wrapper, RecordConstructorArgs):
    """Shows a truth env's frames as the world model's latents or state estimates.

    Everything shown comes from pixels alone: each real frame is encoded, the last ``context`` latents are kept (the
    first frame of an episode repeated to fill them), and ``state`` is what the model reads off these latents. The true
    state stays where the truth env puts it, in ``info["state"]``.
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
            observation: ``latent``, ``state``, ``pixels``, or a tuple of them for a Dict.
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
        self._latents = self.model.starts.new_zeros((1, *self.model.starts.shape[1:]))

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

    @torch.inference_mode()
    def _encode(self, observed: Observed) -> torch.Tensor:
        """(1, 1, c, h, w), the latent of a real frame."""
        frame = self.model.task.join(self._pixels(observed))
        return self.model.tokenizer.encode(torch.from_numpy(frame)[None, None].to(self._latents.device))

    def _pixels(self, observed: Observed) -> Observed:
        return observed if self._alone else observed["pixels"]

    def _show(self, observed: Observed) -> Observed:
        return self.shown.show(
            {
                "pixels": lambda: self._pixels(observed),
                "latent": lambda: self._latents[0].to("cpu", torch.float32, copy=True).numpy(),
                "state": self._estimate,
            }
        )

    @torch.inference_mode()
    def _estimate(self) -> np.ndarray:
        return self.model.states(self._latents)[0].to("cpu", torch.float32, copy=True).numpy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Reset the truth env and fill the context with its first frame."""
        observed, info = self.env.reset(seed=seed, options=options)
        self._latents = self._encode(observed).expand_as(self._latents).contiguous()
        return self._show(observed), info

    def step(self, action: np.ndarray) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Step the truth env and look at the frame it leads to."""
        observed, reward, terminated, truncated, info = self.env.step(action)
        self._latents = torch.cat([self._latents[:, 1:], self._encode(observed)], dim=1)
        return self._show(observed), float(reward), terminated, truncated, info
