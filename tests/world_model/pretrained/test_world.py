"""A whole folder as diffusers publishes it becomes an environment: opened, reset, stepped, and refused by name."""

import json
import sys
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image
from safetensors.torch import save_file

from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import dreams
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.dreams.spec import portable
from procosm.envs.dreams.weights import open_model
from procosm.world_model.checkpoint import load, save
from procosm.world_model.errors import CheckpointError, TaskError
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.spread import spread
from procosm.world_model.pretrained.transformer import CosmosTransformer
from tests.world_model.pretrained import published

published.make_do()
ID = "procosm.envs:Procosm/World-v0"
USE = {"height": 32, "width": 48, "drawn": 2, "actions": "together", "action_low": [-1, -2], "action_high": [1, 2]}
FAMILIES = {"predict1": ("video2world", "cosmos", EDMEulerScheduler), "predict2": ("predict2", "wan", None)}


def write_published(folder: Path, family: str = "predict1", use: dict | None = None, **change) -> Path:
    """What ``save_pretrained`` of a pipeline leaves, but for text encoder and tokenizer; actions stand in it, too."""
    variant, vae, scheduler = FAMILIES[family]
    theirs = published.transformer(variant, **change)
    theirs.save_pretrained(folder / "transformer", max_shard_size="60KB")
    published.vae(vae).save_pretrained(folder / "vae")
    made = scheduler() if scheduler else FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    made.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "CosmosVideoToWorldPipeline"}))
    if use is not None:
        (folder / "procosm.json").write_text(json.dumps(use))
        if use.get("actions", "none") != "none":
            add_action_head(folder / "transformer", numbers=8 * 2 if use["actions"] == "together" else 4 * 2)
    return folder


def add_action_head(folder: Path, numbers: int) -> None:
    """An action head in a file of its own, as the index of a published transformer allows."""
    d, generator = 24, torch.Generator().manual_seed(5)
    shapes = {
        "B_D.fc1": (4 * d, numbers),
        "B_D.fc2": (d, 4 * d),
        "B_3D.fc1": (4 * d, numbers),
        "B_3D.fc2": (3 * d, 4 * d),
    }
    head = {}
    for name, shape in shapes.items():
        head[f"action_embedder_{name}.weight"] = torch.randn(shape, generator=generator) * 0.3
        head[f"action_embedder_{name}.bias"] = torch.randn(shape[:1], generator=generator) * 0.3
    save_file(head, folder / "action.safetensors")
    path = folder / "diffusion_pytorch_model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] |= dict.fromkeys(head, "action.safetensors")
    path.write_text(json.dumps(index))


def shown(folder: Path, count: int = 2, size: tuple[int, int] = (48, 32)) -> None:
    """Start frames, each of one colour."""
    (folder / "starts").mkdir()
    for i in range(count):
        Image.new("RGB", size, (40 * i, 255 - 40 * i, 90)).save(folder / "starts" / f"{i}.png")


