"""Episodes of a policy, or of a control that learned nothing, in MuJoCo and in the dream, many at a time."""

import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy

from procosm.agents.policy.plan.episodes import Planned
from procosm.agents.policy.plan.planner import load_planner
from procosm.agents.policy.worlds import truth
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.collect.run_policy import STACK
from procosm.envs.dreams.observe import Observation
from procosm.envs.dreams.perceive import Eyes
from procosm.sparse.processes import worker_processes
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.task import Task, read_task
from procosm.world_model.errors import CheckpointError, ProcosmError, TaskError
from procosm.world_model.files import read_tensors, write_tensors
from procosm.world_model.folders import Identity, identity
from procosm.world_model.progress import Progress


class Act(Protocol):
    """Who acts in several episodes side by side."""

    def __call__(self, observed: np.ndarray, slots: np.ndarray | None = None) -> np.ndarray:
        """(k, …) observations of the episodes in (k,) slots to (k, a) actions within the bounds."""


SLOTS = 10
"""Episodes that one process plays side by side, so that the tokenizer sees a batch."""

NUMBERS = {
    "seed": torch.int64,
    "total": torch.float64,
    "steps": torch.int64,
    "terminated": torch.bool,
    "success": torch.int8,
}
"""What is saved of an episode beside its first frame and what was asked for, in the order of ``Played``."""


@dataclass(frozen=True)
class Player:
    """Who acts.

    Attributes:
        world_model: checkpoint folder, whose eyes the policy sees through.
        kind: ``trained``, ``zero`` (no action) or ``random`` (uniform within the bounds).
        policy: the zip, or the settings of a planner (JSON); algorithm and observation: how it was trained. Empty for
            the controls.
        device: where the world model looks and dreams; the policy itself acts on the CPU.
        trust_pickle: whether a zip that SB3 saved is opened, which runs the code in it.
    """

    world_model: Path
    kind: str
    policy: Path | None = None
    algorithm: str = ""
    observation: str = ""
    device: str = "cpu"
    trust_pickle: bool = False


class Played(NamedTuple):
    """One episode: seed, return, steps, whether it ended for good, whether its last step was at the task's goal (1, 0;
    -1 where nothing tells), its first frame (H, W, 3) if one was seen, and what was asked for in words, "" if nothing.
    """

    seed: int
    total: float
    steps: int
    terminated: bool
    success: int
    first_frame: np.ndarray | None
    instruction: str = ""


def play_truth(player: Player, seeds: Sequence[int], processes: int, saves: Path | None = None) -> list[Played]:
    """Play one MuJoCo episode for each seed, in several processes; the same seeds give the same episodes.

    Args:
        saves: folder to which episodes go as soon as they are played, and from which those that are there are taken.

    Raises:
        ProcosmError: a process died, most often for want of memory.
    """
    waves = [tuple(seeds[i : i + SLOTS]) for i in range(0, len(seeds), SLOTS)]
    played: list[Played] = []
    with Progress(len(seeds), f"MuJoCo, {player.kind}", "episode") as bar:
        if processes == 1 or len(waves) == 1:
            for wave in waves:
                played += _wave(player, wave, saves)
                bar.update(len(wave))
            return played
        with worker_processes(processes) as pool:
            futures = [pool.submit(_wave, player, wave, saves) for wave in waves]
            for future in as_completed(futures):
                bar.update(len(_result(future)))
        return [episode for future in futures for episode in _result(future)]


def _result(future: Any) -> list[Played]:
    try:
        return future.result()
    except RuntimeError as error:  # BrokenProcessPool is one
        raise ProcosmError(f"a process that played MuJoCo episodes failed: {error}. Try --processes 1") from error


def _wave(player: Player, seeds: Sequence[int], saves: Path | None) -> list[Played]:
    """Episodes side by side, or as they were saved."""
    if saves is None:
        return _play(player, seeds)
    path = saves / f"{player.kind}-{seeds[0]}-{len(seeds)}.safetensors"
    if not path.exists():
        played = _play(player, seeds)
        numbers = {name: torch.tensor([getattr(p, name) for p in played], dtype=kind) for name, kind in NUMBERS.items()}
        frames = [torch.from_numpy(p.first_frame) for p in played if p.first_frame is not None]
        words = {"instruction": _written([p.instruction for p in played])} if any(p.instruction for p in played) else {}
        write_tensors(path, numbers | words | ({"first_frame": torch.stack(frames)} if frames else {}))
    advice = f"delete {path}, and run the same command again to play these episodes"
    untold = {"success": torch.full((len(seeds),), -1, dtype=torch.int8)}  # as in files of earlier versions
    found = untold | read_tensors(path, advice)
    if not _is_wave(found, seeds, player.kind == "trained"):
        raise CheckpointError(f"{path} does not hold the episodes that its name says: {advice}")
    rows = zip(*(found[name].tolist() for name in NUMBERS), strict=True)
    shown = found["first_frame"].numpy() if "first_frame" in found else [None] * len(seeds)
    asked = _read(found["instruction"]) if "instruction" in found else [""] * len(seeds)
    return [Played._make((*row, frame, text)) for row, frame, text in zip(rows, shown, asked, strict=True)]


