"""A trained model as a checkpoint holds it: with frames to begin with, of the log that it learned from."""

from typing import Any

import torch
from torch import Tensor

from procosm.world_model import checkpoint
from procosm.world_model.data.on_disk import Rows, in_parts
from procosm.world_model.data.task import Task
from procosm.world_model.data.windows import (
    Table,
    candidates,
    choose_starts,
    context_index,
    first_frames,
    past_actions,
)
from procosm.world_model.evaluation.open_loop import readings
from procosm.world_model.model import Practice
from procosm.world_model.training.recipes import Training

PRACTICE, PRACTICE_BYTES = 4096, 16 << 20
"""Windows that a checkpoint keeps for practice, at most, and what they take."""
RESETS = 256
"""First frames of the task's own reset that a checkpoint keeps, at most."""
FIRST = ("holdout", "constant", "train")
"""Kinds of episodes that these are of, in this order."""


def assembled(task: Task, training: Training, origin: dict[str, Any], newest: int = 0) -> checkpoint.WorldModel:
    """A world model of trained parts, with held-out windows to start dreams from, half of them among the ``newest``
    held-out frames; ``origin`` is its provenance.
    """
    tables, latents, dynamics = training.tables, training.latents, training.dynamics
    held_out, z = candidates(tables["holdout"], newest), latents["holdout"]
    features = None
    if "features" in dynamics.readouts and len(held_out.steps):
        features = readings(dynamics, "features", held_out, z, held_out.steps)
    starts = choose_starts(held_out, z, dynamics.context, features=features, newest=newest)
    firsts = {kind: first_frames(tables[kind])[:RESETS] for kind in FIRST if kind in tables}
    resets = torch.cat([latents[kind][at] for kind, at in firsts.items()])[:RESETS]
    texts = tuple(sorted({text for table in tables.values() for text in table.texts}))
    asked = [said for kind, at in firsts.items() if (said := said_at(texts, tables[kind], at)) is not None]
    rewards = tables["train"].signals["reward"][tables["train"].steps] if "reward" in held_out.signals else None
    return checkpoint.WorldModel(
        task=task,
        tokenizer=training.tokenizer,
        dynamics=dynamics,
        start_frames=held_out.seen(starts),
        start_states=held_out.signals["state"][starts[:, -1]] if "state" in held_out.signals else None,
        starts=z[starts],
        resets=resets if len(resets) else None,
        start_actions=past_actions(held_out, starts[:, -1], dynamics.context),
        texts=texts,
        start_texts=said_at(texts, held_out, starts[:, -1]),
        reset_texts=torch.cat(asked)[:RESETS] if asked else None,
        practice=practice_of(tables["train"], latents["train"], dynamics.context, texts),
        reward_range=None if rewards is None else (float(rewards.min()), float(rewards.max())),
        metrics=training.metrics,
        provenance=origin,
    )


def practice_of(table: Table, latents: Tensor | Rows, context: int, texts: tuple[str, ...] = ()) -> Practice:
    """Windows of what was learned from, evenly spread over its steps, of which those of the newest are listed again.

    Held-out windows are few where episodes differ by a goal that stays: a policy that practises in some 70 of these
    learns them, not to tell them apart.
    """
    size = 2 * context * latents[:1].numel()  # bytes, in float16
    count = min(len(table.steps), PRACTICE, max(1, PRACTICE_BYTES // size))
    at = table.steps[torch.linspace(0, len(table.steps) - 1, count, dtype=torch.float64).long().to(table.device)]
    parts = [latents[context_index(table, part, context)].half() for part in in_parts(latents, at)]
    return Practice(torch.cat(parts), past_actions(table, at, context), said_at(texts, table, at))


def said_at(texts: tuple[str, ...], table: Table, at: Tensor) -> Tensor | None:
    """(n,) int64, which of ``texts`` had the episodes of frames ``at``; None where there are no texts."""
    if not texts:
        return None
    own = torch.tensor([texts.index(text) for text in table.texts], device=table.device)
    return own[table.signals["text"][at]]
