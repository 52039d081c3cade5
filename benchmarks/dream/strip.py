"""The README's picture: reality, the dream and their difference under the same actions, as a strip of frames."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from procosm.agents.judge.open_loop import Windows, decode, predictions, window
from procosm.envs.films import difference
from procosm.world_model.checkpoint import load
from procosm.world_model.data.episodes import load_episodes

STEPS = (1, 2, 4, 8, 12, 16, 24, 32)


def strip(run: Path, path: Path) -> Path:
    """Draw the longest held-out episode of a run, from its beginning, open loop; columns are steps."""
    model = load(run / "world_model")
    held_out = [episode for episode in load_episodes(run / "data") if episode.kind == "holdout"]
    longest = max(held_out, key=lambda episode: len(episode.actions))
    context = model.dynamics.context
    chosen = Windows.stack([window(longest, 0, context, max(STEPS))])
    steps = [step for step in STEPS if step <= chosen.steps[0]]
    begun = model.encode(chosen.frames[:, :context])
    dreamed = [decode(model, p.latents)[0] for p in predictions(model, begun, chosen.actions)]
    figure, axes = plt.subplots(3, len(steps), figsize=(1.15 * len(steps), 3.6), squeeze=False)
    for column, step in enumerate(steps):
        real, dream = chosen.frames[0, context + step - 1], dreamed[step - 1]
        for row, picture in enumerate((real, dream, difference(real, dream))):
            axes[row, column].imshow(picture, interpolation="nearest")
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(f"step {step}", fontsize=8)
    for row, name in enumerate(("MuJoCo", "dream", "difference")):
        axes[row, 0].set_ylabel(name, fontsize=9)
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
