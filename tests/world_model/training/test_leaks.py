"""What must not leak into a training: training data into metrics, learning into judges, absent steps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.world_model.autoregressive.recipe import Predict
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.windows import Table, tabulate
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.recipe import Diffuse, Unroll
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.heads import StateHead
from procosm.world_model.registry import untrained
from procosm.world_model.tokenizer.loss import TokenizerLoss, TokenizerLossConfig
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.training import validation
from procosm.world_model.training.assembled import assembled, practice_of
from procosm.world_model.training.growth import growth
from procosm.world_model.training.presets import preset
from procosm.world_model.training.recipes import Stage, Training
from tests.conftest import CONTEXT, DECAY, PUSH, BrightnessTokenizer, LinearDynamics, simulated_task


def linear(kind: str, strength: float, episodes: int = 12, steps: int = 9) -> tuple[Table, torch.Tensor]:
    """Episodes in which actions push so many times as hard as in ``LinearDynamics``, and latents of their frames."""
    rng, made, latents = np.random.default_rng(len(kind)), [], []
    for _ in range(episodes):
        z, actions = [rng.normal(0, 0.5, 4)], rng.uniform(-1, 1, (steps, 1)).astype(np.float32)
        for action in actions:
            z.append(DECAY * z[-1] + strength * PUSH[:, 0] * action)
        values = np.stack(z).astype(np.float32)
        states = np.stack([values[:, 0], np.diff(values[:, 0], prepend=values[0, 0])], axis=1)
        rewards, frames = values[1:].mean(axis=1), np.zeros((steps + 1, 4, 4, 3), np.uint8)
        made.append(Episode(frames, actions, False, kind, signals={"state": states, "reward": rewards}))
        latents.append(torch.from_numpy(values).view(-1, 1, 2, 2))
    return tabulate(made, kind, CONTEXT), torch.cat(latents)


def training(folder: Path, **strengths: float) -> Training:
    parts = {kind: linear(kind, strength) for kind, strength in strengths.items()}
    tables, encoded = ({kind: part[i] for kind, part in parts.items()} for i in (0, 1))
    return Training(BrightnessTokenizer(), LinearDynamics(), tables, 0, folder, encoded=encoded)


def test_open_loop_errors_are_those_of_held_out_episodes(tmp_path):
    """The dynamics is exact on one kind of episodes and pushes half as hard as the other."""
    exact = validation.open_loop(training(tmp_path, train=2.0, holdout=1.0), horizon=4)
    assert max(exact["dream"]) < 1e-9 and max(exact["state"]) < 1e-4 and exact["copy"][0] > 1e-3
    wrong = validation.open_loop(training(tmp_path, train=1.0, holdout=2.0), horizon=4)
    assert min(wrong["dream"]) > 1e-2 and min(wrong["state"]) > 0.05


def test_states_are_counted_in_deviations_of_the_training_episodes(tmp_path):
    made = training(tmp_path, train=2.0, holdout=1.0)
    table = made.tables["train"]
    name, deviation = validation.deviations(made)
    assert name == "state"
    assert torch.allclose(deviation, table.signals["state"][table.steps].std(0))


def test_growth_is_judged_by_constant_actions_and_without_them_by_what_was_held_out(tmp_path):
    right = growth(training(tmp_path, train=2.0, holdout=2.0, constant=1.0))
    assert max(row["error"] for row in right) < 1e-4
    assert max(row["error"] for row in growth(training(tmp_path, train=2.0, holdout=1.0))) < 1e-4
    assert max(row["error"] for row in growth(training(tmp_path, train=1.0, holdout=2.0))) > 0.1


def test_dreams_start_from_held_out_windows(tmp_path):
    made = training(tmp_path, train=1.0, holdout=2.0)
    model = assembled(simulated_task("Linear-v0", 4, 2), made, {})
    held_out, seen = ({tuple(z) for z in made.encoded[kind].flatten(1).tolist()} for kind in ("holdout", "train"))
    starts = {tuple(z) for z in model.starts[:, -1].flatten(1).tolist()}
    assert starts and starts <= held_out and not starts & seen


def test_practice_may_begin_in_every_episode_that_was_learned_from_and_in_no_other(tmp_path):
    """Held-out episodes are few, and with them the goals, or whatever else stays within an episode, that they show."""
    made = training(tmp_path, train=1.0, holdout=2.0)
    table, latents = made.tables["train"], made.encoded["train"]
    practice = assembled(simulated_task("Linear-v0", 4, 2), made, {}).practice
    assert practice is not None and practice.latents.dtype == torch.float16
    gaps = (practice.latents[:, -1].flatten(1).float()[:, None] - latents.flatten(1)).abs().amax(2)
    assert gaps.amin(1).max() < 1e-3  # float16
    at = gaps.argmin(1)
    assert set(table.first[at].tolist()) == set(table.first.tolist())
    done = table.actions[at - 1]
    begun = table.first[at] == at
    assert torch.equal(practice.actions[~begun, -1], done[~begun]) and practice.actions[begun].isnan().all()


def test_practice_windows_are_few_and_half_of_the_newest(monkeypatch):
    table, latents = linear("train", 1.0, episodes=40)
    monkeypatch.setattr("procosm.world_model.training.assembled.PRACTICE", 64)
    new = len(table.first) - 20
    made = practice_of(table.with_half_from(20), latents, CONTEXT)
    assert len(made.latents) == 64
    newest = latents[new:].flatten(1)
    among = (made.latents[:, -1].flatten(1).float()[:, None] - newest).abs().amax(2).amin(1) < 1e-3
    assert 0.4 < among.float().mean() < 0.6
    monkeypatch.setattr("procosm.world_model.training.assembled.PRACTICE_BYTES", 10 * 2 * CONTEXT * 4)
    assert len(practice_of(table, latents, CONTEXT).latents) == 10


STAGES: list[tuple[str, Stage]] = [
    ("diffusion", Diffuse(3, 4, 1e-2)),
    ("diffusion", Unroll(3, 4, 1e-2, horizon=2, growth_gate=None)),
    ("autoregressive", Predict(3, 4, 1e-2, horizon=1)),
]


@pytest.mark.parametrize(("family", "stage"), STAGES, ids=["diffuse", "unroll", "predict"])
def test_what_judges_is_frozen_while_dynamics_learn(family, stage, tmp_path):
    """Each stage begun by itself, as where training goes on from a save."""
    sizes, task = preset("debug", dynamics=family), simulated_task("Linear-v0", 32, 2)
    torch.manual_seed(0)
    tokenizer, dynamics = untrained(task, sizes.tokenizer, sizes.dynamics)
    table, _ = linear("train", 1.0, episodes=2, steps=4)
    latents = tokenizer.encode(torch.randint(0, 256, (len(table.frames), 1, *task.frame_shape), dtype=torch.uint8))[
        :, 0
    ]
    judges = [name for name in ("state_head", "manifold") if hasattr(dynamics, name)]
    before = {name: value.clone() for name, value in dynamics.state_dict().items()}
    made = Training(tokenizer, dynamics, {"train": table, "holdout": table}, 0, tmp_path)
    made.encoded |= {"train": latents, "holdout": latents}
    stage.run("stage", made)
    changed = {name for name, value in dynamics.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("net.") for name in changed)
    assert judges and not [name for name in changed if name.startswith(tuple(f"{judge}." for judge in judges))]


def padded(seed: int, strange: bool) -> Batch:
    """Windows of three steps of which only the first exists; what stands in the others is strange or not."""
    g = torch.Generator().manual_seed(seed)
    latents, actions = torch.randn(5, 6, 2, 4, 4, generator=g), torch.rand(5, 5, 2, generator=g)
    signals = {"state": torch.randn(5, 6, 3, generator=g), "reward": torch.randn(5, 3, generator=g)}
    ends, mask = torch.zeros(5, 3), torch.tensor([1.0, 0.0, 0.0]).expand(5, 3)
    if strange:
        latents[:, 4:], actions[:, 3:], ends[:, 1:] = 7.0, -1.0, 1.0
        signals["state"][:, 4:], signals["reward"][:, 1:] = -9.0, 50.0
    return Batch(torch.empty(0), latents, actions, signals, ends, mask)


def test_steps_that_do_not_exist_teach_nothing():
    """Neither dynamics nor state, reward or termination: the loss of a window is that of the steps it has."""
    torch.manual_seed(0)
    tiny = DynamicsConfig(transformer=TransformerConfig(width=24, layers=1, heads=2, mlp_ratio=2, adaln_rank=4))
    dynamics = DiffusionDynamics(tiny, (2, 4, 4), action_size=2, state_size=3)
    plain, strange = (dynamics.unrolled_loss(padded(0, each)) for each in (False, True))
    assert torch.allclose(plain[0], strange[0], rtol=1e-5)
    assert plain[0].item() > 0
    for step in (1, 2):
        loss, parts = dynamics.head_loss(padded(0, True).latents[:, : dynamics.context + 1], padded(0, True), step)
        assert loss.item() == 0 and set(parts) == {"reward", "end"}


def test_the_foreground_counts_as_much_more_as_its_weight_says():
    """One pixel of a grey picture is wrong: once where the mean frame is, once where it is not."""
    config = TokenizerLossConfig(foreground_weight=10.0, state_weight=0.0, straight_weight=0.0)
    tokenizer = CausalTokenizer(TokenizerConfig(frame_height=32, frame_width=32, width=8))
    loss = TokenizerLoss(config, tokenizer, StateHead(1, tokenizer.spec.shape, 2))
    x = torch.zeros(3, 3, 1, 32, 32)
    x[:, :, :, 4, 7] = 0.5
    expected = torch.ones(3, 1, 1, 32, 32)
    expected[:, :, :, 4, 7] = 11.0
    assert torch.equal(loss.weight(x, 3), expected)
    tokenizer.mean_frame[:, :, 4, 7] = 0.5  # what always stands there is background
    assert torch.equal(loss.weight(x, 3), torch.ones_like(expected))
