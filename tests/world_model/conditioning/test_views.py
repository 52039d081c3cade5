"""Views are told apart: each is coded by itself, places are the same in all, and what is told to one stays there."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from procosm.world_model import checkpoint
from procosm.world_model.checkpoint import load, save
from procosm.world_model.conditioning.rays import CameraConfig
from procosm.world_model.conditioning.text import TextAttention
from procosm.world_model.conditioning.views import ViewConditioning, ViewsConfig, view_angles
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.data.task import Task, View
from procosm.world_model.diffusion.transformer import DiffusionTransformer, TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import Condition
from procosm.world_model.registry import untrained
from procosm.world_model.rope import angles
from procosm.world_model.settings import SettingsError
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.training.post import continued
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig, train
from tests.conftest import restless_model

GRID, COUNT, WIDTH = (3, 8), 2, 12
BRIEF = preset("debug")
for _stage in ("tokenizer", "state_head", "manifold", "diffusion", "unroll"):
    BRIEF = BRIEF.with_stage(_stage, steps=2)


def task_of(count: int, width: int = 32) -> Task:
    views = tuple(View(f"view{i}", 32, width) for i in range(count))
    return Task("Slide-v0", views, (-1.0, -1.0), (1.0, 1.0), 1, 0.1, 20)


def with_views(config):
    return replace(config, views=ViewsConfig())


@pytest.fixture(scope="module")
def restless():
    """Conditioning whose weights have all been moved, and tokens of three samples."""
    torch.manual_seed(0)
    module = ViewConditioning(ViewsConfig(COUNT, 5), WIDTH, 2, 1, 7, GRID)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module, torch.randn(3, GRID[0] * GRID[1], WIDTH), torch.randn(3, 7)


def columns_of(tokens: torch.Tensor, view: int) -> torch.Tensor:
    """(b, down, across of one view, d), cut from a picture of tokens."""
    each = GRID[1] // COUNT
    return tokens.unflatten(1, GRID)[:, :, view * each : (view + 1) * each]


def test_each_view_attends_to_what_is_told_to_it_alone(restless):
    """Against cross-attention of each view's tokens, cut out of the picture, by themselves."""
    module, tokens, action = restless
    told = module.tell(action)
    found = module.attend(0, tokens, told)
    attention = module.attention[0]
    assert isinstance(attention, TextAttention)
    by_weights = torch.nn.functional.linear(action, module.told.weight, module.told.bias).view(3, COUNT, 5, WIDTH)
    for view in range(COUNT):
        alone = attention(columns_of(tokens, view).flatten(1, 2), by_weights[:, view])
        assert torch.allclose(columns_of(found, view).flatten(1, 2), alone, atol=1e-5)
    # Another caption of the second view moves the second view and nothing else.
    other = told.unflatten(0, (3, COUNT)).clone()
    other[:, 1] += 1
    moved = (module.attend(0, tokens, other.flatten(0, 1)) - found).abs()
    assert not columns_of(moved, 0).any() and (columns_of(moved, 1) > 0).any()


def test_the_embedding_is_that_of_the_view(restless):
    module, tokens, _ = restless
    added = module.embed(tokens) - tokens
    for view in range(COUNT):
        wanted = module.embedding.weight[:, view].expand_as(columns_of(added, view))
        assert torch.allclose(columns_of(added, view), wanted, atol=1e-5)


