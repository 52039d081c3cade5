"""What a killed command goes on from: parts of a collection, saves of training, records of stages, policies."""

import io
import json
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from procosm.agents.judge.rollouts import NUMBERS, Player, play_truth
from procosm.agents.stages import record_path, run_once
from procosm.envs.collect.collect import CollectConfig, _claim, _same_job
from procosm.envs.collect.policies import Share
from procosm.envs.collect.policy_file import load_policy, save_learner
from procosm.envs.collect.segments import Job, Part, is_collected, read_part, write_part
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.files import write_tensors
from procosm.world_model.training import stage
from procosm.world_model.training.saves import Save
from tests.fuzz.mutations import Case, cuts, drawn, flips, json_texts, safetensors_files
from tests.fuzz.surfaces.checkpoint import TASK, holding

LENGTHS, SEEDS = (4, 6), [5, 6, 7]
PART = Part("train", 0, sum(LENGTHS), (0,))
JOB = Job(TASK, (Share("noise", 1.0),), 0, 40, 0.75, (PART,), {"a.zip": "0" * 64}, {"numpy": "2"})


def episodes() -> list[tuple[Episode, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (Episode(
            rng.integers(0, 255, (n + 1, 64, 64, 3), np.uint8), rng.uniform(-3, 3, (n, 1)).astype(np.float32),
            False, "train", signals={"state": rng.normal(size=(n + 1, 4)).astype(np.float32),
                                     "reward": rng.normal(size=n).astype(np.float32)},
        ), rng.normal(size=(n + 1, 5)))
        for n in LENGTHS
    ]  # fmt: skip


def part_read(folder: Path, path: Path, content: bytes) -> None:
    with holding(path, content):
        if is_collected(folder, JOB, PART):
            list(read_part(folder, JOB, PART))


def zipped(arrays: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    memory = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(memory, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return memory.getvalue()


def npy(array: np.ndarray) -> bytes:
    memory = io.BytesIO()
    np.lib.format.write_array(memory, array, allow_pickle=True)
    return memory.getvalue()


def headed(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def parts(content: bytes) -> dict[str, tuple[bytes, bool]]:
    """Name, file, and whether it is wrong."""
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    whole = {name: npy(array) for name, array in arrays.items()}
    found: dict[str, tuple[bytes, bool]] = {"compressed": (zipped(whole, zipfile.ZIP_DEFLATED), True)}
    for name in (each for each in arrays if each != "job"):
        array = arrays[name]
        others = [array[:-1], np.concatenate([array, array]), array[None], array.astype("c16"), array.astype("S4"),
                  array.astype(object), np.zeros(()), np.zeros(0), array.astype(np.float16)]  # fmt: skip
        for number, other in enumerate(others):
            found[f"{name}: {number}"] = zipped({**whole, name: npy(other)}), True
        if array.dtype.kind == "f":
            for value in (np.nan, np.inf):
                other = array.copy()
                other.flat[-1] = value
                found[f"{name} = {value}"] = zipped({**whole, name: npy(other)}), True
        for shape in (f"({10**9}, {10**3})", f"({2**62}, 4)", "(-1,)", "'x'", "(1.5,)", f"({10**400},)"):
            for descr in (repr(array.dtype.str), "'|O'", "'x'", "[('a', 'f8')]"):
                found[f"{name}: {descr} {shape[:40]}"] = zipped({**whole, name: headed(descr, shape)}), True
        found[f"{name} missing"] = zipped({key: value for key, value in whole.items() if key != name}), True
        found[f"{name} empty"] = zipped({**whole, name: b""}), True
    for values in ((4, 7), (10,), (0, 10), (-1, 11), (2**62, 2**62), (5, 5, 0)):
        found[f"lengths {values}"] = zipped({**whole, "lengths": npy(np.array(values))}), True
    bomb = zipped({**whole, "frames": bytes(2**26)}, zipfile.ZIP_DEFLATED)
    return found | {"bomb": (bomb, True), "one more": (zipped({**whole, "other": whole["wide"]}), True)}


def trained(path: Path, content: bytes) -> None:
    with holding(path, content):
        net = torch.nn.Linear(3, 2)
        config = stage.StageConfig(steps=8, batch=1, learning_rate=0.01)
        stage.run_stage("x", net, lambda _: (_loss(net), {"loss": _loss(net).detach()}), config, path)
        assert all(p.isfinite().all() for p in net.parameters())


def _loss(net: torch.nn.Module) -> torch.Tensor:
    return net(torch.ones(1, 3)).square().mean()


def save_of_training(path: Path) -> bytes:
    net = torch.nn.Linear(3, 2)
    config = stage.StageConfig(steps=8, batch=1, learning_rate=0.01)
    optimizer = stage.Optimizer(net, config)
    _loss(net).backward()
    optimizer.step(0.01)
    Save(path, config.steps).write(net, optimizer, 7, {}, None, in_shards=False)
    trained(path, path.read_bytes())
    return path.read_bytes()


def saves(content: bytes) -> dict[str, tuple[bytes, bool]]:
    tensors = safetensors.torch.load(content)
    found = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            for value in (float("nan"), float("inf")):
                other = tensor.clone()
                other.view(-1)[-1] = value
                found[f"{name} = {value}"] = safetensors.torch.save({**tensors, name: other}), True
        changes = [tensor[None].repeat(2, *[1] * tensor.dim()), torch.zeros(0), tensor.to(torch.complex64)]
        for number, other in enumerate(changes):
            found[f"{name}: {number}"] = safetensors.torch.save({**tensors, name: other}), True
        found[f"{name} missing"] = (
            safetensors.torch.save({k: v for k, v in tensors.items() if k != name}),
            not name.startswith("adam.step"),
        )
    for step in (-1, 9, 10**12, 2**62):
        found[f"step {step}"] = safetensors.torch.save({**tensors, "step": torch.tensor(step)}), True
    return found


def staged(folder: Path, content: bytes) -> None:
    with holding(record_path(folder), content):
        run_once(folder, CollectConfig("InvertedPendulum", folder), lambda _: folder)


def policy(path: Path, content: bytes) -> None:
    with holding(path, content):
        load_policy(path).predict(np.zeros(4, np.float32))


def policies(path: Path) -> list[tuple[str, bytes, bool]]:
    import gymnasium as gym

    env = gym.make("CartPole-v1").unwrapped
    env.observation_space = spaces.Box(-9.0, 9.0, (4,), np.float32)
    env.action_space = spaces.Box(-3.0, 3.0, (1,), np.float32)
    learner = PPO("MlpPolicy", DummyVecEnv([lambda: env]), policy_kwargs={"net_arch": [4, 4]}, device="cpu", n_steps=8, batch_size=8)  # fmt: skip  # noqa: E501
    save_learner(learner, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def packed(name: str, text: bytes) -> bytes:
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w") as archive:
            for key, value in (members | {name: text}).items():
                archive.writestr(key, value)
        return memory.getvalue()

    def bad(place, kind):
        return kind in ("type", "missing", "unknown") and place[0] not in ("net_arch", "features")

    made = [(name, packed("policy.json", text), wrong and not same(members["policy.json"], text))
            for name, text, wrong in json_texts(json.loads(members["policy.json"]), bad)]  # fmt: skip
    tensors = safetensors_files(members["tensors.safetensors"])
    found = drawn([Case(name, partial(policy, path, text), wrong) for name, text, wrong in made], 110, 21)
    found += drawn([Case(name, partial(policy, path, packed("tensors.safetensors", text)), False)
                    for name, text, _ in tensors], 60, 22)  # fmt: skip
    return found + [Case(name, partial(policy, path, text), False)
                    for name, text in (*flips(content, 15, 23), *cuts(content))]  # fmt: skip


def same(text: bytes, other: bytes) -> bool:
    try:
        return json.loads(text) == json.loads(other)
    except (ValueError, RecursionError):
        return False


def claimed(folder: Path, content: bytes) -> None:
    with holding(folder / "job.json", content):
        _claim(folder, JOB)
        write_part(folder, JOB, PART, episodes())


def written(folder: Path, content: bytes) -> None:
    with holding(folder / "job.json", content):
        write_part(folder, JOB, PART, episodes())


def asked_again(data: Path, content: bytes) -> None:
    with holding(data / "provenance.json", content):
        _same_job(data, JOB)


def played(path: Path, content: bytes) -> None:
    with holding(path, content):
        play_truth(Player(path, "zero"), SEEDS, 1, path.parent)


def plays() -> dict[str, bytes]:
    good = {"seed": torch.tensor(SEEDS), "total": torch.ones(3, dtype=torch.float64), "steps": torch.ones(3, dtype=int)}
    good |= {"terminated": torch.ones(3, dtype=torch.bool), "success": torch.ones(3, dtype=torch.int8)}
    assert set(good) == set(NUMBERS)
    found = {"whole": good}
    for name, tensor in good.items():
        for number, other in enumerate((tensor[:2], tensor[None], tensor.to(torch.float16), tensor[:1])):
            found[f"{name}: {number}"] = {**good, name: other}
        found[f"{name} missing"] = {key: value for key, value in good.items() if key != name}
    found["total = nan"] = {**good, "total": good["total"] * float("nan")}
    found["frames"] = {**good, "first_frame": torch.zeros(2, 8, 8, 3)}
    for number, asked in enumerate((torch.zeros(2, 4), torch.zeros(3, 4), torch.zeros(3).byte())):
        found[f"instruction: {number}"] = {**good, "instruction": asked}
    return {name: safetensors.torch.save({k: v.contiguous() for k, v in of.items()}) for name, of in found.items()}


def cases(folder: Path) -> list[Case]:
    parts_folder = folder / "data.parts"
    parts_folder.mkdir(parents=True, exist_ok=True)
    (parts_folder / "job.json").write_text(JOB.to_json())
    write_part(parts_folder, JOB, PART, episodes())
    path = parts_folder / f"{PART.name}.npz"
    content = path.read_bytes()
    part_read(parts_folder, path, content)
    made = [Case(f"part: {name}", partial(part_read, parts_folder, path, spoilt), wrong)
            for name, (spoilt, wrong) in parts(content).items()]  # fmt: skip
    made += [Case(f"part: {name}", partial(part_read, parts_folder, path, spoilt), False)
             for name, spoilt in (*flips(content, 40, 24), *cuts(content))]  # fmt: skip
    job = json.loads(JOB.to_json())
    texts = [(name, text, wrong) for name, text, wrong in json_texts(job, lambda place, kind: True)]
    for act in (claimed, written):
        made += drawn([Case(f"{act.__name__}: {name}", partial(act, parts_folder, text), wrong and not same(JOB.to_json().encode(), text))  # noqa: E501
                       for name, text, wrong in texts], 60, 26)  # fmt: skip
    data = folder / "data"
    write_dataset(data, TASK, episodes(), {"job": job}, "{}")
    origin = json.loads((data / "provenance.json").read_text())
    made += drawn([Case(f"asked again: {name}", partial(asked_again, data, text), wrong and not same(json.dumps(origin).encode(), text))  # noqa: E501
                   for name, text, wrong in json_texts(origin, lambda place, kind: kind != "unknown" and place[:1] == ("job",) and len(place) > 1)], 60, 27)  # fmt: skip  # noqa: E501
    save = folder / "x.training" / "x.safetensors"
    save.parent.mkdir(exist_ok=True)
    content = save_of_training(save)
    made += [
        Case(f"save: {name}", partial(trained, save, spoilt), wrong) for name, (spoilt, wrong) in saves(content).items()
    ]
    made += [Case(f"save: {name}", partial(trained, save, text), False)
             for name, text, _ in drawn_files(content)]  # fmt: skip
    record = {"config": {"seed": 0}, "inputs": {"a": "b"}, "finished": True, "seconds": 1.5, "sessions": 1}
    done = folder / "done"
    done.mkdir(exist_ok=True)
    (done / "x").write_text("")
    record_path(done).parent.mkdir(exist_ok=True)
    record_path(done).write_text(json.dumps(record))

    def bad(place, kind):
        return (kind in ("type", "missing", "vast") and place[0] != "config") or (kind == "type" and len(place) == 1)

    made += [
        Case(f"record: {name}", partial(staged, done, text), wrong) for name, text, wrong in json_texts(record, bad)
    ]
    made += policies(folder / "policy.zip")
    play = folder / "played" / f"zero-{SEEDS[0]}-{len(SEEDS)}.safetensors"
    write_tensors(play, {})
    made += [
        Case(f"played: {name}", partial(played, play, text), name not in ("whole", "success missing"))
        for name, text in plays().items()
    ]
    return made


def drawn_files(content: bytes) -> list[tuple[str, bytes, bool]]:
    found = list(safetensors_files(content))
    return [found[i] for i in np.random.default_rng(28).permutation(len(found))[:60]]
