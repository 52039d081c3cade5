"""One cell of sparse_quality: a tokenizer, dynamics or a whole run at one density, and what it is worth.

A cell goes on from its last save when it was killed, and is a JSON file when it is done.
"""

import math
import shutil
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from procosm.agents.judge.open_loop import psnr_db
from procosm.agents.run import RunConfig, run
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model import checkpoint, registry
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.data.task import Task
from procosm.world_model.data.windows import Table, cut, tabulate
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.evaluation.open_loop import imagine
from procosm.world_model.files import read_json, read_tensors, under, write_json, write_tensors
from procosm.world_model.folders import Identity, identity
from procosm.world_model.interface import Dynamics, Tokenizer
from procosm.world_model.precision import resolve_device
from procosm.world_model.sparsity import sparsify
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.stage import MakeSparsifier, StageConfig
from procosm.world_model.training.train import TrainConfig, sparsifier

HORIZONS, BLOCK = (1, 8), 16


class Cell(NamedTuple):
    """What is trained: ``part`` is dynamics, tokenizer, road (a whole `procosm run`), or one of LENGTHS."""

    task: str
    part: str
    method: str
    density: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.part}-{self.method}-{self.density:g}-{self.seed}"


@dataclass(frozen=True)
class Protocol:
    """Equal steps for every method and density."""

    real_steps: int = 8000
    """MuJoCo steps collected, a tenth of them held out."""
    tokenize: StageConfig = field(default_factory=lambda: StageConfig(300, 12, 1.5e-3))
    """Steps, batch and rate of a tokenizer of preset small."""
    diffuse: StageConfig = field(default_factory=lambda: StageConfig(300, 32, 1.5e-3))
    """Steps, batch and rate of dynamics of preset fast: one step ahead, no unrolled stage."""
    windows: int = 128
    """Held-out windows that judge dynamics, and held-out frames that judge a tokenizer."""

    def sizes(self, name: str) -> Preset:
        """A preset at this length."""
        return preset(name).with_stage("tokenizer", **vars(self.tokenize))


@dataclass(frozen=True)
class Road:
    """A task's whole runs: `procosm run` with its defaults but for these."""

    preset: str
    """Size of the world model."""
    real_steps: int
    """MuJoCo steps collected."""
    episodes: int
    """MuJoCo episodes that judge the policy."""
    densities: tuple[float, ...]
    """Densities beside dense."""


ROADS = {
    "InvertedPendulum": Road("small", 10_000, 30, (0.1, 0.25, 0.5)),
    "HalfCheetah": Road("fast", 20_000, 20, (0.1, 0.25, 0.5)),
}


LENGTHS = {f"{steps}_steps": steps for steps in (500, 2000, 4000)}
"""Parts that ask whether what few weights lose comes back with time: the one-step stage alone of a road's dynamics, a
quarter as long, as long, and twice as long, on the data and the tokenizer of the dense road of that seed."""


@dataclass(frozen=True)
class Desk:
    """A task's data, read once."""

    task: Task
    tables: dict[str, Table]


def desk(home: Path, task: str, protocol: Protocol, device: torch.device) -> Desk:
    """Collect what is not there, and read it, once in each process as long as it stays the same."""
    data = home / "data"
    if not data.exists():
        collect(CollectConfig(env=task, out=home, steps=protocol.real_steps, processes=1))
    return _read_desk(data, identity(data), device)


@lru_cache(maxsize=1)
def _read_desk(data: Path, content: Identity, device: torch.device) -> Desk:
    return Desk(load_task(data), _tables(data, device))


def _tables(data: Path, device: torch.device) -> dict[str, Table]:
    episodes = load_episodes(data)
    return {kind: tabulate(episodes, kind, 3).to(device) for kind in ("train", "holdout")}


def settle(cell: Cell, out: Path, protocol: Protocol, device: str = "auto") -> dict[str, float]:
    """The numbers of a cell, trained now if they are not on disk."""
    home = out / cell.task
    path = home / "cells" / f"{cell.name}.json"
    if path.exists():
        return read_json(path)
    if cell.part == "road":
        found = road_cell(cell, home, device)
    elif cell.part in LENGTHS:
        found = length_cell(cell, home, protocol, resolve_device(device))
    else:
        part = {"dynamics": dynamics_cell, "tokenizer": tokenizer_cell}[cell.part]
        found = part(cell, home, desk(home, cell.task, protocol, resolve_device(device)), protocol)
    write_json(path, found)
    return found