def test_a_place_is_the_same_place_in_every_view():
    found = view_angles(GRID, COUNT, 12).unflatten(0, GRID)
    one = angles(1, GRID[0], GRID[1] // COUNT, 12).unflatten(0, (GRID[0], -1))
    assert torch.equal(found, torch.cat([one, one], dim=1))
    assert torch.equal(view_angles(GRID, 1, 12), angles(1, *GRID, 12))


def test_a_network_with_one_view_is_at_first_the_network_without():
    config = TransformerConfig(width=32, layers=2, heads=2, adaln_rank=4)
    torch.manual_seed(1)
    plain = DiffusionTransformer(config, (4, 4, 4), 2, 5)
    told = DiffusionTransformer(config, (4, 4, 4), 2, 5, views=ViewsConfig(1))
    told.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.normal_(plain.patch_out.weight)
    told.patch_out.load_state_dict(plain.patch_out.state_dict())
    inputs = torch.randn(2, 1, 4, 4, 4), torch.randn(2), torch.randn(2, 2, 4, 4, 4), torch.randn(2, 5)
    assert torch.equal(plain(*inputs), told(*inputs))


@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_model_of_several_views_dreams_and_comes_back_from_disk(count, tmp_path):
    task = task_of(count)
    model = replace(restless_model(task, change=with_views), reward_range=None)
    assert model.conditions == {"actions", "views"} and model.dynamics.config.views.count == count
    dynamics, context = model.dynamics, model.starts[:3]
    actions = torch.rand(3, dynamics.context, 2) * 2 - 1
    memory = dynamics.begin(context, Condition(actions=actions[:, :-1]))
    stepped = dynamics.step(memory, actions[:, -1])[1].latents
    with torch.no_grad():  # one step from zero, prepared, is the network's own pass
        assert torch.allclose(stepped, dynamics.advance(context, actions), atol=1e-4)
    again = load(save(tmp_path / "world_model", model)).dynamics
    memory = again.begin(context, Condition(actions=actions[:, :-1]))
    assert torch.equal(again.step(memory, actions[:, -1])[1].latents, stepped)


def test_for_more_actions_views_go_on_as_before_where_the_new_ones_do_nothing():
    old = replace(restless_model(task_of(2), change=with_views), reward_range=None)
    wider = replace(task_of(2), action_low=(-1.0,) * 3, action_high=(1.0,) * 3)
    _, dynamics, new = continued(old, wider)
    assert not [name for name in new if name.startswith("net.views")], new
    context = torch.randn(5, old.dynamics.context, *old.tokenizer.spec.shape)
    actions = torch.rand(5, old.dynamics.context, 2) * 2 - 1
    more = torch.cat([actions, torch.rand(5, old.dynamics.context, 1)], dim=2)
    with torch.no_grad():
        assert torch.allclose(dynamics.advance(context, more), old.dynamics.advance(context, actions), atol=1e-5)


def test_a_checkpoint_from_before_views_opens_and_dreams_the_same(tmp_path):
    model = replace(restless_model(task_of(1)), reward_range=None)
    folder = save(tmp_path / "world_model", model)
    path = folder / "config.json"
    values = json.loads(path.read_text())
    assert values["dynamics"].pop("views") is None and values["tokenizer"].pop("views") == 1
    path.write_text(json.dumps(values))
    opened, action = load(folder), torch.full((2, 2), 0.5)
    ends = [each.step(each.begin(each.starts[:2]), action)[1].latents for each in (model, opened)]
    assert torch.equal(*ends) and opened.conditions == {"actions"}


def test_a_tokenizer_codes_each_view_as_if_it_were_alone():
    torch.manual_seed(2)
    config = TokenizerConfig(32, 96, width=8, blocks=1, latent_size=4, views=3, linear_path=True)
    three, one = CausalTokenizer(config), CausalTokenizer(replace(config, frame_width=32, views=1))
    for parameter in three.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    three.mean_frame.normal_(std=0.1)
    frames = torch.randint(0, 256, (2, 1, 32, 96, 3), dtype=torch.uint8)
    latents, shown = three.encode(frames), three.decode(three.encode(frames))
    for view in range(3):
        columns = slice(32 * view, 32 * view + 32)
        weights = {n: t for n, t in three.state_dict().items() if n != "mean_frame"}
        one.load_state_dict(weights | {"mean_frame": three.mean_frame[..., columns]})
        alone = one.encode(frames[:, :, :, columns])
        assert torch.allclose(latents[..., 4 * view : 4 * view + 4], alone, atol=1e-5)
        apart = one.decode(alone).int() - shown[:, :, :, columns].int()
        assert apart.abs().max() <= 1
    with pytest.raises(ProcosmError, match="the width of a view must be a multiple of 8"):
        TokenizerConfig(32, 72, width=8, latent_size=4, views=2)


def test_views_that_cannot_be_told_apart_are_refused():
    uneven = replace(task_of(2), views=(View("a", 32, 32), View("b", 32, 64)))
    size = preset("debug")
    with pytest.raises(ProcosmError, match="of one width"):
        untrained(uneven, size.tokenizer, with_views(size.dynamics))
    with pytest.raises(ProcosmError, match="a token must be of one view"):
        view_angles((4, 9), 2, 12)
    rays = replace(size.dynamics, camera=CameraConfig(60.0, 0.1))
    with pytest.raises(ProcosmError, match="rays are of one camera, and Slide-v0 has 2 views"):
        untrained(task_of(2), size.tokenizer, rays)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A bright bar that an action moves right in one view and down in the other."""
    folder, generator = tmp_path_factory.mktemp("slide") / "data", np.random.default_rng(0)

    def episode(kind: str) -> Episode:
        actions = generator.uniform(-1, 1, (6, 2)).astype(np.float32)
        places = 12 + np.concatenate([[0], np.cumsum(3 * actions[:, 0])]).round().astype(int).clip(-10, 14)
        frames = np.full((7, *task_of(2).frame_shape), 40, np.uint8)
        for frame, at in zip(frames, places, strict=True):
            frame[:, at : at + 4] = 220
            frame[at : at + 4, 32:] = 220
        return Episode(frames=frames, actions=actions, terminated=False, kind=kind)

    kinds = ["train"] * 8 + ["holdout"] * 3
    write_dataset(folder, task_of(2), [(episode(kind), None) for kind in kinds], {}, None)
    return folder


def test_training_with_views_makes_a_model_that_says_so(log, tmp_path):
    out = train(TrainConfig(data=log, out=tmp_path / "told", views=True, device="cpu"), BRIEF)
    model = checkpoint.load(out)
    assert model.conditions == {"actions", "views"} and model.tokenizer.config.views == 2
    assert model.dynamics.net.views.embedding.weight.any(), "it has learned which view is which"
    with pytest.raises(SettingsError, match="no views can be added to such dynamics"):
        tokens = preset("debug", dynamics="autoregressive")
        train(TrainConfig(data=log, out=tmp_path / "a", views=True, family="autoregressive"), tokens)


def test_one_view_has_nothing_to_be_told_apart(tmp_path):
    folder = tmp_path / "data"
    frames = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    one = Episode(frames=frames, actions=np.zeros((6, 2), np.float32), terminated=False, kind="train")
    write_dataset(folder, task_of(1), [(one, None), (replace(one, kind="holdout"), None)], {}, None)
    with pytest.raises(SettingsError, match="Slide-v0 has one view"):
        train(TrainConfig(data=folder, out=tmp_path / "b", views=True), BRIEF)


def test_views_can_be_told_apart_from_post_training_on(log, tmp_path):
    plain = checkpoint.load(train(TrainConfig(data=log, out=tmp_path / "plain", device="cpu"), BRIEF))
    _, dynamics, new = continued(plain, plain.task, ("views",))
    assert dynamics.conditions == {"actions", "views"} and all(name.startswith("net.views.") for name in new)
    assert not dynamics.net.views.embedding.weight.any()
