"""Dreams of a whole episode's length, whatever the model says of their end: do they stay in the range of the data?"""

from typing import Any, cast

import numpy as np
import torch

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Actor, first_frames
from procosm.agents.judge.rollouts import dreams_from
from procosm.agents.policy.worlds import truth
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.probe import probe
from procosm.envs.truth.starts import wide_start
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.task import Task

FIRST_SEED = 9_300_000
LOOK_EVERY = 10
"""Steps between decoded frames: the decoder costs more than the dream."""
MARGIN = 0.1
"""How far a statistic of a frame may lie outside its range over real frames, as a part of that range."""
REAL_FRAMES = 256
PLACES = (1, 10, 32, 100, 300, 1000)
"""Steps at which trust is told."""


def long_dream_rows(model: WorldModel, member: Member, seeds: int, steps: int) -> list[dict[str, Any]]:
    """Follow one dream for each seed.

    A frame is in range where its brightness and its contrast are among those of real frames from all over the task.
    """
    drawn = list(range(FIRST_SEED, FIRST_SEED + seeds))
    frames, instructions = first_frames(model.task, drawn)
    dreams = dreams_from(model, frames, "state", instructions, autoreset_mode="DISABLED")
    batch = dreams.unwrapped
    assert isinstance(batch, WorldModelVectorEnv)
    actor, slots = Actor(member, model.task, seeds), np.arange(seeds)
    for slot, seed in enumerate(drawn):
        actor.begin(slot, seed)
    observed, _ = dreams.reset(seed=0, options={"start": list(range(seeds))})
    low, high = frame_range(model)
    inside, going, finite, ended = [], [], np.ones(seeds, bool), np.zeros(seeds, bool)
    trust: dict[int, np.ndarray] = {}
    largest, largest_before = np.zeros(seeds), np.zeros(seeds)
    for step in range(1, steps + 1):
        observed, rewards, terminated, _, infos = dreams.step(actor.act(slots, observed, np.full(seeds, step - 1)))
        finite &= np.isfinite(observed).all(axis=1) & np.isfinite(rewards)
        if "trust" in infos:
            finite &= (infos["trust"] >= 0) & (infos["trust"] <= 1)
            trust[step] = infos["trust"]
        ended |= terminated
        # Latents are standardised: of normal data almost nothing is beyond six.
        size = batch.dreams.latents[:, -1].abs().amax(dim=(1, 2, 3)).cpu().numpy()
        largest = np.maximum(largest, size)
        largest_before = np.maximum(largest_before, np.where(ended, 0.0, size))
        if step % LOOK_EVERY == 0:
            seen = statistics(batch.dreams.frames())
            inside.append(((seen >= low) & (seen <= high)).all(axis=1))
            going.append(~ended)
    dreams.close()
    place = {"behaviour": member.name, "steps": steps, "unit": "1"}
    share, alive = np.stack(inside, axis=1), np.stack(going, axis=1)  # (n, looks)
    lasted = alive.any(axis=1)
    until_end = (share & alive)[lasted].sum(axis=1) / alive[lasted].sum(axis=1)
    rows = [
        {"metric": "long dreams with finite states, rewards and trust in [0, 1]", "value": float(finite.mean())},
        {"metric": "long dreams with every frame in range", "value": float(share.all(axis=1).mean())},
        {"metric": "frames of long dreams in range", **_mean(share.mean(axis=1))},
        {"metric": "largest latent of a long dream, in deviations", **_mean(largest)},
        {"metric": "largest latent before the declared end, in deviations", **_mean(largest_before)},
        {"metric": "long dreams whose end the model declared", "value": float(ended.mean())},
    ]
    if lasted.any():
        rows.append({"metric": "frames in range before the declared end", **_mean(until_end), "n": int(lasted.sum())})
    rows += [{"metric": f"trust at step {t}", **_mean(trust[t])} for t in PLACES if t in trust]
    return [{**place, "n": seeds, **row} for row in rows]


@torch.inference_mode()
def frame_range(model: WorldModel) -> tuple[np.ndarray, np.ndarray]:
    """(2,) least and greatest brightness and contrast of real frames from all over the task, a little widened.

    They are seen through the tokenizer, as dreams are: decoding blurs, and that is not the dream's fault.
    """
    latents = model.encode(real_frames(model.task))
    seen = statistics(model.tokenizer.decode(latents[:, None])[:, -1].cpu().numpy())
    low, high = seen.min(axis=0), seen.max(axis=0)
    return low - MARGIN * (high - low), high + MARGIN * (high - low)


def real_frames(task: Task) -> np.ndarray:
    """(n, H, W, 3) uint8, MuJoCo in states drawn as those are from which collecting begins wide."""
    env, rng = truth(task, "pixels"), np.random.default_rng(0)
    twin = cast(MujocoEnv, env.unwrapped).twin
    seen = probe(twin.id, twin.env_kwargs)
    frames = []
    for _ in range(REAL_FRAMES):
        frame, _ = env.reset(seed=int(rng.integers(2**31)))
        physics = wide_start(cast(MujocoEnv, env.unwrapped), seen, rng)
        frames.append(frame if physics is None else env.reset(options={"physics": physics})[0])
    env.close()
    return np.stack(frames)


def statistics(frames: np.ndarray) -> np.ndarray:
    """(n, 2), mean and standard deviation of the colours of each (n, H, W, 3) frame, from 0 to 1."""
    colours = frames.reshape(len(frames), -1) / 255.0
    return np.stack([colours.mean(axis=1), colours.std(axis=1)], axis=1)


def _mean(values: np.ndarray) -> dict[str, float]:
    found = estimate(np.asarray(values, np.float64))
    return {"value": found.mean, "low": found.low, "high": found.high}
