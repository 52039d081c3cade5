"""Recipes: the stages of a training as data, a list for each size that a kind of model comes in.

A stage is a frozen dataclass of its settings that knows what it trains. Every kind of tokenizer and dynamics brings its
own, beside its class; ``registry`` names them, and nothing here names a model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from procosm.world_model.data.batch import Batch
from procosm.world_model.data.on_disk import Rows, latents_on_disk
from procosm.world_model.data.windows import Table
from procosm.world_model.encoding import encode
from procosm.world_model.files import digest
from procosm.world_model.precision import float32_convolutions
from procosm.world_model.progress import Progress
from procosm.world_model.training.parallel import ALONE, Parallel, first_alone
from procosm.world_model.training.stage import Losses, MakeSparsifier, Optimizer, StageConfig, rate, run_stage


@dataclass
class Training:
    """A training under way: what its stages work with.

    Attributes:
        tokenizer, dynamics: modules on the device where they are trained.
        tables: episodes by kind, ``train`` and ``holdout`` among them.
        seed: of batches and noise.
        work: folder of what training goes on from.
        sparsifiers: what makes the sparsifier of a part, where it is block-sparse and its pattern changes.
        metrics: what the stages found, by name.
        encoded: latents of every frame of each table, where they are known already.
        how: how steps are shared out among the processes that train together.
        in_epochs: whether windows of frames come in epochs, as of shards, see ``data.source``.
    """

    tokenizer: Any
    dynamics: Any
    tables: Mapping[str, Table]
    seed: int
    work: Path
    sparsifiers: Mapping[str, MakeSparsifier] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    encoded: dict[str, Tensor | Rows] = field(default_factory=dict)
    how: Parallel = ALONE
    in_epochs: bool = False

    @property
    def table(self) -> Table:
        """The episodes that are trained on."""
        return self.tables["train"]

    @property
    def latents(self) -> dict[str, Tensor | Rows]:
        """(n, c, h, w) of every frame of each table. To be asked for once the tokenizer is finished.

        Of frames on disk they lie there, too, in a file beside the saves that is made once for a tokenizer.
        """
        for name, table in self.tables.items():
            if name not in self.encoded:
                with Progress(len(table.frames), "encode", "frame") as bar:
                    coded = partial(encode, self.tokenizer, device=table.device, coded=bar.update)
                    if isinstance(table.frames, Tensor):
                        self.encoded[name] = coded(table.frames)
                        continue
                    path = self.work / f"latents-{name}-{digest(self.tokenizer)}.f32"
                    with first_alone():
                        self.encoded[name] = latents_on_disk(path, table.frames, self.tokenizer.spec.shape, coded)
        return self.encoded

    def optimise(
        self, name: str, module: nn.Module, losses: Losses, config: StageConfig, part: str = ""
    ) -> dict[str, float]:
        """Run one stage and return its metrics, see ``stage.run_stage``; the pattern of ``part`` changes in it."""
        save, choose = self.work / f"{name}.safetensors", self.sparsifiers.get(part)
        # A tokenizer's loss looks at its whole batch at once.
        how = replace(self.how, accumulate=1) if part == "tokenizer" else self.how
        return run_stage(name, module, losses, config, save, choose, how)


@dataclass(frozen=True)
class Stage(StageConfig):
    """One stage of a recipe: its settings, and what it does."""

    chooses: ClassVar[str] = ""
    """The part (tokenizer, dynamics) whose live blocks change in this stage, where it is block-sparse."""

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """Train, or go on with, what the stage is about; returns what it found, by name."""
        raise NotImplementedError

    def rehearsal(self, module: Any, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
        """What the stage trains of a module, and its loss on a made-up batch; of stages that choose blocks or train the
        dynamics' network.
        """
        raise NotImplementedError

    def rehearse(self, module: Any, batch: Batch) -> Callable[[], None]:
        """A training step of a module as ``run_stage`` takes it, on a made-up batch and without a save."""
        trained, loss = self.rehearsal(module, batch)
        optimizer = Optimizer(trained, self)

        def step() -> None:
            with float32_convolutions():
                loss().backward()
            optimizer.step(rate(0, self))
            optimizer.adam.zero_grad(set_to_none=True)

        return step

    def window_flops(self, dynamics: Any) -> int:
        """FLOPs of the forward pass of a dynamics' network on one window of a batch; 0 where it is not trained."""
        return 0


@dataclass(frozen=True)
class Recipe:
    """One size of a kind of model, and how it is trained.

    Attributes:
        config: of the kind's config class.
        stages: by name, in order. Names are those of saves and metrics.
        tokenizer: fields of the tokenizer's config that dynamics ask for.
        further: stages after those, by name, that are run where they are asked for.
    """

    config: Any
    stages: Mapping[str, Stage]
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    further: Mapping[str, Stage] = field(default_factory=dict)
