"""A trained world model as a folder: configuration, weights, start frames, metrics, provenance.

Nothing in it is a pickle. Of a block-sparse layer only the live blocks are stored (NAME.values, .rows, .cols), and
config.json names the layer and the side of its blocks. A reader finds all of a save
or nothing of it, see ``folders``. config.json also holds the weight files' checksums; checkpoints from before it did
are read without.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model import folders, registry, starts_file
from procosm.world_model.conditioning.text import LONGEST
from procosm.world_model.data.task import Task, migrated
from procosm.world_model.errors import CheckpointError, ProcosmError, TaskError
from procosm.world_model.files import read_json, write_json, write_tensors
from procosm.world_model.folders import find
from procosm.world_model.model import WorldModel
from procosm.world_model.precision import resolve_device
from procosm.world_model.schema import checked
from procosm.world_model.sparsity import sparse_blocks, sparsify_like
from procosm.world_model.threads import one_thread
from procosm.world_model.weights import (
    RESTORE,
    checksum,
    read_weights,
    stored_shapes,
    without_parameters,
)

FORMAT = 3
"""Format 1 had one kind of each part and did not name it. Up to format 2 a task was one square view of a MuJoCo task
with everything logged, and tokenizers took square frames alone. Both open as before."""
PARTS: tuple["registry.Part", "registry.Part"] = ("tokenizer", "dynamics")
BOUNDS = ("action_low", "action_high")
WEIGHTS = (*PARTS, "starts")
"""Files (NAME.safetensors) that every checkpoint has; trust, resets and practice may come later."""
FILES = {f"{name}.safetensors" for name in (*WEIGHTS, "trust", "resets", "practice", "adapter")}
FILES |= {f"{name}.json" for name in ("config", "metrics", "provenance")}


Side = Annotated[int, Field(ge=16, le=128, multiple_of=16)]


@dataclass(frozen=True)
class Blocks:
    """Side of the blocks of every block-sparse layer, by its name."""

    tokenizer: dict[str, Side] = field(default_factory=dict)
    dynamics: dict[str, Side] = field(default_factory=dict)


@dataclass(frozen=True)
class Kinds:
    """Names of the kinds of both parts, see ``registry``."""

    tokenizer: str
    dynamics: str


@dataclass(frozen=True)
class Config:
    """What config.json holds."""

    format: int
    task: Task
    kinds: Kinds
    tokenizer: dict[str, Any]
    dynamics: dict[str, Any]
    reward_range: tuple[float, float] | None
    """None where no rewards were logged."""
    sparse: Blocks = field(default_factory=Blocks)
    sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = field(default_factory=dict)
    """Checksum of each weight file by its name."""
    texts: tuple[Annotated[str, Field(max_length=LONGEST)], ...] = ()
    """See WorldModel."""

    def __post_init__(self) -> None:
        if self.reward_range is not None and self.reward_range[0] > self.reward_range[1]:
            raise CheckpointError(f"reward_range goes from {self.reward_range[0]} down to {self.reward_range[1]}")
        if (self.reward_range is None) == ("reward" in self.task.signals):
            raise CheckpointError("reward_range must be given where rewards were logged, and null where none were")
        lacking = {f"{name}.safetensors" for name in WEIGHTS} - set(self.sha256)
        if self.sha256 and lacking:
            raise CheckpointError(f"sha256 lacks {', '.join(sorted(lacking))}")


def check_out(folder: Path) -> None:
    """Refuse, before the work, a folder that a checkpoint must not or cannot be saved to.

    Raises:
        ProcosmError: it holds anything but a checkpoint, or cannot be written.
    """
    folders.check_out(folder, FILES.__contains__)
    there = sorted(name for name in FILES if (folder / name).exists())
    strange = [name for name in there if not (folder / name).is_file()]
    if not strange and there and not any(name.endswith(".safetensors") for name in there):
        strange = [] if _is_config(folder / "config.json") else there  # other programs write a config.json too
    if strange:
        raise ProcosmError(f"{folder / strange[0]} is not of a checkpoint: give an --out of its own, or move it away")


def _is_config(path: Path) -> bool:
    try:
        return {"format", "task"} <= set(read_json(path))
    except (CheckpointError, TypeError):
        return False


def save(folder: Path, model: WorldModel, adapter: Mapping[str, Tensor] | None = None) -> Path:
    """Write the model's folder; an older one counts until the new one is complete.

    Args:
        adapter: all in which its dynamics differ from those that it was post-trained from, see ``training.post``.

    Raises:
        ProcosmError: the folder holds anything but a checkpoint, or the disk does not take this one.
    """
    check_out(folder)
    starts = {"frames": model.start_frames, "latents": model.starts}
    starts |= {} if model.start_states is None else {"states": model.start_states}
    starts |= {} if model.start_actions is None else starts_file.stored_actions(model.start_actions)
    resets = {} if model.resets is None else {"latents": model.resets}
    windows = model.practice
    practice = {} if windows is None else {"latents": windows.latents, **starts_file.stored_actions(windows.actions)}
    spoken = (starts, model.start_texts), (resets, model.reset_texts), (practice, windows.texts if windows else None)
    for tensors, said in spoken:
        tensors |= {} if said is None or not tensors else {"texts": said}
    tokenizer, dynamics = cast(Any, model.tokenizer), cast(Any, model.dynamics)  # modules of kinds with configs
    kinds = Kinds(registry.kind_of("tokenizer", tokenizer.config), registry.kind_of("dynamics", dynamics.config))

    def write(staging: Path) -> None:
        write_tensors(staging / "tokenizer.safetensors", tokenizer.state_dict())
        write_tensors(staging / "dynamics.safetensors", dynamics.state_dict())
        write_tensors(staging / "starts.safetensors", starts)
        # Empty where there is none: an older model's must not stay.
        write_tensors(staging / "trust.safetensors", model.trust or {})
        write_tensors(staging / "resets.safetensors", resets)
        write_tensors(staging / "practice.safetensors", practice)
        write_tensors(staging / "adapter.safetensors", dict(adapter or {}))
        config = Config(
            format=FORMAT,
            task=model.task,
            kinds=kinds,
            tokenizer=dataclasses.asdict(tokenizer.config),
            dynamics=dataclasses.asdict(dynamics.config),
            reward_range=model.reward_range,
            sparse=Blocks(sparse_blocks(tokenizer), sparse_blocks(dynamics)),
            texts=model.texts,
            sha256={path.name: checksum(path) for path in sorted(staging.glob("*.safetensors"))},
        )
        write_json(staging / "config.json", dataclasses.asdict(config))
        write_json(staging / "metrics.json", model.metrics)
        write_json(staging / "provenance.json", model.provenance)

    folders.replace(folder, write)
    return folder


def is_model(folder: Path) -> bool:
    """Whether a folder looks like one that :func:`load` opens."""
    return find(folder, "config.json").is_file() or any(tells(folder) for tells, _ in registry.FOLDERS)


@one_thread()
def load(folder: Path | str, device: str | torch.device = "cpu") -> WorldModel:
    """Open a checkpoint folder, made on whatever device, on ``device`` (``auto``, ``cpu``, ``cuda``, ``cuda:i``).

    The folder may also be a published model's, see ``registry.FOLDERS``.

    Raises:
        CheckpointError: a missing, damaged or foreign checkpoint; which file of it, what is wrong, and what to do.
        ProcosmError: no such device.
    """
    device = resolve_device(device)
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"no checkpoint at {folder}: train one with `procosm run --env ID --out DIR` and give DIR/world_model"
        )
    if not find(folder, "config.json").exists():
        for tells, opened in registry.FOLDERS:
            if tells(folder):
                return opened(folder, device)
    while True:
        before = folders.identity(folder)
        try:
            model = _read(folder, device)
        except CheckpointError:
            if folders.identity(folder) == before:
                raise
        else:
            if folders.identity(folder) == before:  # else it was saved anew meanwhile
                return model


def _read(folder: Path, device: torch.device) -> WorldModel:
    config = read_config(folder)
    tokenizer, dynamics, dtype = _loaded_modules(folder, config)
    starts = read_weights(find(folder, "starts.safetensors"), config.sha256)
    if "adapter.safetensors" in config.sha256:  # of use to post-training alone, and damaged it belongs to another model
        read_weights(find(folder, "adapter.safetensors"), config.sha256)
    shape = (dynamics.context, *tokenizer.spec.shape)
    starts_file.check_starts(folder / "starts.safetensors", starts, config, shape)
    metrics, provenance = (
        checked(dict[str, Any], read_json(find(folder, name)), str(folder / name), RESTORE)
        for name in ("metrics.json", "provenance.json")
    )
    latents = starts["latents"].to(device, dtype)
    resets = starts_file.loaded_resets(find(folder, "resets.safetensors"), config, latents)
    return WorldModel(
        task=config.task,
        tokenizer=tokenizer.to(device),
        dynamics=dynamics.to(device),
        start_frames=starts["frames"].to(device),
        start_states=starts["states"].to(device) if "states" in starts else None,
        starts=latents,
        reward_range=config.reward_range,
        metrics=metrics,
        provenance=provenance,
        trust=starts_file.loaded_trust(find(folder, "trust.safetensors"), config, device),
        resets=resets.get("latents"),
        start_actions=starts_file.start_actions(starts).to(device) if "actions" in starts else None,
        texts=config.texts,
        start_texts=starts["texts"].to(device) if "texts" in starts else None,
        reset_texts=resets.get("texts"),
        practice=starts_file.loaded_practice(find(folder, "practice.safetensors"), config, latents),
    )


def read_config(folder: Path) -> Config:
    """What stands in a checkpoint's config.json.

    Raises:
        CheckpointError: it is missing or damaged, of another format, or a value in it cannot be; by name.
    """
    path = find(folder, "config.json")
    return checked(Config, _migrated(path, read_json(path)), str(path), RESTORE, optional=("sparse", "sha256", "texts"))


def _migrated(path: Path, values: Any) -> Any:
    """A configuration of any format that was ever written, in this one."""
    if not isinstance(values, dict) or values.get("format") == FORMAT:
        return values
    if values.get("format") not in (1, 2):
        raise CheckpointError(
            f"{path} has format {str(values.get('format'))[:60]}, this version reads 1 to {FORMAT}: open it with the "
            "version of procosm that wrote it, or a newer one"
        )
    if values["format"] == 1:
        values = values | {"kinds": {"tokenizer": "causal", "dynamics": "diffusion"}}
    try:
        values = values | {"format": FORMAT, "task": migrated(values.get("task"))}
    except TaskError as error:
        raise CheckpointError(f"{path}: task: {error}; {RESTORE}") from error
    tokenizer = values.get("tokenizer")
    if isinstance(tokenizer, dict) and "frame_size" in tokenizer:
        sides = dict.fromkeys(("frame_height", "frame_width"), tokenizer["frame_size"])
        values["tokenizer"] = {key: value for key, value in tokenizer.items() if key != "frame_size"} | sides
    return values


def checksums(folder: Path) -> dict[str, str]:
    """sha256 of each weight file in the folder of a checkpoint or of a published model, by its path in there."""
    return {str(path.relative_to(folder)): checksum(path) for path in sorted(folder.rglob("*.safetensors"))}


def add_trust(folder: Path, trust: Mapping[str, Tensor]) -> Path:
    """Write ``trust.safetensors`` into a checkpoint folder, its checksum with it; returns it."""
    return _add(folder, "trust.safetensors", trust)


def add_resets(folder: Path, resets: Tensor) -> Path:
    """Write ``resets.safetensors`` into a checkpoint folder, (m, c, h, w) as ``WorldModel.resets``; returns it."""
    return _add(folder, "resets.safetensors", {"latents": resets})


def _add(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> Path:
    """Write a file that not every checkpoint has into the folder of one, its checksum with it."""
    config = read_config(folder)

    def write(staging: Path) -> None:
        write_tensors(staging / name, dict(tensors))
        if config.sha256:
            sums = config.sha256 | {name: checksum(staging / name)}
            write_json(staging / "config.json", dataclasses.asdict(dataclasses.replace(config, sha256=sums)))

    folders.replace(folder, write)
    return folder / name


def _loaded_modules(folder: Path, config: Config) -> tuple[Any, Any, torch.dtype]:
    """Both modules with their weights, frozen, in eval mode, and what they compute in.

    They are built on no device first, to see whether they fit. Their weights then are those of the files, not copies.
    """
    parts = _configs(folder / "config.json", config)
    try:
        with torch.device("meta"):
            planned = dict(zip(PARTS, registry.build(config.task, *parts), strict=True))
    except (ProcosmError, ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{folder}/config.json describes no model ({error}): {RESTORE}") from error
    read = {}
    for name, module in planned.items():
        path = find(folder, f"{name}.safetensors")
        expected = _expected(path, module, getattr(config.sparse, name))
        read[name] = read_weights(path, config.sha256, expected)
    dtype = _dtype_of(read.values())
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # for kinds that draw more than parameters
        with without_parameters():
            tokenizer, dynamics = registry.build(config.task, *parts)
        bounds = {name: value.clone() for name, value in dynamics.named_buffers() if name in BOUNDS}
        for module, (name, tensors) in zip((tokenizer, dynamics), read.items(), strict=True):
            try:
                with without_parameters():
                    sparsify_like(module, getattr(config.sparse, name), tensors)
                stored = {key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors.items()}
                module.to(dtype).load_state_dict(stored, assign=True)
            except (KeyError, RuntimeError, CheckpointError) as error:
                raise CheckpointError(f"{folder}/{name}.safetensors does not fit its config.json: {error}") from error
            module.requires_grad_(False).eval()
    if not all(torch.equal(value.float(), getattr(dynamics, name).float()) for name, value in bounds.items()):
        raise CheckpointError(f"{folder}/dynamics.safetensors has other bounds of actions than config.json: {RESTORE}")
    return tokenizer, dynamics, dtype


def _configs(path: Path, config: Config) -> list[Any]:
    """Those of both parts, each of its kind's class."""
    try:
        kinds = [registry.kind(part, getattr(config.kinds, part)) for part in PARTS]
    except ProcosmError as error:
        raise CheckpointError(f"{path}: {error}; take a version of procosm that has it") from error
    return [
        checked(kind.config, getattr(config, part), f"{path}: {part}", RESTORE, optional=kind.later)
        for kind, part in zip(kinds, PARTS, strict=True)
    ]