def brightness(told) -> np.ndarray:
    return told["frames"].mean((1, 2, 3)) / 255


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_published_folder_is_an_environment_in_chunks(tmp_path, family, steps):
    folder = write_published(tmp_path / "model", family, USE)
    shown(folder)
    settings = {"checkpoint": str(folder), "reward": brightness, "denoising_steps": steps, "max_episode_steps": 2}
    env, many = gym.make(ID, **settings), gym.make_vec(ID, 2, autoreset_mode="SAME_STEP", **settings)
    assert env.action_space.shape == (8, 2) and np.array_equal(env.action_space.high, [[1, 2]] * 8)
    seen, info = env.reset(seed=1)
    seen_both, _ = many.reset(seed=1)
    assert seen.shape == (32, 48, 3) and info["frames"].shape == (8, 32, 48, 3)
    assert np.array_equal(seen, info["frames"][-1]) and np.abs(seen_both[0].astype(int) - seen).max() <= 1
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 8, 2)).astype(np.float32)
    for step, action in enumerate(actions):
        seen, reward, ended, cut, info = env.step(action)
        both, rewards, _, cuts, infos = many.step(np.stack([action] * 2))
        assert reward == pytest.approx((info["frames"].mean((1, 2, 3)) / 255).sum())
        assert np.array_equal(seen, info["frames"][-1]) and env.observation_space.contains(seen)
        assert (ended, cut) == (False, step == 1) and cuts[0] == cut and rewards[0] == pytest.approx(reward, abs=0.02)
        last = infos["final_obs"][0] if cut else both[0]
        assert np.abs(last.astype(int) - seen).max() <= 1
    frames = infos["final_info"]["frames"][0]
    assert frames.shape == (8, 32, 48, 3) and len({frame.tobytes() for frame in frames}) > 1
    env.reset(seed=1)
    again = [env.step(action)[0] for action in actions][-1]
    assert np.array_equal(again, seen)
    env.close()
    many.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_done_changes_what_is_seen(tmp_path, family):
    folder = write_published(tmp_path / "model", family, USE | {"action_scale": [1, 20]})
    env = gym.make(ID, checkpoint=str(folder), reward=brightness)
    ends = []
    for action in (np.zeros((8, 2), np.float32), np.tile(np.float32([0, 2]), (8, 1))):
        env.reset(seed=0)
        ends.append(env.step(action)[4]["frames"].astype(int))
    assert np.abs(ends[0] - ends[1]).max() > 1


def test_each_frame_alone_makes_steps_of_one_frame(tmp_path):
    use = USE | {"image": True, "drawn": 1, "given": 2, "actions": "none"}
    folder = write_published(tmp_path / "model", use=use)
    env = gym.make(ID, checkpoint=str(folder), reward=brightness, observation=("pixels", "latent"))
    seen, info = env.reset(seed=0)
    assert env.action_space.shape == (2,) and "frames" not in info and seen["latent"].shape == (2, 4, 8, 12)
    seen, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(seen)


def test_without_a_sidecar_it_opens_says_what_is_missing_and_needs_a_reward(tmp_path, caplog):
    folder = write_published(tmp_path / "model")
    with pytest.raises(TaskError, match="has learned no reward"):
        gym.make(ID, checkpoint=str(folder))
    assert "takes no actions: what is done changes nothing" in caplog.text and "dreams begin with grey" in caplog.text
    env = gym.make(ID, checkpoint=str(folder), reward=brightness)
    env.reset(seed=0)
    assert env.action_space.shape == (12, 1) and env.observation_space.shape == (128, 128, 3)
    assert env.unwrapped.task.dt_s == pytest.approx(12 / 30) and env.unwrapped.task.id == "model"
    env.step(env.action_space.sample())


def test_text_guides_it(tmp_path):
    folder = write_published(tmp_path / "model", use=USE | {"actions": "none", "guidance": 3.0})
    generator, seen = torch.Generator().manual_seed(4), []
    for _ in range(2):
        texts = {name: torch.randn(5, 16, generator=generator) for name in ("text", "negative")}
        save_file(texts, folder / "text.safetensors")
        model = open_model(str(folder), None, "cpu")
        memory = model.dynamics.begin(model.starts)
        seen.append(model.dynamics.step(memory, torch.zeros(1, 8, 2))[1].latents)
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    save_file({"text": torch.zeros(5, 17)}, folder / "text.safetensors")
    with pytest.raises(CheckpointError, match=r"text has shape \(5, 17\), and must have \(5, 16\)"):
        load(folder)


def test_it_is_saved_as_a_checkpoint_of_ours_and_opens_as_the_same(tmp_path):
    model = load(write_published(tmp_path / "model", use=USE))
    again = load(save(tmp_path / "ours", model))
    action = torch.ones(1, 8, 2)
    runs = [each.dynamics.step(each.dynamics.begin(each.starts), action)[1] for each in (model, again)]
    assert torch.equal(runs[0].frames, runs[1].frames) and again.task == model.task


