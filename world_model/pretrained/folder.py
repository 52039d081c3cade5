"""A published model's folder as a world model: transformer, VAE and scheduler of diffusers, and what they do not say.

``procosm.json`` beside them says what the model is used for (see :class:`Use`); images in ``starts/`` are the frames
that dreams begin with, and ``text.safetensors`` (``text`` and perhaps ``negative``, each (s, width)) what it is told.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import ConfigDict, Field
from torch import Tensor
from typing_extensions import TypedDict

from procosm.world_model.data.task import MAIN, Bound, Id, Task, View
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.model import WorldModel
from procosm.world_model.precision import resolve_device
from procosm.world_model.pretrained.config import RESTORE
from procosm.world_model.pretrained.dynamics import PretrainedDynamics, PretrainedDynamicsConfig
from procosm.world_model.pretrained.sampling import NoiseConfig
from procosm.world_model.pretrained.spread import spread
from procosm.world_model.pretrained.text import T5
from procosm.world_model.pretrained.tokenizer import PretrainedTokenizer, PretrainedTokenizerConfig
from procosm.world_model.pretrained.transformer_files import load_transformer, read_transformer_config
from procosm.world_model.pretrained.vae_files import load_vae
from procosm.world_model.pretrained.wan_vae import WanVAE
from procosm.world_model.pretrained.weights import mapped
from procosm.world_model.schema import read_file

SIDECAR = "procosm.json"
Numbers = Annotated[tuple[Bound, ...], Field(min_length=1, max_length=1000)]


@dataclass(frozen=True)
class Use:
    """What ``procosm.json`` says: all that an environment needs and a published model does not tell.

    Attributes:
        id: the task's name; that of the folder where it is None.
        height, width: of a frame, pixels; 256 by 320, or as much as there are learned positions for, where None.
        image: each frame is coded alone, as the action models of Predict1 have it.
        drawn: latents that a step makes; each is one frame where ``image``, else as many as the VAE has for one. 3, or
            as many as there are learned positions for, where None.
        given: latents of the past that a step sees: the first is one frame, and each further one as many as the VAE has
            for a latent.
        actions: ``none``, ``together`` or ``each``, see ``PretrainedDynamicsConfig``.
        action_low, action_high: bounds of one frame's action. action_scale: what each number is multiplied by for the
            network; 1 where it is None.
        fps: frames per second; those that the family is published with where it is None.
        max_episode_steps: steps after which an episode is truncated.
        guidance: see ``PretrainedDynamicsConfig``.
        prompt, negative_prompt: what the model is told, and what guidance leads away from; encoded by the T5 in
            ``text_encoder/`` and ``tokenizer/``, in place of ``text.safetensors``.
        devices: those that the transformer's layers are spread over, in order; where everything else lies, where None.
    """

    id: Id | None = None
    height: Annotated[int, Field(ge=8, le=4096)] | None = None
    width: Annotated[int, Field(ge=8, le=4096)] | None = None
    image: bool = False
    drawn: Annotated[int, Field(ge=1, le=1024)] | None = None
    given: Annotated[int, Field(ge=1, le=1024)] = 1
    actions: Literal["none", "together", "each"] = "none"
    action_low: Numbers = (-1.0,)
    action_high: Numbers = (1.0,)
    action_scale: Numbers | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    max_episode_steps: Annotated[int, Field(ge=1, le=10**9)] = 100
    guidance: Annotated[float, Field(ge=0, le=100)] = 0.0
    prompt: Annotated[str, Field(max_length=10_000)] = ""
    negative_prompt: Annotated[str, Field(max_length=10_000)] = ""
    devices: Annotated[tuple[Annotated[str, Field(max_length=20)], ...], Field(min_length=1, max_length=64)] | None = (
        None
    )


class Scheduler(TypedDict, total=False):
    """What is read of scheduler_config.json."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    _class_name: str
    sigma_min: float | None
    sigma_max: float | None
    sigma_data: float
    final_sigmas_type: str


def is_published(folder: Path) -> bool:
    """Whether a folder holds a model as diffusers publishes it."""
    return all((folder / part / "config.json").is_file() for part in ("transformer", "vae"))


def open_published(folder: Path, device: torch.device) -> WorldModel:
    """The world model in a published folder, in the precision that it is stored in.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit the others; which and how.
    """
    path = folder / SIDECAR
    use: Use = read_file(Use, path, RESTORE) if path.is_file() else Use()
    try:
        tokenizer, dynamics = _modules(folder, use)
        _place(tokenizer, dynamics, device, use.devices)
        fps = use.fps or dynamics.config.fps or 16.0
        task = Task(
            id=use.id or folder.resolve().name,
            views=(View(MAIN, tokenizer.config.height, tokenizer.config.width),),
            action_low=use.action_low,
            action_high=use.action_high,
            action_repeat=1,
            dt_s=dynamics.frames_per_step / fps,
            max_episode_steps=use.max_episode_steps,
        )
    except CheckpointError:
        raise
    except ProcosmError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    if use.actions == "none":
        logging.getLogger("procosm").warning("the model in %s takes no actions: what is done changes nothing", folder)
    frames = _starts(folder, tokenizer.config.height, tokenizer.config.width).to(device)
    still = 1 + (dynamics.context - 1) * tokenizer.spec.frames_per_latent
    videos = (frame.expand(1, still, -1, -1, -1) for frame in frames)
    latents = torch.cat([tokenizer.encode(video) for video in videos])  # one at a time: frames may be large
    one_by_one = tokenizer.spec.frames_per_latent == 1 or dynamics.context == 1  # the first latent stands for others
    return WorldModel(
        task=task,
        tokenizer=tokenizer,
        dynamics=dynamics,
        start_frames=frames[:, None].expand(-1, dynamics.context, -1, -1, -1),
        start_states=None,
        starts=latents,
        reward_range=None,
        metrics={},
        provenance={"published": str(folder)},
        resets=latents[:, 0] if one_by_one else None,
    )