def _expected(path: Path, module: nn.Module, blocks: Mapping[str, int]) -> dict[str, Tensor]:
    """Shapes and kinds of a module's tensors as they are stored, the live blocks of its block-sparse layers with them.

    Args:
        path: its file, which says how many blocks live. module: dense, on the meta device.
    """
    expected = dict(module.state_dict())
    stored = stored_shapes(path) if blocks else {}
    for name, block in blocks.items():
        if expected.pop(f"{name}.weight", None) is None:
            raise CheckpointError(f"{path.parent}/config.json: there is no layer {name} to be block-sparse: {RESTORE}")
        count = (*stored.get(f"{name}.values", ()), 0)[0]
        expected[f"{name}.values"] = torch.empty(count, block, block, device="meta")
        expected |= {
            f"{name}.{part}": torch.empty(count, dtype=torch.int32, device="meta") for part in ("rows", "cols")
        }
        expected[f"{name}.shape"] = torch.empty(2, dtype=torch.int64, device="meta")
    return expected


def _dtype_of(weights: Iterable[Mapping[str, Tensor]]) -> torch.dtype:
    """What a model computes in: double precision if it was trained so, otherwise single, also if stored in half."""
    double = any(tensor.dtype == torch.float64 for tensors in weights for tensor in tensors.values())
    return torch.float64 if double else torch.float32