def test_weights_in_bfloat16_stay_so(tmp_path):
    folder = write_published(tmp_path / "model", "predict2", USE | {"actions": "none"})
    published.transformer("predict2").bfloat16().save_pretrained(folder / "half")
    (folder / "transformer").rename(folder / "whole")
    (folder / "half").rename(folder / "transformer")
    model = load(folder)
    assert {parameter.dtype for parameter in model.dynamics.net.parameters()} == {torch.bfloat16}
    frames = model.dynamics.step(model.dynamics.begin(model.starts), torch.zeros(1, 8, 2))[1].frames
    assert frames.shape == (1, 8, 32, 48, 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"heigth": 32}, "heigth"),
        ({"height": 30}, "30 by 48 pixels for a tokenizer of"),
        ({"devices": ["tpu"]}, "device tpu is no device"),
        ({"devices": ["cpu"] * 3}, "3 devices for 2 blocks"),
        ({"actions": "each"}, "action_embedder_B_D.fc1.weight is torch.float32 (96, 16), floats (96, 8)"),
        ({"actions": "none"}, "holds the unknown action_embedder"),
        ({"action_low": [-1]}, "action_embedder_B_D.fc1.weight"),
        ({"action_scale": [1, 2, 3]}, "action_scale has shape (3,)"),
        ({"fps": 0}, "fps is 0"),
    ],
)
def test_a_use_that_cannot_be_is_named(tmp_path, change, told):
    folder = write_published(tmp_path / "model", use=USE)
    (folder / "procosm.json").write_text(json.dumps(USE | change))
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert told in str(caught.value) and str(folder) in str(caught.value)


def test_start_frames_of_another_size_and_worlds_of_text_alone_are_named(tmp_path):
    folder = write_published(tmp_path / "model", use=USE)
    shown(folder, size=(32, 32))
    with pytest.raises(CheckpointError, match=r"0\.png is 32 by 32 pixels, and frames here are 32 by 48"):
        load(folder)
    published.transformer("text2world").save_pretrained(tmp_path / "text" / "transformer")
    published.vae("cosmos").save_pretrained(tmp_path / "text" / "vae")
    with pytest.raises(CheckpointError, match="makes a world of text alone"):
        load(tmp_path / "text")


def test_more_latents_than_there_are_positions_for_are_named(tmp_path):
    folder = write_published(tmp_path / "model")
    (folder / "procosm.json").write_text(json.dumps(USE | {"actions": "none", "drawn": 9}))
    with pytest.raises(CheckpointError, match=r"latents of \(10, 8, 12\) .* but positions for \(4, 32, 32\)"):
        load(folder)


def test_a_name_on_the_hub_without_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as caught:
        gym.make(ID, checkpoint="nvidia/Cosmos-Predict2-2B-Video2World", reward=brightness)
    told = str(caught.value)
    assert "no folder nvidia/Cosmos-Predict2-2B-Video2World here, and the Hub does not give" in told
    assert "network" in told and "hf auth login" in told
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install 'procosm\[pretrained\]'"):
        gym.make(ID, checkpoint="nvidia/Cosmos-Predict2-2B-Video2World", reward=brightness)


def test_a_name_on_the_hub_is_asked_for_what_is_needed_and_stays_a_name(tmp_path, monkeypatch):
    folder, asked = write_published(tmp_path / "model"), []

    def snapshot_download(name: str, allow_patterns: list[str], **_) -> str:
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    env = gym.make(ID, checkpoint="owner/model", reward=brightness)
    ((name, patterns),) = asked
    assert name == "owner/model" and {"vae/*", "transformer/*", "procosm.json"} <= set(patterns)
    assert env.unwrapped.spec.kwargs["checkpoint"] == "owner/model"
    assert portable({"checkpoint": "tests/none"})["checkpoint"].endswith("/tests/none")  # tests/ is a folder here


