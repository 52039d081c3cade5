"""One model of sparse.curve under training: in turns with others, its seconds counted, judged at fixed steps.

Steps are those of the product's diffusion stage. A model goes on from its last turn when it was killed.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from procosm.benchmarks.sparse.cells import Cell, Desk, chooser, judged
from procosm.sparse.sparsifier import Sparsifier
from procosm.world_model import registry
from procosm.world_model.diffusion.recipe import coarse_products
from procosm.world_model.files import read_json, write_json
from procosm.world_model.sparsity import sparsify
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.training.gradients import Gradients
from procosm.world_model.training.parallel import ALONE
from procosm.world_model.training.presets import Preset
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.saves import Save
from procosm.world_model.training.stage import Losses, Optimizer, StageConfig, Steps, Watched

CPU = torch.device("cpu")


class Given(NamedTuple):
    """What all models are trained on and judged by: the same data, tokenizer, latents and reading of the state."""

    desk: Desk
    tokenizer: CausalTokenizer
    head: dict[str, Tensor]
    latents: dict[str, Tensor]
    windows: int


class Caught(Training):
    """A training whose stage hands over its losses instead of minimising them."""

    losses: Losses

    def optimise(
        self, name: str, module: torch.nn.Module, losses: Losses, config: StageConfig, part: str = ""
    ) -> dict[str, float]:
        """Remember the losses of the stage."""
        self.losses = losses
        return {}


class Racer:
    """A model of one arm and seed.

    Args:
        cell: its method, density and seed. sizes: preset, the steps of whose diffusion stage it takes.
        block: side of its blocks. marks: steps after which it is judged, the last one among them.

    Attributes:
        points: what it was worth at each mark reached so far, with ``step``, ``cpu_s`` and ``wall_s``: seconds of its
            steps until then; neither judging nor saving is among them.
    """

    def __init__(self, cell: Cell, sizes: Preset, block: int, given: Given, marks: list[int], home: Path) -> None:
        self.given, self.marks, self.stage = given, marks, sizes.stages["diffusion"]
        self.path = home / f"{cell.name}.json"
        torch.manual_seed(cell.seed)
        _, dynamics = registry.untrained(given.desk.task, sizes.tokenizer, sizes.dynamics)
        if cell.density < 1:
            sparsify(dynamics, cell.density, block, dynamics.stay_dense)
        dynamics.state_head.load_state_dict(given.head)
        training = Caught(given.tokenizer, dynamics, given.desk.tables, cell.seed, home, encoded={**given.latents})
        self.stage.run("diffusion", training)
        self.dynamics, optimizer = dynamics, Optimizer(dynamics, self.stage)
        make = chooser(cell, "dynamics").get("dynamics")
        sparsifier: Sparsifier | None = make(dynamics, optimizer.adam, self.stage.steps) if make else None  # type: ignore[assignment]
        self.save = Save(home / f"{cell.name}.safetensors", self.stage.steps)
        gradients = Gradients(dynamics, training.losses, ALONE)
        self.steps = Steps(self.stage, gradients, Watched(cell.name, self.save.path), optimizer, sparsifier)
        self.step, self.seconds = 0, {"cpu_s": 0.0, "wall_s": 0.0}
        self.points: list[dict[str, Any]] = []
        self._resume()

    def _resume(self) -> None:
        saved = self.save.read()
        if not saved:
            return
        saved.load_module(self.dynamics)
        saved.load_rest(self.dynamics, self.steps.optimizer, self.steps.sparsifier)
        self.step = saved.step
        self.points = [point for point in read_json(self.path)["points"] if point["step"] <= saved.step]
        self.seconds = {name: self.points[-1][name] for name in self.seconds}

    def advance(self, to: int) -> None:
        """Train until ``to`` steps are taken, and be judged where that is a mark."""
        if to <= self.step:
            return
        began = time.process_time(), time.perf_counter()
        with coarse_products(self.dynamics, CPU):
            while self.step < to:
                self.steps.take(self.step)
                self.step += 1
        for name, clock, start in zip(self.seconds, (time.process_time, time.perf_counter), began, strict=True):
            self.seconds[name] += clock() - start
        if self.step not in self.marks:
            return
        self.points.append({"step": self.step, **self.seconds, **self.judge()})
        write_json(self.path, {"points": self.points})  # before the weights: it may know of more than they do
        self.save.write(self.dynamics, self.steps.optimizer, self.step, {}, self.steps.sparsifier, in_shards=False)

    def judge(self) -> dict[str, float]:
        """Held-out errors now, see ``cells.judged``."""
        given = self.given
        table = given.desk.tables["holdout"]
        self.dynamics.eval()
        found = judged(given.tokenizer, self.dynamics, table, given.latents["holdout"], given.windows)
        self.dynamics.train()
        return found
