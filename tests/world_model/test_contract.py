"""What every kind of world model keeps to, of all that are registered and of one that shares nothing with them."""

import dataclasses
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.envs.dreams.weights import SHIPPED
from procosm.world_model import registry
from procosm.world_model.autoregressive.transformer import TransformerConfig
from procosm.world_model.checkpoint import load, save
from procosm.world_model.data.task import MAIN, Task, View
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.interface import Condition, Sampling
from procosm.world_model.model import WorldModel
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.cosmos_vae import CosmosVAEConfig
from procosm.world_model.threads import one_thread
from tests.world_model.recurrent import Pooled, PooledConfig, Recurrent, RecurrentConfig

_TRANSFORMER = TransformerConfig(width=24, layers=2, heads=2, kv_heads=1, hidden=32, medusa_heads=3)
VAE = CosmosVAEConfig(
    latent_channels=4,
    encoder_block_out_channels=(8, 8, 8),
    decode_block_out_channels=(8, 8, 8),
    num_layers=1,
    temporal_compression_ratio=4,
)
NET = CosmosTransformerConfig(
    in_channels=5,
    out_channels=4,
    num_attention_heads=1,
    attention_head_dim=12,
    num_layers=1,
    text_embed_dim=8,
    adaln_lora_dim=4,
    max_size=(4, 8, 8),
)
SMALL = {
    "causal": {"width": 8, "blocks": 0},
    "autoregressive": {"transformer": _TRANSFORMER},
    "vae": {"vae": VAE, "image": True},
    "pretrained": {"transformer": NET, "actions": "together"},
}
"""Fields of small configs; a kind that is not listed is tested with its defaults."""
TOKENIZERS = {"autoregressive": {"levels": (4, 3, 3), "latent_channels": 3, "latent_size": 4}}
"""Fields of tokenizers that a kind of dynamics asks for."""
SEVERAL = ("vae", "pretrained")
"""The pair each step of which is several frames."""
COUNT, DRAWN = 5, Sampling(3)
PAIRS = [*((tokenizer, "diffusion") for tokenizer in registry.KINDS["tokenizer"]), ("pooled", "recurrent")]
PAIRS += [SEVERAL]
PAIRS += [("causal", dynamics) for dynamics in registry.KINDS["dynamics"] if dynamics != "diffusion"]


@pytest.fixture
def kinds(monkeypatch):
    """The registered kinds, and one more of each part."""
    second = {
        "tokenizer": {"pooled": registry.Kind(PooledConfig, Pooled)},
        "dynamics": {"recurrent": registry.Kind(RecurrentConfig, Recurrent)},
    }
    monkeypatch.setattr(registry, "KINDS", {part: known | second[part] for part, known in registry.KINDS.items()})
    return registry.KINDS