@pytest.mark.parametrize("family", FAMILIES)
def test_two_given_latents_are_the_last_frames_of_the_video_before(tmp_path, family):
    folder = write_published(tmp_path / "model", family, USE | {"given": 2, "actions": "none"})
    shown(folder)
    model = load(folder)
    k, dynamics, tokenizer = 4, model.dynamics, model.tokenizer
    assert model.starts.shape[1] == 2 and model.resets is None
    still = model.start_frames[:1, :1].expand(-1, 1 + k, -1, -1, -1)
    assert torch.equal(model.starts[:1], tokenizer.encode(still))
    memory, made = dynamics.step(dynamics.begin(model.starts[:1]), torch.zeros(1, 2 * k, 2))
    assert made.frames.shape == (1, 2 * k, 32, 48, 3)
    again = tokenizer.encode(made.frames[:, -1 - k :])
    assert memory.latents.shape == again.shape and (memory.latents - again).abs().max() < 0.05  # frames are rounded
    assert torch.equal(made.latents, memory.latents[:, -1])


def test_a_dream_begins_after_as_many_given_frames_as_its_latents_stand_for(tmp_path):
    folder = write_published(tmp_path / "model", use=USE | {"given": 2, "actions": "none"})
    env = gym.make(ID, checkpoint=str(folder), reward=brightness, observation="latent")
    frames = np.random.default_rng(0).integers(0, 256, (7, 32, 48, 3)).astype(np.uint8)
    code = env.unwrapped.dreams.model.tokenizer.encode
    for count in (1, 3, 5, 7):
        given = frames[:count][-5:]
        whole = np.concatenate([given[:1]] * (5 - len(given)) + [given])
        seen, _ = env.reset(options={"frames": frames[:count]})
        assert np.array_equal(seen, code(torch.from_numpy(whole)[None])[0].numpy())


def test_layers_spread_over_devices_compute_the_same(tmp_path):
    folder, video = write_published(tmp_path / "model", use=USE), []
    for devices in ({}, {"devices": ["cpu", "cpu"]}):
        (folder / "procosm.json").write_text(json.dumps(USE | devices))
        model = load(folder)
        video.append(model.dynamics.step(model.dynamics.begin(model.starts), torch.ones(1, 8, 2))[1].frames)
    assert torch.equal(*video)


@pytest.mark.parametrize("variant", ["video2world", "predict2.5"])
def test_each_layer_computes_on_its_own_device(variant):
    """The second device is one without memory: no operation takes tensors of it together with those of another."""
    config = CosmosTransformerConfig(**published.TRANSFORMER | published.VARIANTS[variant])
    first, second = torch.device("cpu"), torch.device("meta")
    net = CosmosTransformer(config, action_size=3)
    spread(net, (first, second), home=second)

    def devices(*layers: str) -> set[torch.device]:
        return {p.device for layer in layers for p in net.get_submodule(layer).parameters()}

    assert devices("patch_in", "time_hidden", "time_out", "action", "blocks.0") == {first}
    assert devices("blocks.1", "modulate_out", "patch_out") == {second}
    width = config.crossattn_proj_in_channels if config.use_crossattn_projection else config.text_embed_dim
    made = net(
        torch.zeros(2, 4, 3, 16, 16),
        torch.zeros(2, 3),
        torch.zeros(2, 5, width),
        condition_mask=torch.ones(2, 1, 3, 16, 16),
        action=torch.zeros(2, 3),
    )
    assert made.device == second and made.shape == (2, 4, 3, 16, 16)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_policies_are_trained_on_steps_of_several_frames(tmp_path, algorithm):
    folder = write_published(tmp_path / "model", use=USE)
    small = {"dreams": 2, "horizon": 2, "rollout_steps": 2, "iterations": 2, "width": 8, "epochs": 1, "minibatches": 1}
    config = PolicyConfig(folder, tmp_path / "policy", algorithm=algorithm, device="cpu", **small)
    made = train_policy(config, partial(dreams, reward=brightness))
    learner = load_policy(made / "policy.zip")
    env = gym.make(ID, checkpoint=str(folder), reward=brightness, observation="latent")
    seen, _ = env.reset(seed=0)
    action, _ = learner.predict(seen)
    assert action.shape == (8, 2) and env.action_space.contains(action)
    env.step(action)