def road_cell(cell: Cell, home: Path, device: str) -> dict[str, float]:
    """`procosm run` with the settings of ROADS; stages that are finished in the run's folder are not done again.

    A sparse run begins with what its seed's dense run has finished and density does not touch.
    """
    folder, road = home / "roads" / f"{cell.density:g}-{cell.seed}", ROADS[cell.task]
    dense = home / "roads" / f"1-{cell.seed}"
    if (dense / "world_model").exists() and not folder.exists():
        begin_from(dense, folder)
    run(
        RunConfig(
            env=cell.task,
            out=folder,
            preset=road.preset,
            steps=road.real_steps,
            episodes=road.episodes,
            density=cell.density,
            seed=cell.seed,
            processes=1,
            device=device,
        )
    )
    return worth(read_json(folder / "metrics.json"))


UNTOUCHED = (
    "stages/data.json",
    *(f"world_model.training/{name}.safetensors" for name in ("tokenizer", "state_head", "manifold")),
)
"""What the dynamics have no part in, beside the data."""


def begin_from(dense: Path, folder: Path) -> None:
    """Make a run folder that holds a dense run's data, tokenizer and state head, whole or not at all."""
    begun = folder.with_name(folder.name + ".begun")
    shutil.rmtree(begun, ignore_errors=True)
    shutil.copytree(dense / "data", begun / "data")
    for name in UNTOUCHED:
        (begun / name).parent.mkdir(exist_ok=True)
        shutil.copy2(dense / name, begun / name)
    begun.rename(folder)


def worth(metrics: dict[str, Any]) -> dict[str, float]:
    """A cell from the metrics of a run: its open-loop dreams on held-out windows, its policy in MuJoCo."""
    lines = {(r["metric"], r["method"], r["horizon"]): r["value"] for r in metrics["open_loop"]}
    found = {"return": metrics["returns"]["mujoco"]["trained"]["mean"]}
    for h in HORIZONS:
        found[f"psnr_{h}_db"] = lines["psnr_db", "dream", h]
        gain = lines["latent_mse", "copy last frame", h] / lines["latent_mse", "dream", h]
        found[f"better_than_copy_{h}_db"] = 10 * math.log10(gain)
    return found


def length_cell(cell: Cell, home: Path, protocol: Protocol, device: torch.device) -> dict[str, float]:
    """Dynamics after LENGTHS[part] steps of a road's one-step stage, nothing unrolled."""
    run = home / "roads" / f"1-{cell.seed}"
    model = checkpoint.load(run / "world_model", device)
    here = Desk(model.task, _tables(run / "data", device))
    latents = {
        kind: model.encode(table.seen(torch.arange(len(table.frames))).cpu().numpy())
        for kind, table in here.tables.items()
    }
    sizes = preset(ROADS[cell.task].preset).with_stage("diffusion", steps=LENGTHS[cell.part])
    head = cast(DiffusionDynamics, model.dynamics).state_head
    dynamics = dreamed(cell, home, here, sizes, head.state_dict(), latents)
    return judged(model.tokenizer, dynamics, here.tables["holdout"], latents["holdout"], protocol.windows)


def tokenizer_cell(cell: Cell, home: Path, here: Desk, protocol: Protocol) -> dict[str, float]:
    """Held-out PSNR of frames that passed the tokenizer."""
    tokenizer, _, latents = tokenized(cell, home, here, protocol)
    at = torch.linspace(0, len(latents["holdout"]) - 1, protocol.windows).long().to(latents["holdout"].device)
    seen = tokenizer.decode(latents["holdout"][at][:, None])[:, 0]
    return {"psnr_db": psnr(seen, here.tables["holdout"].seen(at))}


def dynamics_cell(cell: Cell, home: Path, here: Desk, protocol: Protocol) -> dict[str, float]:
    """Dynamics on the latents of the dense tokenizer of seed 0, the same for all of them."""
    tokenizer, head, latents = tokenized(Cell(cell.task, "tokenizer", "dense", 1.0, 0), home, here, protocol)
    sizes = protocol.sizes("fast").with_stage("diffusion", **vars(protocol.diffuse))
    dynamics = dreamed(cell, home, here, sizes, head, latents)
    return judged(tokenizer, dynamics, here.tables["holdout"], latents["holdout"], protocol.windows)


