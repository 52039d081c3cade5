"""What a checkpoint refuses to be opened as: damaged, foreign, out of range; and that older ones still open."""

import hashlib
import json
import shutil
import threading

import pytest
import safetensors.torch
import torch

from procosm.envs.dreams.weights import SHIPPED
from procosm.world_model.checkpoint import add_trust, load
from procosm.world_model.errors import CheckpointError

ABSENT = object()


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "world_model")


def sealed(checkpoint, name, tensors):
    """Write a weight file, and its checksum into config.json: somebody meant it."""
    content, path = safetensors.torch.save(tensors), checkpoint / "config.json"
    (checkpoint / name).write_bytes(content)
    config = json.loads(path.read_text())
    config["sha256"][name] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(config))


def test_what_is_saved_is_what_is_loaded(checkpoint):
    model = load(checkpoint)
    for name, module in (("tokenizer", model.tokenizer), ("dynamics", model.dynamics)):
        stored = safetensors.torch.load_file(checkpoint / f"{name}.safetensors")
        assert all(torch.equal(tensor, stored[key]) for key, tensor in module.state_dict().items())
    assert model.task.action_low == (-3.0,) and model.reward_range == (-1.0, 1.0)


@pytest.mark.parametrize("name", ["tokenizer", "dynamics", "starts"])
def test_a_flipped_bit_is_named(checkpoint, name):
    path = checkpoint / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}\.safetensors is damaged .*checksum.*restore it"):
        load(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "tokenizer.safetensors", "starts.safetensors"])
def test_a_missing_file_is_named(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load(checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize(
    ("file", "tensor"),
    [
        ("tokenizer", "std"),
        ("tokenizer", "encoder.0.space.conv.weight"),
        ("dynamics", "state_head.net.0.weight"),
        ("dynamics", "manifold.axes"),
        ("dynamics", "net.patch_in.weight"),
        ("starts", "latents"),
        ("starts", "states"),
    ],
)
def test_weights_that_are_no_numbers_are_named(checkpoint, file, tensor, value):
    tensors = safetensors.torch.load_file(checkpoint / f"{file}.safetensors")
    tensor = tensor if tensor in tensors else next(name for name in tensors if name.startswith("encoder.0"))
    spoilt = tensors[tensor].double()
    spoilt.view(-1)[0] = value
    sealed(checkpoint, f"{file}.safetensors", tensors | {tensor: spoilt})
    with pytest.raises(CheckpointError, match=rf"{file}\.safetensors: {tensor} holds 1 of \d+ values that are no"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("stranger",), 1),
        (("dynamics", "transformer", "width"), "32"),
        (("dynamics", "transformer", "layers"), 10**9),
        (("dynamics", "context"), ABSENT),
        (("dynamics", "sigma_std"), float("nan")),
        (("tokenizer", "latent_channels"), 10**9),
        (("task", "action_low"), [3.0]),
        (("task", "twin", "state_size"), 2**40),
        (("task", "signals", "state", "shape"), [2**40]),
        (("task", "views"), []),
        (("task", "twin"), ABSENT),
        (("task", "max_episode_steps"), True),
        (("task", "twin", "cameras", "main", "azimuth"), float("inf")),
        (("task", "twin", "cameras", "main", "distance"), "x"),
        (("task", "twin", "cameras", "main", "elevation"), 1e308),
        (("task", "twin", "cameras", "main", "lookat"), [1.0]),
        (("task", "twin", "cameras", "main", "body"), 0),
        (("reward_range",), [2.0, 1.0]),
        (("sparse", "dynamics", "net.nothing"), 16),
        (("sha256", "tokenizer.safetensors"), ABSENT),
    ],
)
def test_a_wrong_value_of_the_configuration_is_named(checkpoint, place, value):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    if value is ABSENT:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"(?s)config\.json.*{place[-1].split('.')[0].split('_')[0]}"):
        load(checkpoint)


def test_checkpoints_from_before_checksums_open(checkpoint):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    del config["sha256"], config["sparse"]
    path.write_text(json.dumps(config))
    load(checkpoint)


def test_trust_is_checked_like_the_rest_once_it_is_added(checkpoint):
    trust = add_trust(checkpoint, {"mean": torch.zeros(4)})
    assert load(checkpoint).trust["mean"].tolist() == [0.0] * 4
    trust.write_bytes(trust.read_bytes()[:-1] + b"\1")
    with pytest.raises(CheckpointError, match=r"trust\.safetensors is damaged"):
        load(checkpoint)
    trust.unlink()
    with pytest.raises(CheckpointError, match=r"trust\.safetensors is missing"):
        load(checkpoint)


@pytest.mark.parametrize("folder", sorted(SHIPPED.iterdir()), ids=lambda folder: folder.name)
def test_what_ships_has_checksums_and_they_are_right(folder):
    sums = json.loads((folder / "config.json").read_text())["sha256"]
    assert sums == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}
    load(folder)


def test_models_open_while_other_threads_build_modules(tiny_checkpoint):
    """Parameters that another thread makes meanwhile are whole, and neither disturbs the other."""
    stop, built = threading.Event(), []

    def build() -> None:
        while not stop.is_set():
            built.append(torch.nn.Linear(3, 3).weight.device.type)

    builders = [threading.Thread(target=build) for _ in range(2)]
    for builder in builders:
        builder.start()
    try:
        for _ in range(5):
            assert all(p.device.type == "cpu" for p in load(tiny_checkpoint).dynamics.parameters())
    finally:
        stop.set()
        for builder in builders:
            builder.join()
    assert set(built) == {"cpu"}
