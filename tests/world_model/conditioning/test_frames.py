"""Dreams that begin with fewer frames than the context, or with none: what is shown, what is told, what is learned."""

import dataclasses

import numpy as np
import pytest
import torch

from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model import checkpoint
from procosm.world_model.conditioning.frames import (
    ShownConfig,
    mask_of,
    shown_counts,
    with_hidden_unknown,
    with_oldest_hidden,
)
from procosm.world_model.data.batch import Batch
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.interface import MEAN
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.conditions import with_conditions
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig
from tests.conftest import restless_model, simulated_task

SHAPE, CONTEXT = (2, 4, 4), 3
TINY = TransformerConfig(width=24, layers=1, heads=2, mlp_ratio=2, adaln_rank=4)
BOTH = ShownConfig(fewer=0.5, images=0.25)


def made(shown: ShownConfig | None, restless: bool = False) -> DiffusionDynamics:
    torch.manual_seed(0)
    model = DiffusionDynamics(DynamicsConfig(transformer=TINY, shown=shown, readouts=()), SHAPE, 1, 0)
    if restless:
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.1)
    return model


def windows(latents: torch.Tensor) -> Batch:
    b, horizon = len(latents), latents.shape[1] - CONTEXT
    actions, steps = torch.zeros(b, CONTEXT - 1 + horizon, 1), torch.zeros(b, horizon)
    return Batch(torch.empty(0), latents, actions, {}, steps, torch.ones(b, horizon))


@pytest.mark.parametrize(("fewer", "images"), [(0.5, 0.0), (0.0, 0.25), (0.5, 0.25), (0.1, 0.3)])
def test_as_many_windows_are_shown_less_as_is_asked_for(fewer, images):
    counts = shown_counts(1000, CONTEXT, fewer, images)
    assert (counts == 0).sum() == round(1000 * images)
    some = [int((counts == shown).sum()) for shown in (1, 2)]
    assert abs(some[0] - some[1]) <= 0.3 * max(some) and sum(some) <= round(1000 * fewer)
    assert sum(some) >= round(1000 * fewer * (1 - images)) - 1, "a picture may have been one of them, and no more"


def test_before_the_oldest_that_is_shown_nothing_is_seen_and_nothing_known():
    latents, actions = torch.randn(4, CONTEXT, *SHAPE), torch.rand(4, CONTEXT + 1, 1)
    counts = torch.tensor([3, 2, 1, 0])
    seen, known = with_oldest_hidden(latents, counts), with_hidden_unknown(actions, counts, CONTEXT)
    for row, count in enumerate(counts.tolist()):
        for t in range(CONTEXT):
            oldest = CONTEXT - count
            expected = latents[row, max(t, oldest)] if count else torch.zeros(SHAPE)
            assert torch.equal(seen[row, t], expected)
            assert mask_of(counts, CONTEXT)[row, t] == (t >= oldest)
        assert known[row, :, 0].isnan().tolist() == [t < CONTEXT - count for t in range(CONTEXT + 1)]


def test_one_frame_is_not_the_same_as_one_that_stands_still():
    last, action = torch.randn(5, 1, *SHAPE), torch.rand(5, 1)
    still = last.expand(-1, CONTEXT, -1, -1, -1)
    after = {}
    for told in (None, BOTH):
        model = made(told, restless=True)
        after[told] = [model.step(model.begin(each), action)[1].latents for each in (last, still)]
    assert torch.equal(*after[None]) and not torch.allclose(*after[BOTH], atol=1e-3)


def test_a_dream_begun_with_few_frames_is_what_training_shows_and_learns_the_rest_by_itself():
    model, latents, action = made(BOTH, restless=True), torch.randn(5, 2, *SHAPE), torch.rand(5, 1)
    memory = model.begin(latents)
    whole = torch.cat([torch.randn(5, 1, *SHAPE), latents], dim=1)
    counts = torch.full((5,), 2)
    expected = model.advance(
        with_oldest_hidden(whole, counts), model.unit_action(memory.with_action(action)), None, mask_of(counts, CONTEXT)
    )
    after, prediction = model.step(memory, action)
    assert torch.allclose(prediction.latents, expected, atol=1e-5)
    assert after.shown.tolist() == [[1.0, 1.0, 1.0]] * 5 and memory.shown.tolist() == [[0.0, 1.0, 1.0]] * 5
    taken = memory.take(torch.tensor([4, 0]))
    taken.put(torch.tensor([0]), model.begin(latents[:1, -1:]))
    assert taken.shown.tolist() == [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]


def trained(shown: ShownConfig | None, draw, steps: int) -> DiffusionDynamics:
    model = made(shown)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    seen = draw(2000, torch.Generator().manual_seed(99))
    model.fit_residual([(seen[:, :CONTEXT], seen[:, CONTEXT])])
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        model.diffusion_loss(windows(draw(64, generator)), generator)[0].backward()
        optimizer.step()
    return model.requires_grad_(False)


def drifting(count: int, generator: torch.Generator) -> torch.Tensor:
    """Three windows of four move on by one in each step, the fourth stands still; by the newest frame all are alike."""
    moves = (torch.rand(count, 1, 1, 1, 1, generator=generator) < 0.75).float()
    start = torch.randn(count, 1, *SHAPE, generator=generator)
    time = torch.arange(1.0 - CONTEXT, 2).view(1, -1, 1, 1, 1)
    return start + time * moves + 0.2 * torch.randn(count, CONTEXT + 1, *SHAPE, generator=generator)