def tokenized(
    cell: Cell, home: Path, here: Desk, protocol: Protocol
) -> tuple[CausalTokenizer, dict[str, Tensor], dict[str, Tensor]]:
    """A trained tokenizer, the state head trained with it, and the latents of all frames by kind."""
    sizes, path = protocol.sizes("small"), home / "cells" / f"{cell.name}.safetensors"
    torch.manual_seed(cell.seed)
    tokenizer, dynamics = registry.untrained(here.task, sizes.tokenizer, sizes.dynamics)
    thin(tokenizer, cell)
    device = here.tables["train"].device
    tokenizer, dynamics = tokenizer.to(device), dynamics.to(device)
    if not path.exists():
        work = path.with_suffix(".training")
        training = Training(tokenizer, dynamics, here.tables, cell.seed, work, chooser(cell, "tokenizer"))
        sizes.stages["tokenizer"].run("tokenizer", training)
        done = {f"tokenizer.{k}": v for k, v in tokenizer.state_dict().items()}
        done |= {f"head.{k}": v for k, v in dynamics.state_head.state_dict().items()}
        done |= {f"latents.{kind}": latents for kind, latents in training.latents.items()}
        write_tensors(path, done)
    saved = {name: tensor.to(device) for name, tensor in read_tensors(path).items()}
    tokenizer.load_state_dict(under("tokenizer.", saved))
    return tokenizer.eval().requires_grad_(False), under("head.", saved), under("latents.", saved)


def dreamed(
    cell: Cell, home: Path, here: Desk, sizes: Preset, head: dict[str, Tensor], latents: dict[str, Tensor]
) -> DiffusionDynamics:
    """Dynamics trained one step ahead by that stage alone; without a manifold."""
    torch.manual_seed(cell.seed)
    tokenizer, dynamics = registry.untrained(here.task, sizes.tokenizer, sizes.dynamics)
    thin(dynamics, cell)
    device = here.tables["train"].device
    tokenizer, dynamics = tokenizer.to(device), dynamics.to(device)
    dynamics.state_head.load_state_dict(head)
    work, choose = home / "cells" / f"{cell.name}.training", chooser(cell, "dynamics")
    training = Training(tokenizer, dynamics, here.tables, cell.seed, work, choose, encoded={**latents})
    sizes.stages["diffusion"].run("diffusion", training)
    return dynamics.eval().requires_grad_(False)


def thin(module: CausalTokenizer | DiffusionDynamics, cell: Cell) -> None:
    """Block-sparse layers, as world_model.train makes them."""
    if cell.method != "dense":
        sparsify(module, cell.density, BLOCK, module.stay_dense)


def chooser(cell: Cell, part: str) -> dict[str, MakeSparsifier]:
    """The sparsifier that `procosm train --density --sparse-method` would use; none at density 1, of any method."""
    method: Any = "procrustes" if cell.method == "dense" else cell.method
    made = sparsifier(TrainConfig(Path(), Path(), seed=cell.seed, sparse_method=method), cell.density)
    return {} if made is None else {part: made}


@torch.no_grad()
def judged(tokenizer: Tokenizer, dynamics: Dynamics, table: Table, latents: Tensor, count: int) -> dict[str, float]:
    """Open-loop dreams on held-out windows: PSNR of the decoded frames against the true ones after 1 and 8 steps, and
    how much smaller the latent error is than that of copying the last latent.
    """
    far = max(HORIZONS)
    whole = table.steps[table.steps + far <= table.last[table.steps]]
    at = whole[torch.linspace(0, len(whole) - 1, min(count, len(whole))).long().to(table.device)]
    k = dynamics.context
    window = cut(table, at, k, far, latents)
    dreamed = imagine(dynamics, window.latents[:, :k], window.actions[:, k - 1 :])
    dream = torch.stack([each.latents for each in dreamed], dim=1)
    found = {}
    for h in HORIZONS:
        seen, truth, last = dream[:, h - 1], latents[at + h], latents[at]
        found[f"psnr_{h}_db"] = psnr(tokenizer.decode(seen[:, None])[:, 0], table.seen(at + h))
        gain = (last - truth).square().mean() / (seen - truth).square().mean()
        found[f"better_than_copy_{h}_db"] = float(10 * gain.log10())
    return found


def psnr(seen: Tensor, truth: Tensor) -> float:
    """Mean over frames of the peak signal-to-noise ratio, dB; both (n, h, w, 3) uint8."""
    return float(psnr_db(seen.cpu().numpy(), truth.cpu().numpy()).mean())