def _place(
    tokenizer: PretrainedTokenizer, dynamics: PretrainedDynamics, device: torch.device, devices: tuple[str, ...] | None
) -> None:
    """Everything on one device, but for the transformer where it is spread over several."""
    if devices is not None:
        spread(dynamics.net, [resolve_device(name) for name in devices], device)
        for name, buffer in dynamics.named_buffers(recurse=False):
            setattr(dynamics, name, buffer.to(device))
    else:
        dynamics.to(device)
    tokenizer.to(device)


def _modules(folder: Path, use: Use) -> tuple[PretrainedTokenizer, PretrainedDynamics]:
    """Both modules with the weights that lie in the folder; where dynamics need the tokenizer, they share it."""
    vae, net = load_vae(folder / "vae"), read_transformer_config(folder / "transformer")
    (t, h, w), side = net.max_size, vae.config.pixels_per_latent
    if net.extra_pos_embed_type is None:
        t, h, w = 4, 2**20, 2**20
    tokens = PretrainedTokenizerConfig(
        vae.config, use.height or min(256, h * side), use.width or min(320, w * side), use.image
    )
    tokenizer = PretrainedTokenizer(tokens, vae)
    noise, fps = _noise(folder, isinstance(vae, WanVAE))
    drawn, texts = use.drawn or max(1, min(3, t - use.given)), _texts(folder, use)
    config = PretrainedDynamicsConfig(
        net,
        noise,
        given=use.given,
        drawn=drawn,
        actions=use.actions,
        fps=use.fps or fps,
        guidance=use.guidance,
        text_tokens=len(texts["text"]) if texts else 1,
    )
    with torch.device("meta"):
        planned = PretrainedDynamics(config, tokenizer, len(use.action_low))
    weights = load_transformer(folder / "transformer", planned.net.action_size)
    dynamics = PretrainedDynamics(config, tokenizer, len(use.action_low), weights)
    told = texts | ({} if use.action_scale is None else {"action_scale": torch.tensor(use.action_scale)})
    for name, tensor in told.items():
        buffer = getattr(dynamics, name)
        if buffer.shape != tensor.shape:
            raise CheckpointError(
                f"{folder}: {name} has shape {tuple(tensor.shape)}, and must have {tuple(buffer.shape)}"
            )
        buffer.copy_(tensor)
    return tokenizer.requires_grad_(False).eval(), dynamics.requires_grad_(False).eval()


def _noise(folder: Path, wan: bool) -> tuple[NoiseConfig, float | None]:
    """Noise as the folder's scheduler has it, and the frames per second that its pipeline tells by itself."""
    path = folder / "scheduler" / "scheduler_config.json"
    found: Scheduler = read_file(Scheduler, path, RESTORE) if path.is_file() else {}
    name = found.get("_class_name", "FlowMatchEulerDiscreteScheduler" if wan else "EDMEulerScheduler")
    clean = found.get("final_sigmas_type", "sigma_min") == "zero"
    if name == "EDMEulerScheduler":
        low, high = found.get("sigma_min") or 0.002, found.get("sigma_max") or 80.0
        return NoiseConfig("edm", low, high, found.get("sigma_data", 0.5), 0.001, clean), 30.0
    if name == "FlowMatchEulerDiscreteScheduler":  # its pipeline writes these over what the file says
        return NoiseConfig("flow", 0.002, 80.0, 1.0, 1e-4), 16.0
    if name == "UniPCMultistepScheduler":
        low, high = found.get("sigma_min") or 0.01, found.get("sigma_max") or 200.0
        return NoiseConfig("flow", low, high, 1.0, 1e-4, found.get("final_sigmas_type", "zero") == "zero"), None
    raise CheckpointError(f"{path} is of a {name:.60}, which no Cosmos model is published with: {RESTORE}")


def _texts(folder: Path, use: Use) -> dict[str, Tensor]:
    """Embeddings of what the model is told, by name; none where there is neither a prompt nor a file of them."""
    path = folder / "text.safetensors"
    if use.prompt or use.negative_prompt:
        if path.is_file():
            raise CheckpointError(f"{path} and a prompt in {folder / SIDECAR} both say what it is told: leave out one")
        text, negative = T5(folder)([use.prompt, use.negative_prompt])
        return {"text": text.float(), "negative": negative.float()}
    if not path.is_file():
        return {}
    found = mapped(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if "text" not in found or not set(found) <= {"text", "negative"} or len(set(shapes.values())) != 1:
        raise CheckpointError(f"{path} holds {shapes}: give 'text', and perhaps 'negative', both (s, width)")
    return found


def _starts(folder: Path, height: int, width: int) -> Tensor:
    """(n, H, W, 3) uint8, the images in ``starts/`` in the order of their names; grey where there are none."""
    paths = sorted((folder / "starts").glob("*.[pj][np]*g"))
    if not paths:
        logging.getLogger("procosm").warning(
            "there are no start frames: dreams begin with grey. Put images of %d by %d pixels into %s",
            height,
            width,
            folder / "starts",
        )
        return torch.full((1, height, width, 3), 127, dtype=torch.uint8)
    frames = []
    for path in paths:
        try:
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError) as error:
            raise CheckpointError(f"{path} is no image that can be read ({error})") from error
        if frames[-1].shape[:2] != (height, width):
            raise CheckpointError(
                f"{path} is {frames[-1].shape[0]} by {frames[-1].shape[1]} pixels, and frames here are "
                f"{height} by {width}: resize it, or set height and width in {folder / SIDECAR}"
            )
    return torch.from_numpy(np.stack(frames))
