"""Post-training: a world model that is there goes on to learn from another log (Cosmos §6, arXiv 2501.03575).

The stages are those of its kind's recipe. What the log shares with what the model knows begins with the old weights:
action i stays action i, whatever its bounds; what is new, such as the state of another robot, begins anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from annotated_types import Interval
from torch import Tensor, nn

from procosm.world_model import checkpoint, folders, registry
from procosm.world_model.conditioning.actions import resized_columns
from procosm.world_model.conditioning.injection import Injection
from procosm.world_model.data.clip_frames import Damaged
from procosm.world_model.data.datasets import are_shards, load_task
from procosm.world_model.data.episodes import acting_policies
from procosm.world_model.data.task import Task
from procosm.world_model.errors import ProcosmError
from procosm.world_model.model import WorldModel
from procosm.world_model.precision import describe, resolve_device
from procosm.world_model.provenance import provenance
from procosm.world_model.readouts import ReadoutName
from procosm.world_model.settings import Count, Device, Positive, Seed, Settings, SettingsError
from procosm.world_model.sparsity import sparse_blocks, sparsify_like, weights
from procosm.world_model.threads import one_thread
from procosm.world_model.training.assembled import assembled
from procosm.world_model.training.lora import adapt, merge
from procosm.world_model.training.parallel import Parallel, check_shares, first_alone, joined, rank
from procosm.world_model.training.recipes import Stage, Training
from procosm.world_model.training.train import learned_from, read_tables
from procosm.world_model.training.validation import open_loop


@dataclass(frozen=True)
class PostTrainConfig(Settings):
    """Go on training a world model on other episodes."""

    base: Path
    """Folder of the world model to begin with: a checkpoint, or a published model; it is not written to."""
    data: Path
    """Folder of a dataset (RUN/data) or of shards; frames must be of the size that the model knows."""
    out: Path
    """Folder of the checkpoint to make."""
    method: Literal["full", "lora"] = "full"
    """full: all weights of the dynamics are trained. lora: of attention and MLPs only low-rank updates, which take a
    fraction of the optimizer's memory; actions and heads are trained whole in both."""
    lora_rank: Count = 8
    """Rank r of a low-rank update."""
    lora_alpha: Positive = 16.0
    """An update counts alpha / r times."""
    tokenizer: Literal["keep", "tune"] = "keep"
    """keep: latents stay what they are. tune: the tokenizer, too, goes on to learn, for pictures unlike those it
    knows."""
    add: tuple[str, ...] = ()
    """Conditions that the model shall take beside those it takes, such as text; they change nothing until trained."""
    injection: Literal["keep"] | Injection = "keep"
    """In which form it is told of actions: keep has that of the base, timestep adds to the timestep embedding,
    cross-attention lets every block attend to them, channels adds them to each place of the input. A form that is new
    to the base begins anew."""
    preset: str = "small"
    """Whose stages are run: debug, small, base, or another that `procosm train` has for this kind of model."""
    effort: Annotated[float, Interval(gt=0, le=100)] = 1.0
    """Steps of every stage, as a multiple of the preset's."""
    rate: Positive = 1.0
    """Learning rate of every stage over the preset's."""
    seed: Seed = 0
    """Seed of what is new, of batches and of noise."""
    device: Device = "auto"
    """Where to train: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""
    frames: Literal["auto", "memory", "disk"] = "auto"
    """Where frames and latents lie meanwhile; auto: in memory, if they take less than half of what is free."""
    damaged: Damaged = "refuse"
    """What becomes of a shard that is not what its checksum says: refuse, or skip, which names it and goes on."""
    accumulate: Count = 1
    """Parts that a batch of the dynamics is taken in: less memory, the same result."""
    recompute: bool = False
    """Work activations of the dynamics' blocks out again in the backward pass: less memory, more time, the same."""
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Each stage ends with the average of its weights, of which every step keeps this share; 0: with the last ones."""


@one_thread()
def post_train(config: PostTrainConfig, stages: Mapping[str, Stage] | None = None) -> Path:
    """Post-train, or resume it; returns the checkpoint folder, which opens by itself.

    With adapters it also holds ``adapter.safetensors``, all that differs from the base; ``provenance.json`` says which
    base that is, with the checksum of each of its weight files.

    Args:
        config: from what, on what, and how.
        stages: in place of those of ``config.preset``.

    Raises:
        ProcosmError: a base that does not fit the log, settings that do not fit the base, or an ``out`` in the way.
    """
    check_outs(config)
    with joined():
        return _post_train(config, stages)


def _post_train(config: PostTrainConfig, given: Mapping[str, Stage] | None) -> Path:
    base, task, device = checkpoint.load(config.base), load_task(config.data), resolve_device(config.device)
    stages = given or recipe_stages(config, base)
    how = Parallel("ddp", config.accumulate, config.recompute, config.ema)
    check_shares({name: stage.batch for name, stage in stages.items()}, how)
    torch.manual_seed(config.seed)
    tokenizer, dynamics, new = continued(base, task, config.add, config.injection)
    adapted = _adapted(config, dynamics, new) if config.method == "lora" else []
    tokenizer, dynamics = tokenizer.to(device), dynamics.to(device)
    tables = read_tables(config.data, dynamics, device, config.frames, config.damaged)
    out = folders.named(config.out)
    work, in_epochs = out.with_name(out.name + ".training"), are_shards(config.data)
    training = Training(tokenizer, dynamics, tables, config.seed, work, how=how, in_epochs=in_epochs)
    training.metrics |= {"trained": _trained(dynamics), "signals": learned_from(training)}
    for name, stage in stages.items():
        training.metrics |= stage.run(name, training)
    factors = merge(dynamics)
    if getattr(dynamics, "frames_per_step", 1) == 1:
        training.metrics["open_loop"] = open_loop(training)
    origin = provenance({"post_train": config}) | {"device": describe(device), "policies": acting_policies(config.data)}
    origin["base"] = {"folder": str(config.base), "sha256": checkpoint.checksums(config.base), "new": new}
    made = assembled(task, training, origin)
    adapter = factors | _changed(base, dynamics, adapted) if adapted else None
    with first_alone():
        return checkpoint.save(config.out, made, adapter) if rank() == 0 else config.out


def check_outs(config: PostTrainConfig) -> None:
    """Refuse, before the work, an ``out`` that the checkpoint must not or cannot be saved to.

    Raises:
        ProcosmError: it holds anything but a checkpoint, or it and the data or the base lie one in the other.
    """
    for inputs in (config.data, config.base):
        folders.check_apart(config.out, inputs)
    checkpoint.check_out(config.out)
    folders.check_out(folders.named(config.out).parent)


def recipe_stages(config: PostTrainConfig, base: WorldModel) -> dict[str, Stage]:
    """The stages of the preset for the base's kinds, as long and as fast as asked.

    Raises:
        SettingsError: the kind has no such preset.
    """
    found: dict[str, Stage] = {}
    parts: tuple[tuple[registry.Part, Any], ...] = (("tokenizer", base.tokenizer), ("dynamics", base.dynamics))
    for part, module in parts if config.tokenizer == "tune" else parts[1:]:
        name = registry.kind_of(part, module.config)
        recipes = registry.kind(part, name).recipes
        if config.preset not in recipes:
            known = ", ".join(recipes) or "none, so it cannot be tuned"
            raise SettingsError(f"--preset {config.preset}: {part} of the kind {name} have {known}")
        found |= recipes[config.preset].stages
    return {
        name: replace(
            stage, steps=max(1, round(stage.steps * config.effort)), learning_rate=stage.learning_rate * config.rate
        )
        for name, stage in found.items()
    }


def continued(
    base: WorldModel, task: Task, add: tuple[str, ...] = (), injection: Literal["keep"] | Injection = "keep"
) -> tuple[Any, Any, list[str]]:
    """A tokenizer and dynamics for ``task`` with the weights of ``base`` where there are such, and the names of others.

    Raises:
        ProcosmError: frames of another size than the base's, or a condition or form that its kind does not take.
    """
    old: tuple[Any, Any] = (base.tokenizer, base.dynamics)
    if (task.height, task.width) != (base.task.height, base.task.width):
        raise ProcosmError(
            f"the log has frames of {task.height} by {task.width} pixels, and the base knows {base.task.height} by "
            f"{base.task.width}: collect or ingest frames of that size"
        )
    config = old[1].config
    for condition in add:
        config = registry.with_condition(config, condition)
    if injection != "keep":
        if not hasattr(config, "injection"):
            raise SettingsError("--injection: such dynamics are told of actions in one form alone; leave it out")
        config = replace(config, injection=injection)
    if hasattr(config, "readouts"):  # told is what the new log has, not what the old one had
        config = replace(config, readouts=tuple(name for name in get_args(ReadoutName) if name != "features"))
    tokenizer, dynamics = registry.untrained(task, old[0].config, config)
    columns, sizes = dynamics.action_columns, (len(base.task.action_low), len(task.action_low))
    theirs = old[1].state_dict()
    if getattr(config, "acts", True) and not getattr(old[1].config, "acts", True):
        theirs |= _of_nothing_done(theirs, {name: slots * sizes[0] for name, slots in columns.items()})
    resized = {name: resized_columns(theirs[name], *sizes, columns[name]) for name in columns if name in theirs}
    resized |= {name: theirs[name] for name in map(_bias_of, columns) if name in theirs}
    new = [*_taken_over(tokenizer, old[0], {}), *_taken_over(dynamics, old[1], resized)]
    for name, module in dynamics.named_modules():
        if hasattr(module, "silence") and all(f"{name}.{tensor}" in new for tensor in module.state_dict()):
            module.silence()
    return tokenizer, dynamics, new


def _bias_of(weight: str) -> str:
    return f"{weight.removesuffix('weight')}bias"


def _of_nothing_done(theirs: Mapping[str, Tensor], columns: Mapping[str, int]) -> dict[str, Tensor]:
    """The layers that are told of actions, of a model that was told the same whatever was done: actions of 0, all of
    them known. What that added goes to the bias, and what is told from now on adds nothing yet.

    Args:
        columns: how many columns of a weight, the first ones, are of actions; 1 was told in all others.
    """
    found: dict[str, Tensor] = {}
    for name in columns.keys() & theirs.keys():
        known = theirs[name][:, columns[name] :].sum(1)
        found |= {name: torch.zeros_like(theirs[name]), _bias_of(name): theirs[_bias_of(name)] + known}
    return found


def _taken_over(module: nn.Module, base: nn.Module, resized: Mapping[str, Tensor]) -> list[str]:
    """Copy the base's tensors, or ``resized`` ones in their place, into a module; returns the names of all others."""
    theirs = {**base.state_dict(), **resized}
    sparsify_like(module, sparse_blocks(base), theirs)
    own = {name: tensor for name, tensor in module.state_dict().items() if name not in checkpoint.BOUNDS}
    fitting = {
        name: theirs[name] for name, tensor in own.items() if name in theirs and theirs[name].shape == tensor.shape
    }
    module.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def _adapted(config: PostTrainConfig, dynamics: Any, new: list[str]) -> list[str]:
    """Give the dynamics adapters, leave the rest as it is but for what is new or trained whole; the adapted layers."""
    whole = [name for name, _ in dynamics.named_parameters() if name in new]
    names = adapt(dynamics, config.lora_rank, config.lora_alpha, (*dynamics.stay_dense, *_layers_of(whole)))
    for name, parameter in dynamics.named_parameters():
        factor = name.endswith((".down", ".up")) and name.rpartition(".")[0] in names
        parameter.requires_grad_(factor or name in whole or any(fnmatch(name, each) for each in dynamics.trained_whole))
    return names


def _layers_of(tensors: list[str]) -> list[str]:
    return [name.rpartition(".")[0] for name in tensors]


def _trained(dynamics: nn.Module) -> dict[str, int]:
    """How many numbers post-training changes in the dynamics, and of how many."""
    trained = sum(each.numel() for each in dynamics.parameters() if each.requires_grad)
    return {"trained": trained, **weights(dynamics)}


def _changed(base: WorldModel, dynamics: nn.Module, adapted: list[str]) -> dict[str, Tensor]:
    """Every tensor of the dynamics, but of adapted layers, that is not the base's."""
    before = base.dynamics.state_dict()  # type: ignore[attr-defined]  # a module of a kind with a config
    return {
        name: tensor
        for name, tensor in dynamics.state_dict().items()
        if name.rpartition(".")[0] not in adapted
        and (name not in before or not torch.equal(before[name].to(tensor), tensor))
    }
