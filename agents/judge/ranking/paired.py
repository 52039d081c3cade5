"""Plays a panel of policies in MuJoCo and in the dream from the same seeded starts, many episodes side by side."""

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from procosm.agents.judge.ranking.members import Member
from procosm.agents.policy.worlds import truth
from procosm.envs.collect.policies import Smooth
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.task import Task

Rows = list[dict[str, Any]]


class World(Protocol):
    """Episodes in slots.

    Attributes:
        observed: (slots, s) float32, the true states in MuJoCo, the model's estimates of them in a dream.
    """

    observed: np.ndarray

    def begin(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """New episodes in (m,) slots, from the starts of (m,) seeds."""

    def step(self, slots: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(m, a) actions in (m,) slots: rewards, terminations and truncations, (m,) each."""


class Truth:
    """MuJoCo: physics alone, nothing is rendered."""

    def __init__(self, task: Task, slots: int) -> None:
        self._envs = [truth(task, "state") for _ in range(slots)]
        self.observed = np.zeros((slots, gym.spaces.flatdim(self._envs[0].observation_space)), np.float32)

    def begin(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Reset with these seeds."""
        for slot, seed in zip(slots, seeds, strict=True):
            self.observed[slot] = self._envs[slot].reset(seed=int(seed))[0]

    def step(self, slots: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step these slots, one after the other."""
        outcomes = [self._envs[slot].step(action) for slot, action in zip(slots, actions, strict=True)]
        self.observed[slots] = [outcome[0] for outcome in outcomes]
        rewards, terminated, truncated = (np.array([outcome[i] for outcome in outcomes]) for i in (1, 2, 3))
        return rewards, terminated, truncated


class Dream:
    """The world model, begun with the first frames of the MuJoCo episodes of some seeds."""

    def __init__(self, model: WorldModel, seeds: Sequence[int], slots: int, mixed: bool) -> None:
        options: dict[str, Any] = {"num_envs": slots, "observation": "state", "mixed": mixed}
        self._env = WorldModelVectorEnv(checkpoint=model, autoreset_mode="DISABLED", **options)
        frames, instructions = first_frames(model.task, seeds)
        self._first = dict(zip(seeds, zip(frames, instructions, strict=True), strict=True))
        self._instructions = [""] * slots if model.takes_words else None
        self._frames = np.zeros((slots, 1, *model.task.frame_shape), np.uint8)
        self._actions = np.zeros((slots, len(model.task.action_low)), np.float32)
        self.observed, _ = self._env.reset(seed=0)

    def begin(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Dream on from these episodes' first frames, asked for what they are."""
        mask = np.zeros(len(self.observed), bool)
        mask[slots] = True
        options: dict[str, Any] = {"reset_mask": mask, "frames": self._frames}
        for slot, seed in zip(slots.tolist(), seeds, strict=True):
            self._frames[slot, 0], instruction = self._first[int(seed)]
            if self._instructions is not None:
                self._instructions[slot] = instruction
                options["instruction"] = self._instructions
        self.observed, _ = self._env.reset(options=options)

    def step(self, slots: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step the whole batch; slots that are not asked for dream on unheeded."""
        self._actions[slots] = actions
        self.observed, rewards, terminated, truncated, _ = self._env.step(self._actions)
        return rewards[slots], terminated[slots], truncated[slots]


def first_frames(task: Task, seeds: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """(n, H, W, 3) uint8, what MuJoCo shows at the reset with each seed, and what it asks for, "" where nothing."""
    env = truth(task, "pixels")
    begun = [env.reset(seed=int(seed)) for seed in seeds]
    env.close()
    return np.stack([task.join(observed) for observed, _ in begun]), [i.get("instruction", "") for _, i in begun]


class Actor:
    """Acts for one member. All chance of an episode comes from its seed, so both worlds draw the same."""

    def __init__(self, member: Member, task: Task, slots: int) -> None:
        self._member, self._task = member, task
        self._low, self._high = task.bounds
        self._policy = load_policy(member.path, member.trust_pickle) if member.path else None
        self._smooth = [Smooth(task) for _ in range(slots)] if member.name == "smooth noise" else None
        self._rngs = [np.random.default_rng(0)] * slots

    def begin(self, slot: int, seed: int) -> None:
        """An episode begins in a slot."""
        self._rngs[slot] = np.random.default_rng((seed, zlib.crc32(self._member.name.encode())))
        if self._smooth:
            self._smooth[slot].begin(self._rngs[slot])

    def act(self, slots: np.ndarray, observed: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """(m, a) actions in (m,) slots that observe (m, s), (m,) steps after their resets."""
        if self._smooth:
            return np.stack([self._smooth[slot].act(observed, lambda: observed) for slot in slots])
        if self._policy is not None:
            actions = self._policy.predict(observed, deterministic=True)[0]
        else:
            actions = self._member.control(observed, steps, self._task)
        if self._member.epsilon > 0:
            for i, slot in enumerate(slots):
                chance, drawn = self._rngs[slot].random(), self._rngs[slot].uniform(self._low, self._high)
                if chance < self._member.epsilon:
                    actions[i] = drawn
        return actions


def play(
    world: World,
    task: Task,
    members: Sequence[Member],
    seeds: Sequence[int],
    horizons: Sequence[int],
    finished: Callable[[Member, Rows], None],
    label: str,
) -> None:
    """One episode of every member from every seed; a slot that ends an episode begins the next one that waits.

    ``finished`` gets a member's rows as soon as its last episode has ended: seed, steps, terminated, effort (the sum of
    squared actions), return, and return_H, what was earned in the first H steps, for each of ``horizons``.
    """
    board = _Board(task, members, seeds, len(world.observed), horizons)
    with tqdm(total=len(members) * len(seeds), desc=label, unit="episode", mininterval=5.0) as bar:
        while True:
            begun = board.fill()
            if len(begun):
                world.begin(begun, board.seed[begun])
            active = np.flatnonzero(board.member >= 0)
            if not len(active):
                return
            actions = board.act(active, world.observed)
            outcome = world.step(active, actions)
            for member, rows in board.count(active, np.square(actions).sum(axis=1), *outcome):
                finished(member, rows)
            bar.update(board.ended - bar.n)


class _Board:
    """Who plays in which slot, and what they have earned.

    Attributes:
        member: (slots,) index of the member that plays there, or -1. seed: (slots,), of its episode.
        ended: episodes that have ended.
    """

    def __init__(
        self, task: Task, members: Sequence[Member], seeds: Sequence[int], slots: int, horizons: Sequence[int]
    ) -> None:
        self._task, self._members, self._seeds = task, members, seeds
        self._waiting = deque((m, seed) for m in range(len(members)) for seed in seeds)
        self._actors: dict[int, Actor] = {}
        self._rows: dict[int, Rows] = {m: [] for m in range(len(members))}
        self._names = ("return", *(f"return_{horizon}" for horizon in horizons))
        self._limits = np.array([np.inf, *horizons])
        self._steps, self._earned = np.zeros(slots, np.int64), np.zeros((slots, len(self._names)))
        self._effort = np.zeros(slots)
        self.member, self.seed = np.full(slots, -1), np.zeros(slots, np.int64)
        self.ended = 0

    def fill(self) -> np.ndarray:
        """Give free slots the episodes that wait; returns those slots."""
        free = np.flatnonzero(self.member < 0)[: len(self._waiting)]
        for slot in free.tolist():
            m, seed = self._waiting.popleft()
            self.member[slot], self.seed[slot] = m, seed
            if m not in self._actors:
                self._actors[m] = Actor(self._members[m], self._task, len(self.member))
            self._actors[m].begin(slot, seed)
        self._steps[free], self._earned[free], self._effort[free] = 0, 0.0, 0.0
        return free

    def act(self, active: np.ndarray, observed: np.ndarray) -> np.ndarray:
        """(m, a) actions in the (m,) active slots, each member's in one call."""
        actions = np.zeros((len(self.member), len(self._task.action_low)), np.float32)
        for m in np.unique(self.member[active]).tolist():
            own = np.flatnonzero(self.member == m)
            actions[own] = self._actors[m].act(own, observed[own], self._steps[own])
        return actions[active]

    def count(
        self,
        active: np.ndarray,
        effort: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> list[tuple[Member, Rows]]:
        """Add a step up; returns the members whose last episode ended with it, and their rows by seed."""
        self._earned[active] += rewards[:, None] * (self._steps[active, None] < self._limits)
        self._effort[active] += effort
        self._steps[active] += 1
        complete = []
        for slot, end, cut in zip(active.tolist(), terminated, truncated, strict=True):
            if not (end or cut):
                continue
            m = int(self.member[slot])
            row = {"seed": int(self.seed[slot]), "steps": int(self._steps[slot]), "terminated": int(end)}
            earned = {"effort": float(self._effort[slot])}
            self._rows[m].append(row | earned | dict(zip(self._names, self._earned[slot].tolist(), strict=True)))
            self.member[slot] = -1
            self.ended += 1
            if len(self._rows[m]) == len(self._seeds):
                del self._actors[m]
                complete.append((self._members[m], sorted(self._rows[m], key=lambda row: row["seed"])))
        return complete