def _written(texts: Sequence[str]) -> torch.Tensor:
    """(n, l) uint8: n texts in UTF-8, zeros after each."""
    coded = [text.encode() for text in texts]
    longest = max(map(len, coded))
    return torch.tensor([[*code, *bytes(longest - len(code))] for code in coded], dtype=torch.uint8)


def _read(written: torch.Tensor) -> list[str]:
    """The texts of ``_written``."""
    return [bytes(code).rstrip(b"\0").decode(errors="replace") for code in written.tolist()]


def _is_wave(found: dict[str, torch.Tensor], seeds: Sequence[int], seen: bool) -> bool:
    """Whether saved tensors are of episodes with these seeds, and of nothing else."""
    whole = all(name in found and found[name].shape == (len(seeds),) for name in NUMBERS)
    if not whole or any(found[name].dtype != kind for name, kind in NUMBERS.items()):
        return False
    numbers = found["seed"].tolist() == list(seeds) and bool(
        (found["steps"] > 0).all() and found["total"].isfinite().all() and (found["success"].abs() <= 1).all()
    )
    asked = found.get("instruction", torch.zeros(len(seeds), 1, dtype=torch.uint8))
    if not numbers or asked.dtype != torch.uint8 or asked.dim() != 2 or len(asked) != len(seeds):
        return False
    if not seen:
        return set(found) - {"instruction"} == set(NUMBERS)
    frames = found.get("first_frame")
    return frames is not None and frames.dtype == torch.uint8 and frames.dim() == 4 and len(frames) == len(seeds)


def _play(player: Player, seeds: Sequence[int]) -> list[Played]:
    """Until the last episode ends; those that ended are no longer stepped or looked at."""
    model = opened(player.world_model, player.device)
    seen = player.kind == "trained"
    envs = _envs(json.dumps(dataclasses.asdict(model.task)), "pixels" if seen else "state")[: len(seeds)]
    eyes = eyes_of(player.observation or "pixels", model, len(seeds))
    join = model.task.join if seen else np.asarray  # a control sees the state
    begun = [env.reset(seed=seed) for env, seed in zip(envs, seeds, strict=True)]
    said = [info.get("instruction", "") for _, info in begun]
    act = actor(player, model.task, seeds[0], said)
    first = np.stack([join(observed) for observed, _ in begun])
    totals, steps = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    terminated, going = np.zeros(len(seeds), bool), np.arange(len(seeds))
    success = np.full(len(seeds), -1)
    shown = first
    while len(going):
        observed = eyes.see(going, shown, first=not steps.any()) if seen else shown
        outcomes = [envs[slot].step(action) for slot, action in zip(going, act(observed, going), strict=True)]
        totals[going] += [float(outcome[1]) for outcome in outcomes]
        steps[going] += 1
        terminated[going] = [outcome[2] for outcome in outcomes]
        success[going] = [outcome[4].get("success", -1) for outcome in outcomes]
        on = np.array([not (outcome[2] or outcome[3]) for outcome in outcomes])
        going, shown = going[on], np.stack([join(outcome[0]) for outcome in outcomes])[on]
    return [
        Played(
            int(seed), float(totals[i]), int(steps[i]), bool(terminated[i]), int(success[i]),
            first[i] if seen else None, said[i],
        )
        for i, seed in enumerate(seeds)
    ]  # fmt: skip


def eyes_of(observation: str, model: WorldModel, slots: int) -> Eyes:
    """What turns frames into a policy's observations, for episodes side by side."""
    return Eyes(model, Observation.parse(observation), slots, STACK)


