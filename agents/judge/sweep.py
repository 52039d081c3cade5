"""The action sweep: from one real frame, what follows from each of several constant actions, in MuJoCo and dreamed.

A model that ignores actions, or one that is moved by them the wrong way, is found out at a glance; so is one that ends
too early or too late, because each world shows frames only until it holds the episode for ended.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from procosm.agents.judge.open_loop import decode, predictions
from procosm.agents.judge.rollouts import before_first
from procosm.agents.policy.worlds import truth
from procosm.envs.films import INK, PAPER
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.task import Task
from procosm.world_model.files import write_bytes
from procosm.world_model.interface import Condition

STEPS = (1, 2, 3, 4, 6, 8, 12, 16)
SHARES = (-1.0, -0.25, 0.0, 0.25, 1.0)
MOTORS = 3
"""With more than one motor, each of the first three is pushed alone, both ways."""
SIDE, GAP, LEFT, TOP = 96, 2, 92, 22

Branch = dict[int, np.ndarray]
"""Frames (H, W, 3) by step."""


def sweep(path: Path, model: WorldModel, seed: int) -> dict[str, Any]:
    """Draw the strip as a PNG: pairs of rows, MuJoCo above the dream, one pair for each action; columns are steps.

    Returns:
        ``{"file", "actions"}``: the picture's name and each pair's action.
    """
    actions = constant_actions(model.task)
    first, instruction, real = _real(model, actions, seed)
    begun = before_first(model, np.repeat(first[None], len(actions), axis=0))
    dreamed = _dreamed(model, begun, actions, model.text_condition([instruction] * len(actions)))
    rows = []
    for action, *branches in zip(actions, real, dreamed, strict=True):
        for label, branch in zip((f"MuJoCo\n{told(action)}", "dream"), branches, strict=True):
            rows.append((label, [branch.get(step) for step in STEPS]))
    _draw(path, rows)
    return {"file": path.name, "actions": actions.tolist()}


def told(action: np.ndarray) -> str:
    """An action as its row is called, short enough for the margin: of many motors only the one that is pushed."""
    pushed = np.flatnonzero(action)
    if len(action) > 2 and len(pushed) < 2:
        return f"motor {pushed[0] + 1}: {action[pushed[0]]:+.2g}" if len(pushed) else "no action"
    return ", ".join(f"{value:+.2g}" if value else "0" for value in action)


def constant_actions(task: Task) -> np.ndarray:
    """(n, a) actions: five along one motor's range, or both ends of each of the first motors alone, and none."""
    low, high = task.bounds
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    pushes = (
        [np.array([share]) for share in SHARES]
        if len(low) == 1
        else [np.zeros(len(low)), *(s * np.eye(len(low))[i] for i in range(min(MOTORS, len(low))) for s in (-1, 1))]
    )
    return np.stack([middle + half * push for push in pushes]).astype(np.float32)


def _dreamed(model: WorldModel, context: Tensor, actions: np.ndarray, condition: Condition | None) -> list[Branch]:
    """For each action the dreamed frames by step, until the model holds the end for more likely than not."""
    held = np.repeat(actions[:, None], max(STEPS), axis=1)  # (n, t, a)
    branches: list[Branch] = [{} for _ in actions]
    over = np.zeros(len(actions), bool)
    for step, predicted in enumerate(predictions(model, context, held, condition), start=1):
        frames = decode(model, predicted.latents)
        for i in np.flatnonzero(~over):
            branches[i][step] = frames[i]
        if "termination" in predicted.readouts:
            over |= predicted.readouts["termination"].cpu().numpy() > 0.5
    return branches


def _real(model: WorldModel, actions: np.ndarray, seed: int) -> tuple[np.ndarray, str, list[Branch]]:
    """The first frame (H, W, 3), what was asked for in words, and for each action the frames by step, until the episode
    ends.
    """
    env = truth(model.task, "pixels")
    branches: list[Branch] = []
    for action in actions:
        observed, info = env.reset(seed=seed)
        first = model.task.join(observed)
        branches.append({})
        for step in range(1, max(STEPS) + 1):
            frame, _, terminated, truncated, _ = env.step(action)
            branches[-1][step] = model.task.join(frame)
            if terminated or truncated:
                break
    env.close()
    return first, info.get("instruction", ""), branches


def _draw(path: Path, rows: list[tuple[str, list[np.ndarray | None]]]) -> None:
    """Frames in a grid with labels; where an episode has ended there is none."""
    pair = 2 * SIDE + 3 * GAP + 6  # two rows and the space below them
    height, width = next(frame.shape[:2] for _, frames in rows for frame in frames if frame is not None)
    wide = round(SIDE * width / height)
    page = Image.new("RGB", (LEFT + len(STEPS) * (wide + GAP), TOP + len(rows) // 2 * pair), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for column, step in enumerate(STEPS):
        draw.text((LEFT + column * (wide + GAP) + wide / 2, TOP / 2), f"step {step}", fill=INK, font=font, anchor="mm")
    for i, (label, frames) in enumerate(rows):
        top = TOP + i // 2 * pair + i % 2 * (SIDE + GAP)
        draw.text((8, top + 8), label, fill=INK, font=font)
        for column, frame in enumerate(frames):
            if frame is not None:
                large = Image.fromarray(frame).resize((wide, SIDE), Image.Resampling.NEAREST)
                page.paste(large, (LEFT + column * (wide + GAP), top))
    memory = BytesIO()
    page.save(memory, format="PNG")
    write_bytes(path, memory.getvalue())
