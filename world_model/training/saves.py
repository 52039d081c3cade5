"""What a stage goes on from: one file, or, where the weights are in shards, a folder to which every process writes.

Either is read by any number of processes. The folder ``NAME.shards/STEP`` is what torch.distributed.checkpoint makes,
in files of safetensors; it counts once it has its name, and older ones are deleted then.
"""

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_tensors, under, write_tensors
from procosm.world_model.training.parallel import decide, rank

PREFIXES = ("model.", "adam.", "sum.", "sparsifier.")
WRITING = ".writing"


class Sparsifier(Protocol):
    """What chooses the live blocks while a stage runs, see procosm.sparse.sparsifier."""

    def measure_whole_gradients(self) -> None: ...
    def before_step(self, step: int) -> None: ...
    def after_step(self, step: int) -> None: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class Optimizer(Protocol):
    """What trains, as far as it is saved."""

    def tensors(self) -> dict[str, Tensor]: ...
    def load(self, tensors: dict[str, Tensor]) -> None: ...


class Save:
    """The save of one stage.

    Args:
        path: the file; shards stand beside it.
        steps: how many the stage has.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps
        self.shards = path.with_suffix(".shards")

    def write(
        self, module: nn.Module, optimizer: Optimizer, step: int, sums: Mapping[str, Tensor],
        sparsifier: Sparsifier | None, in_shards: bool,
    ) -> None:  # fmt: skip
        """Save the state after ``step`` steps; every process calls it."""
        choice = {f"sparsifier.{k}": v for k, v in sparsifier.state_dict().items()} if sparsifier else {}
        rest = optimizer.tensors() | choice | {"step": torch.tensor(step)} | _sums(sums)
        if in_shards:
            self._write_shards({f"model.{k}": v for k, v in _raw(module).items()} | rest, step)
        elif rank() == 0:
            self._write_file({f"model.{k}": v for k, v in module.state_dict().items()} | rest)

    def finish(self, module: nn.Module, sums: Mapping[str, Tensor]) -> None:
        """Save a module that is trained."""
        if rank() == 0:
            model = {f"model.{k}": v for k, v in module.state_dict().items()}
            self._write_file(model | _sums(sums) | {"step": torch.tensor(self.steps)})
        decide(0)  # nobody looks for it before it is there

    def _write_file(self, tensors: dict[str, Tensor]) -> None:
        write_tensors(self.path, tensors)
        shutil.rmtree(self.shards, ignore_errors=True)

    def _write_shards(self, tensors: dict[str, Tensor], step: int) -> None:
        import torch.distributed.checkpoint as dcp

        staging, whole = self.shards / WRITING, self.shards / f"{step:09}"
        if rank() == 0:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        decide(0)
        with _quiet():
            dcp.save(tensors, storage_writer=dcp.HuggingFaceStorageWriter(str(staging), save_distributed=True))
        if rank() == 0:
            older = [folder for folder in self.shards.iterdir() if folder != staging]
            staging.rename(whole)
            for folder in older:
                shutil.rmtree(folder)
            self.path.unlink(missing_ok=True)

    def read(self) -> "Read | None":
        """What is saved; None where nothing is.

        Raises:
            CheckpointError: it is damaged.
        """
        folders = sorted(folder for folder in self.shards.glob("[0-9]*") if folder.is_dir())
        if self.path.exists():
            return _FromFile(self.path, self.steps)
        return _FromShards(folders[-1], self.steps) if folders else None


class Read(Protocol):
    """A save that was found."""

    step: int
    sums: dict[str, Tensor]

    def load_module(self, module: nn.Module) -> None:
        """Before it is in shards."""

    def load_rest(self, module: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier | None) -> None:
        """Once it is."""


class _FromFile:
    def __init__(self, path: Path, steps: int) -> None:
        self.path = path
        self.advice = f"delete {path}, and run the same command again to train this stage anew"
        self.tensors = read_tensors(path, self.advice)
        try:
            self.step = checked_step(self.tensors, steps)
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged ({error}): {self.advice}") from error
        self.sums = under("sum.", self.tensors)

    def load_module(self, module: nn.Module) -> None:
        with _of_this_model(self.path):
            model, present = under("model.", self.tensors), module.state_dict()
            if odd := [name for name in model if name in present and model[name].dtype != present[name].dtype]:
                raise ValueError(f"{odd[0]} is {model[odd[0]].dtype}, the model's is {present[odd[0]].dtype}")
            module.load_state_dict(model)

    def load_rest(self, module: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier | None) -> None:
        with _of_this_model(self.path):
            if sparsifier:
                sparsifier.load_state_dict(under("sparsifier.", self.tensors))
            optimizer.load(self.tensors)


class _FromShards:
    def __init__(self, folder: Path, steps: int) -> None:
        import torch.distributed.checkpoint as dcp

        self.folder = folder
        self.advice = f"delete {folder.parent}, and run the same command again to train this stage anew"
        try:
            self.reader = dcp.HuggingFaceStorageReader(str(folder))
            stored: Any = self.reader.read_metadata().state_dict_metadata
            self.stored = {name: (each.size, each.properties.dtype) for name, each in stored.items()}
            rest = {name: each for name, each in self.stored.items() if not name.startswith(("model.", "adam."))}
            plain = {name: torch.empty(size, dtype=dtype) for name, (size, dtype) in rest.items()}
            self._load(plain)
            self.step, self.plain = checked_step(plain, steps), plain
        except (OSError, ValueError, KeyError, RuntimeError, dcp.CheckpointException) as error:
            raise CheckpointError(f"{folder} is damaged ({error}): {self.advice}") from error
        self.sums = under("sum.", plain)

    def load_module(self, module: nn.Module) -> None:
        """In shards it is read into what is in shards already."""

    def load_rest(self, module: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier | None) -> None:
        raw = _raw(module)
        parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
        with _of_this_model(self.folder):
            found = {name: size for name, (size, _) in under("model.", self.stored).items()}
            if wrong := [name for name in found.keys() | raw if name not in raw or found.get(name) != raw[name].shape]:
                raise ValueError(f"{wrong[0]} is {found.get(wrong[0], 'missing')}")
            state: dict[str, Tensor] = {f"model.{name}": tensor for name, tensor in raw.items()}
            for name in self.stored:
                _, _, parameter = name.removeprefix("adam.").partition(".")
                if name.startswith("adam."):
                    size, dtype = self.stored[name]
                    like = parameters[parameter]
                    alike = like.shape == size
                    state[name] = torch.zeros_like(like) if alike else torch.zeros(size, dtype=dtype)
            self._load(state)
            if sparsifier:
                sparsifier.load_state_dict(under("sparsifier.", self.plain))
            optimizer.load(state)

    def _load(self, tensors: dict[str, Tensor]) -> None:
        import torch.distributed.checkpoint as dcp

        with _quiet():
            dcp.load(tensors, storage_reader=self.reader)


def checked_step(tensors: Mapping[str, Tensor], steps: int) -> int:
    """The step of a save; a ValueError where something in it can be no save's."""
    step = tensors.get("step")
    if step is None or step.dtype != torch.int64 or step.dim() or not 0 < int(step) <= steps:
        raise ValueError(f"step is {'missing' if step is None else step.tolist()}, and the stage has {steps}")
    for name, tensor in tensors.items():
        if name != "step" and not name.startswith(PREFIXES):
            raise ValueError(f"{name} is nothing that a save holds")
        if name.startswith(("model.", "adam.", "sum.")) and not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")
        if name.startswith("sum.") and (tensor.dim() or not tensor.is_floating_point()):
            raise ValueError(f"{name} is no number")
    return int(step)


def _sums(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"sum.{name}": value.clone() for name, value in sums.items()}


def _raw(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that are not in a state_dict, as they lie in memory."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


@contextlib.contextmanager
def _of_this_model(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:
        raise ProcosmError(
            f"{path} was begun with another model: give its settings to go on, or delete it. {error}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warning that a single process is a single process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