def test_from_one_frame_a_model_that_learned_so_expects_what_usually_happens():
    start, action = torch.randn(200, 1, *SHAPE, generator=torch.Generator().manual_seed(5)), torch.zeros(200, 1)
    still = start.expand(-1, CONTEXT, -1, -1, -1)
    told, untold = trained(ShownConfig(fewer=0.5), drifting, 250), trained(None, drifting, 250)

    def moved(model: DiffusionDynamics, given: torch.Tensor) -> float:
        return float((model.step(model.begin(given), action)[1].latents - start[:, 0]).mean())

    assert moved(told, start) == pytest.approx(0.75, abs=0.15)
    assert moved(told, still) == pytest.approx(0.0, abs=0.15)
    assert moved(untold, start) == pytest.approx(0.0, abs=0.15), "one frame stands still for it"


def two_pictures(count: int, generator: torch.Generator) -> torch.Tensor:
    """All windows stand still, half of them at one and half at minus one."""
    sign = torch.randint(2, (count, 1, 1, 1, 1), generator=generator) * 2.0 - 1
    return sign + 0.05 * torch.randn(count, CONTEXT + 1, *SHAPE, generator=generator)


def test_pictures_are_drawn_and_not_averaged():
    model = trained(ShownConfig(images=0.5), two_pictures, 400)
    drawn = model.first([np.random.default_rng(slot) for slot in range(64)], MEAN)
    means, spread = drawn.flatten(1).mean(1), drawn.flatten(1).std(1)
    assert (means.abs() > 0.6).float().mean() > 0.8 and spread.mean() < 0.5
    assert 0.25 < (means > 0).float().mean() < 0.75
    again = model.first([np.random.default_rng(slot) for slot in range(64)], MEAN)
    assert torch.equal(drawn, again)
    with pytest.raises(ProcosmError, match="no first frame"):
        made(ShownConfig(fewer=0.5)).first([np.random.default_rng(0)], MEAN)


def test_losses_with_hidden_frames_repeat_and_reach_the_masks():
    model, batch = made(BOTH, restless=True), windows(torch.randn(16, CONTEXT + 3, *SHAPE))
    for loss in (
        lambda: model.diffusion_loss(batch, torch.Generator().manual_seed(0))[0],
        lambda: model.unrolled_loss(batch)[0],
    ):
        values = []
        for _ in range(2):
            model.zero_grad()
            value = loss()
            value.backward()
            values.append(value.item())
        assert values[0] == values[1] and np.isfinite(values[0])
        assert model.net.patch_in.weight.grad[:, -CONTEXT:].abs().sum(0).min() > 0


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A checkpoint, saved and opened again, of a model that was shown fewer frames, and none."""
    task = simulated_task("InvertedPendulum-v5", 64, 4, bound=3.0)
    made = restless_model(task, change=lambda config: dataclasses.replace(config, shown=ShownConfig(0.25, 0.25)))
    return checkpoint.load(checkpoint.save(tmp_path_factory.mktemp("shown") / "world_model", made))


def test_an_environment_begins_with_one_frame_and_the_model_is_told(world):
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    env = WorldModelEnv(world, observation="latent")
    after = {}
    for name, given in (("one", frames[-1]), ("still", np.stack([frames[-1]] * 3)), ("all", frames)):
        shown, _ = env.reset(seed=0, options={"frames": given})
        after[name] = env.step(env.action_space.high)[0][-1]
        latents = world.encode(np.atleast_3d(given).reshape(1, -1, 64, 64, 3))
        memory = world.dynamics.begin(latents)
        assert memory.shown.sum() == latents.shape[1]
        expected = world.dynamics.step(memory, torch.from_numpy(env.action_space.high)[None])[1].latents
        np.testing.assert_allclose(after[name], expected[0].numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(shown[0], shown[-1] if name != "all" else shown[0])
    assert not np.allclose(after["one"], after["still"], atol=1e-4)


def test_an_environment_begins_with_no_frame_at_all(world):
    env = WorldModelEnv(world, observation=("latent", "pixels"))
    seen = [env.reset(seed=seed, options={"frames": ()})[0] for seed in (0, 1, 0)]
    np.testing.assert_array_equal(seen[0]["latent"], seen[2]["latent"])
    assert not np.allclose(seen[0]["latent"], seen[1]["latent"])
    assert np.isfinite(env.step(env.action_space.sample())[0]["latent"]).all()
    many = WorldModelVectorEnv(world, num_envs=2, observation="latent", autoreset_mode="DISABLED")
    slots, info = many.reset(seed=[0, 1], options={"frames": ()})
    np.testing.assert_allclose(slots, np.stack([each["latent"] for each in seen[:2]]), rtol=1e-4, atol=1e-4)
    assert (info["start"] == -1).all()
    with pytest.raises(TaskError, match="these are empty"):
        env.reset(options={"frames": (), "actions": np.zeros((0, 1))})


def test_models_that_draw_no_first_frame_say_so(tiny_checkpoint):
    with pytest.raises(TaskError, match=r"draws no first frame: give one, or train it with .*--images"):
        WorldModelEnv(tiny_checkpoint).reset(options={"frames": []})


def test_training_is_asked_for_it_by_two_settings(tmp_path):
    task, sizes = simulated_task("InvertedPendulum-v5", 64, 4), preset("debug")

    def told(config: object, **asked: float) -> object:
        return with_conditions(TrainConfig(tmp_path / "data", tmp_path / "out", **asked), config, task)

    assert told(sizes.dynamics).shown is None
    assert told(sizes.dynamics, fewer=0.2, images=0.1).shown == ShownConfig(0.2, 0.1)
    with pytest.raises(SettingsError, match="leave no window whole"):
        TrainConfig(tmp_path / "data", tmp_path / "out", fewer=0.6, images=0.4)
    with pytest.raises(SettingsError, match="such dynamics see all frames"):
        told(preset("debug", dynamics="autoregressive").dynamics, fewer=0.2)
