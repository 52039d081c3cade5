"""What the films of a run show: the dream beside reality under the same actions, and the policy in both worlds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from procosm.agents.judge.open_loop import Windows, decode, predictions, window
from procosm.agents.judge.rollouts import Player, actor, dreams_from, eyes_of
from procosm.agents.policy.worlds import truth
from procosm.envs.films import difference, panel, write_mp4
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode

WINDOWS = 4
SLOW_FPS = 10
POLICY_STEPS = 200
FASTEST_FPS = 30


def scenes(
    folder: Path, model: WorldModel, player: Player | None, held_out: Sequence[Episode], horizon: int, seed: int
) -> dict[str, str]:
    """Make every film; returns their file names by what they show. Those of a policy need one, and a twin."""
    films = {"comparison": compare(model, held_out, horizon)}
    if player is not None and model.task.twin is not None:
        films["policy_mujoco"], first, instruction = film_truth(model, player, seed)
        films["policy_dream"] = film_dream(model, player, first, instruction)
    speed = {"comparison": SLOW_FPS}
    usual = min(FASTEST_FPS, max(1, round(1 / model.task.dt_s)))
    for name, pictures in films.items():
        write_mp4(folder / f"{name}.mp4", pictures, speed.get(name, usual))
    return {name: f"{name}.mp4" for name in films}


def compare(model: WorldModel, held_out: Sequence[Episode], horizon: int) -> list[np.ndarray]:
    """Real | dream | difference, from the beginning of the longest held-out episodes, under the recorded actions."""
    context = model.dynamics.context
    longest = sorted(held_out, key=lambda episode: -len(episode.actions))[:WINDOWS]
    windows = Windows.stack([window(e, 0, context, horizon) for e in longest if len(e.actions) >= context])
    begun = model.encode(windows.frames[:, :context])
    dreams = predictions(model, begun, windows.actions, model.text_condition(windows.texts.tolist()))
    dreamed = [decode(model, each.latents) for each in dreams]  # horizon × (n, h, w, 3)
    pictures = []
    for n, steps in enumerate(windows.steps):
        for t in range(steps):
            real, dream = windows.frames[n, context + t], dreamed[t][n]
            labels = (f"real · {n + 1} of {len(windows.steps)}", f"dream · step {t + 1}", "difference")
            pictures.append(panel((real, dream, difference(real, dream)), labels))
        pictures += pictures[-1:] * (SLOW_FPS // 2)  # a breath between two windows
    return pictures


def film_truth(model: WorldModel, player: Player, seed: int) -> tuple[list[np.ndarray], np.ndarray, str]:
    """The policy in MuJoCo from pixels; its pictures, the (H, W, 3) first frame, and what was asked for in words."""
    env, eyes = truth(model.task, "pixels"), eyes_of(player.observation, model, 1)
    observed, info = env.reset(seed=seed)
    said = info.get("instruction", "")
    act = actor(player, model.task, seed, [said])
    frame = model.task.join(observed)
    first, total, slot, pictures = frame, 0.0, np.zeros(1, np.int64), []
    for step in range(POLICY_STEPS):
        pictures.append(panel((frame,), (f"MuJoCo · step {step} · return {total:.1f}",)))
        action = act(eyes.see(slot, frame[None], first=step == 0), slot)[0]
        observed, reward, terminated, truncated, _ = env.step(action)
        frame, total = model.task.join(observed), total + float(reward)
        if terminated or truncated:
            break
    env.close()
    return pictures, first, said


def film_dream(model: WorldModel, player: Player, first_frame: np.ndarray, instruction: str) -> list[np.ndarray]:
    """The same policy in the dream, from the same first frame, asked for the same."""
    shows = ("pixels",) if player.observation == "pixels" else ("pixels", player.observation)
    env, act = dreams_from(model, first_frame[None], shows, [instruction]), actor(player, model.task, 0, [instruction])
    eyes, slot = eyes_of("pixels", model, 1), np.zeros(1, np.int64)
    observed, _ = env.reset(seed=0, options={"start": [0]})
    total, pictures = 0.0, []
    for step in range(POLICY_STEPS):
        frame = model.task.join(observed["pixels"])
        pictures.append(panel((frame[0],), (f"dream · step {step} · return {total:.1f}",)))
        seen = (
            eyes.see(slot, frame, first=step == 0) if player.observation == "pixels" else observed[player.observation]
        )
        observed, reward, terminated, truncated, _ = env.step(act(seen, slot))
        total += float(reward[0])
        if terminated[0] or truncated[0]:
            break
    env.close()
    return pictures