def play_dreams(player: Player, begun: Sequence[Played]) -> list[Played]:
    """Dream one whole episode from the first frame of each MuJoCo episode, asked for the same, with the same policy."""
    frames = np.stack([episode.first_frame for episode in begun if episode.first_frame is not None])
    model, n = opened(player.world_model, player.device), len(begun)
    said = [episode.instruction for episode in begun]
    env = dreams_from(model, frames, player.observation, said)
    observed, _ = env.reset(seed=0, options={"start": list(range(n))})
    slots, totals, act = np.arange(n), np.zeros(n), actor(player, model.task, 0, said)
    steps, terminated, ended = np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n, bool)
    eyes = eyes_of("pixels", model, n)
    with Progress(model.task.max_episode_steps, "dream, trained", "step") as bar:
        while not ended.all():
            if player.observation == "pixels":
                observed = eyes.see(slots, model.task.join(observed), first=not steps.any())
            observed, rewards, ends, cuts, _ = env.step(act(observed, slots))
            totals[~ended] += rewards[~ended]
            steps[~ended] += 1
            terminated |= ends & ~ended
            ended |= ends | cuts
            bar.update()
    env.close()
    return [
        episode._replace(total=float(totals[i]), steps=int(steps[i]), terminated=bool(terminated[i]), success=-1)
        for i, episode in enumerate(begun)
    ]


def before_first(model: WorldModel, frames: np.ndarray) -> torch.Tensor:
    """(k, context, c, h, w): the latents with which ``Eyes`` begins episodes whose first frames are (k, H, W, 3)."""
    return model.encode(frames)[:, None].expand(-1, model.starts.shape[1], -1, -1, -1).clone()


def dreams_from(
    model: WorldModel,
    first_frames: np.ndarray,
    observation: str | tuple[str, ...],
    instructions: Sequence[str] = (),
    **options: Any,
) -> gym.vector.VectorEnv:
    """One dream for each (n, H, W, 3) first frame; ``options={"start": i}`` at reset begins with frame i.

    Args:
        instructions: n texts, what each dream is told by a model that takes words; () tells nothing.
        options: the vector environment's, such as ``num_envs`` and ``autoreset_mode`` (``SAME_STEP``).
    """
    begun = before_first(model, first_frames)
    n, context = begun.shape[:2]
    frames = torch.from_numpy(first_frames)[:, None].expand(-1, context, -1, -1, -1)
    texts = tuple(sorted(set(instructions))) if model.takes_words else ()
    there = dataclasses.replace(
        model,
        starts=begun,
        start_frames=frames,
        start_states=None,
        resets=None,
        start_actions=None,
        texts=texts,
        start_texts=torch.tensor([texts.index(each) for each in instructions]) if texts else None,
        reset_texts=None,
        practice=None,
    )
    settings = {"num_envs": n, "autoreset_mode": "SAME_STEP", "starts": "wide", **options}  # any frame given
    return gym.make_vec("Procosm/World-v0", checkpoint=there, observation=observation, **settings)


def actor(player: Player, task: Task, seed: int, said: Sequence[str] = ()) -> Act:
    """Who acts in episodes side by side, in which this is asked for in words; of policies, planners alone go by it."""
    low, high = task.bounds
    if player.kind == "zero":
        return lambda observed, slots=None: np.tile(np.clip(np.zeros_like(low), low, high), (len(observed), 1))
    if player.kind == "random":
        generator = np.random.default_rng(seed)
        return lambda observed, slots=None: generator.uniform(low, high, (len(observed), len(low))).astype(np.float32)
    assert player.policy is not None  # a trained player has one
    if player.policy.suffix == ".json":
        return Planned(load_planner(player.policy, opened(player.world_model, player.device), seed), said)
    policy = open_policy(player.policy, player.trust_pickle)
    return lambda observed, slots=None: policy.predict(observed, deterministic=True)[0]


def open_policy(path: Path, trust_pickle: bool = False) -> BasePolicy:
    """A saved policy, read once in each process as long as the file stays the same.

    Raises:
        TaskError: no such file, not a policy, or a pickle that is not trusted.
    """
    return _read_policy(path, identity(path), trust_pickle)


@lru_cache(maxsize=1)
def _read_policy(path: Path, content: Identity, trust_pickle: bool) -> BasePolicy:
    return load_policy(path, trust_pickle)


def opened(world_model: Path, device: str = "cpu") -> WorldModel:
    """A world model on a device, read once in each process as long as its files stay the same."""
    return _read_model(world_model, identity(world_model), device)


@lru_cache(maxsize=1)
def _read_model(world_model: Path, content: Identity, device: str) -> WorldModel:
    return load(world_model, device)


@lru_cache(maxsize=1)
def _envs(task: str, observation: str) -> list[gym.Env]:
    """The truth envs of this process; making a renderer takes longer than an episode."""
    saved = read_task(json.loads(task), "task", "give another", TaskError)
    return [truth(saved, observation) for _ in range(SLOTS)]