@pytest.fixture(params=PAIRS, ids=" + ".join)
def model(request, kinds, linear_task: Task) -> WorldModel:
    """An untrained model of each kind, every weight of which counts."""
    torch.manual_seed(1)
    task = dataclasses.replace(linear_task, views=(View(MAIN, 64, 64),))
    fields = [SMALL.get(name, {}) for name in request.param]
    fields[0] = (
        fields[0] | TOKENIZERS.get(request.param[1], {}) | ({"image": False} if request.param == SEVERAL else {})
    )
    configs = [
        kinds[part][name].config(**given) for part, name, given in zip(kinds, request.param, fields, strict=True)
    ]
    tokenizer, dynamics = registry.untrained(task, *configs)
    with torch.no_grad():
        for parameter in (*tokenizer.parameters(), *dynamics.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
        if "termination" in dynamics.readouts:
            dynamics.outcome_head.net[-1].bias[1] -= 3.0  # dreams last as long as they may
    frames = torch.randint(0, 256, (4, dynamics.context, 64, 64, 3), dtype=torch.uint8)
    return WorldModel(
        task=task,
        tokenizer=tokenizer.requires_grad_(False).eval(),
        dynamics=dynamics.requires_grad_(False).eval(),
        start_frames=frames,
        start_states=torch.zeros(4, 2),
        starts=tokenizer.encode(frames.flatten(0, 1)[:, None]).unflatten(0, frames.shape[:2])[:, :, 0].contiguous(),
        reward_range=(-1.0, 1.0),
        metrics={},
        provenance={},
    )


def begun(model: WorldModel):
    return model.dynamics.begin(model.starts[torch.arange(COUNT) % 4])


def draws(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def actions(steps: int = 4) -> torch.Tensor:
    return torch.rand(steps, COUNT, 1, generator=torch.Generator().manual_seed(2)) * 2 - 1


def of_each_frame(model: WorldModel, action: torch.Tensor) -> torch.Tensor:
    """(b, a) actions as a step takes them: the same at each of its frames, where it is several."""
    frames = model.frames_per_step
    return action if frames == 1 else action[:, None].expand(-1, frames, -1)


def dreamed(model: WorldModel, memory, taken: torch.Tensor, *drawn) -> list:
    predictions = []
    for action in taken:
        memory, prediction = model.dynamics.step(memory, of_each_frame(model, action), *drawn)
        predictions.append(prediction)
    return predictions


def test_a_prediction_holds_latents_and_the_named_readouts(model):
    (prediction,) = dreamed(model, begun(model), actions(1))
    assert prediction.latents.shape == (COUNT, *model.tokenizer.spec.shape)
    assert set(prediction.readouts) == model.dynamics.readouts == model.capabilities
    assert set(model.dynamics.read(begun(model))) == model.dynamics.readouts & {"state", "features"}
    for name, value in prediction.readouts.items():
        assert value.shape[0] == COUNT and value.ndim == (2 if name in ("state", "features") else 1)
        assert torch.isfinite(value).all()


def test_frames_pass_the_tokenizer_in_their_shape(model):
    with one_thread():  # as a world model decodes: the last bits of a convolution depend on how many share it
        frames = model.tokenizer.decode(model.starts[:, -1:])
    assert frames.shape == (4, 1, 64, 64, 3) and frames.dtype == torch.uint8
    assert torch.equal(model.decode(model.starts[:, -1]), frames[:, 0])


def test_a_memory_begins_with_fewer_or_more_latents_than_the_context(model):
    window = model.starts
    first = window[:, :1]
    for given, same in (
        (torch.cat([window + 1, window], dim=1), window),
        (first, first.expand(-1, model.dynamics.context, -1, -1, -1)),
    ):
        one, other = (dreamed(model, model.dynamics.begin(each), torch.zeros(1, 4, 1))[0] for each in (given, same))
        assert torch.equal(one.latents, other.latents)
    model.dynamics.begin(window, Condition(torch.zeros(4, model.dynamics.context - 1, 1)))


def test_the_same_draws_dream_the_same_and_the_mean_needs_none(model):
    runs = [dreamed(model, begun(model), actions(), draws(*range(k, k + COUNT)), DRAWN)[-1] for k in (0, 0, 9)]
    assert torch.equal(runs[0].latents, runs[1].latents) and not torch.equal(runs[0].latents, runs[2].latents)
    plain, given = dreamed(model, begun(model), actions()), dreamed(model, begun(model), actions(), draws(*range(5)))
    assert torch.equal(plain[-1].latents, given[-1].latents)


def test_steps_have_gradients_where_their_kind_says_so_and_they_are_the_mean_steps(model):
    kind = registry.KINDS["dynamics"][registry.kind_of("dynamics", model.dynamics.config)]
    assert kind.differentiable == hasattr(model.dynamics, "step_with_gradient")
    if not kind.differentiable:
        return
    memory, action = begun(model).take(torch.arange(COUNT)), actions(1)[0].requires_grad_()
    (expected,) = dreamed(model, begun(model), actions(1))
    after, told = model.dynamics.step_with_gradient(memory, action)
    assert torch.equal(told.latents, expected.latents) and set(told.readouts) == set(expected.readouts)
    later = model.dynamics.step_with_gradient(after, torch.zeros_like(action))[1]
    for number in (told.latents, *told.readouts.values(), later.latents):
        (gradient,) = torch.autograd.grad(number.sum(), action, retain_graph=True)
        assert (gradient != 0).all() and torch.isfinite(gradient).all()


def test_a_slot_takes_random_numbers_from_its_own_generator_alone(model):
    ours = dreamed(model, begun(model), actions(), draws(0, 1, 2, 3, 4), DRAWN)[-1].latents
    theirs = dreamed(model, begun(model), actions(), draws(0, 1, 7, 3, 4), DRAWN)[-1].latents
    assert [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)] == [True, True, False, True, True]


def test_what_is_taken_dreams_on_alone_and_is_a_copy(model):
    memory, taken = begun(model), actions()
    memory, _ = model.dynamics.step(memory, of_each_frame(model, taken[0]))
    slots = torch.tensor([3, 0])
    two = memory.take(slots)
    whole, alone = dreamed(model, memory, taken[1:]), dreamed(model, two, taken[1:, slots])
    for one, other in zip(whole, alone, strict=True):
        assert torch.allclose(one.latents[slots], other.latents, atol=1e-5)


def test_what_is_put_goes_on_in_its_slot_and_the_others_keep_every_bit(model):
    taken = actions()
    moved = model.dynamics.step(begun(model), of_each_frame(model, taken[0]))[0]
    expected, source = dreamed(model, moved.take(torch.arange(COUNT)), taken[1:]), begun(model)
    fresh = dreamed(model, source.take(torch.arange(COUNT)), taken[1:])
    moved.put(torch.tensor([1, 4]), source.take(torch.tensor([1, 4])))
    for mixed, old, new in zip(dreamed(model, moved, taken[1:]), expected, fresh, strict=True):
        assert torch.equal(mixed.latents[[0, 2, 3]], old.latents[[0, 2, 3]])
        assert torch.equal(mixed.latents[[1, 4]], new.latents[[1, 4]])


def test_a_batch_in_parts_is_the_batch(model):
    many = model.starts[torch.arange(48) % 4]
    taken = of_each_frame(model, torch.linspace(-1, 1, 48)[:, None])
    whole, parts = model.dynamics.begin(many), model.begin(many)
    for _ in range(3):
        whole, one = model.dynamics.step(whole, taken, draws(*range(48)), DRAWN)
        parts, other = model.step(parts, taken, draws(*range(48)), DRAWN)
        assert torch.allclose(one.latents, other.latents, atol=1e-4) and set(one.readouts) == set(other.readouts)
        assert (one.frames is None) == (other.frames is None) == (model.frames_per_step == 1)
        assert one.frames is None or one.frames.shape == other.frames.shape == (48, model.frames_per_step, 64, 64, 3)


def test_it_goes_through_a_folder_to_the_bit(model, tmp_path):
    again = load(save(tmp_path / "model", model))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["format"] == 3 and set(config["kinds"]) == {"tokenizer", "dynamics"}
    assert type(again.dynamics) is type(model.dynamics) and type(again.tokenizer) is type(model.tokenizer)
    for ours, theirs in zip(*(dreamed(each, begun(each), actions()) for each in (model, again)), strict=True):
        assert torch.equal(ours.latents, theirs.latents)
    assert torch.equal(again.decode(again.starts[:, -1]), model.decode(model.starts[:, -1]))


@pytest.mark.parametrize("denoising_steps", [1, 3])
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_it_is_an_environment_alone_and_in_a_batch(model, tmp_path, mode, denoising_steps):
    folder = str(save(tmp_path / "model", model))
    settings = {"observation": ("pixels", "latent"), "denoising_steps": denoising_steps}
    if "reward" not in model.capabilities:
        settings["reward"] = lambda told: told["action"][:, 0] + told["frames"].mean((1, 2, 3)) / 255
    k = model.frames_per_step
    single = gym.make("procosm.envs:Procosm/World-v0", checkpoint=folder, max_episode_steps=3, **settings)
    batch = gym.make_vec(
        "procosm.envs:Procosm/World-v0",
        3,
        checkpoint=folder,
        max_episode_steps=3,
        autoreset_mode=mode,
        **settings,
    )
    seen, many = single.reset(seed=6)[0], batch.reset(seed=4)[0]
    assert single.observation_space.contains(seen) and batch.observation_space.contains(many)
    for step in range(1, 4):
        action = np.full(single.action_space.shape, 0.3 * step, np.float32)
        assert action.shape == ((1,) if k == 1 else (k, 1))
        seen, reward, ended, cut, info = single.step(action)
        many, rewards, ends, cuts, infos = batch.step(np.stack([action] * 3))
        assert ("frames" in info) == ("frames" in infos) == (k > 1)
        if k > 1:
            assert info["frames"].shape == (k, 64, 64, 3) and np.array_equal(info["frames"][-1], seen["pixels"])
        last = (ended or step == 3) and mode == "SAME_STEP"
        there = infos["final_obs"][2] if last else {key: value[2] for key, value in many.items()}
        np.testing.assert_allclose(there["latent"], seen["latent"], atol=1e-4)
        assert rewards[2] == pytest.approx(reward, abs=1e-4) and (ends[2], cuts[2]) == (ended, cut)
        if ended:  # as an untrained model may hold
            break
    assert ended or cut
    many = batch.step(np.zeros(batch.action_space.shape, np.float32))[0]
    assert batch.observation_space.contains(many) and ("state" in infos) == ("state" in model.capabilities)
    single.close()
    batch.close()


def test_a_config_tells_its_kind_and_others_are_refused_by_name(kinds, linear_task):
    assert registry.kind_of("dynamics", RecurrentConfig()) == "recurrent"
    with pytest.raises(ProcosmError, match=r"PooledConfig is of no kind of dynamics: known are .*, recurrent"):
        registry.untrained(linear_task, PooledConfig(), PooledConfig())


def test_a_kind_that_is_not_here_is_named(tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config["kinds"]["dynamics"] = "oracle"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json: no kind of dynamics is called 'oracle': known are diff"):
        load(folder)


@pytest.mark.parametrize("number", [1, 2])
def test_older_formats_open_as_they_did_and_are_saved_as_the_newest(tiny_checkpoint, tmp_path, number):
    """The first did not name kinds; in both a task was one square view of a MuJoCo task with everything logged."""
    old = shutil.copytree(tiny_checkpoint, tmp_path / "old")
    config = json.loads((old / "config.json").read_text())
    twin, signals = config["task"].pop("twin"), config["task"].pop("signals")
    config["task"] |= {
        "frame_size": config["task"].pop("views")[0]["height"],
        "camera": twin["cameras"]["main"],
        "state_size": signals["state"]["shape"][0],
        "renderer": twin["renderer"],
        "version": twin["version"],
    }
    if number == 1:
        del config["kinds"]
    (old / "config.json").write_text(json.dumps(config | {"format": number}))
    models = [load(tiny_checkpoint), load(old), load(save(tmp_path / "new", load(old)))]
    assert len({str(each.task) for each in models}) == 1
    runs = [dreamed(each, begun(each), actions(), draws(*range(COUNT)), DRAWN)[-1] for each in models]
    for other in runs[1:]:
        assert torch.equal(runs[0].latents, other.latents)
        assert all(torch.equal(value, other.readouts[name]) for name, value in runs[0].readouts.items())


def test_what_ships_is_still_format_1_and_opens():
    """Nobody has to train again: the folders in the package are from before kinds were named."""
    for folder in sorted(SHIPPED.iterdir()):
        assert json.loads((folder / "config.json").read_text())["format"] == 1
        assert load(folder).capabilities == {"reward", "termination", "state", "trust"}
