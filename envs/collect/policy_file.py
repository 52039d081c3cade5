"""Policies on disk without pickle: a zip of ``policy.json`` (algorithm, architecture) and ``tensors.safetensors``.

The tensors are the spaces' bounds, the policy's weights and, for a training to go on from, its optimizers' state.
Opening such a file runs nothing of what is in it. A zip that Stable-Baselines3 saved holds pickles, which run whatever
code their maker chose: it is opened only where the user says that they trust it.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import safetensors
import safetensors.torch
import torch
from gymnasium import spaces
from torch import Tensor

from procosm.world_model.errors import TaskError
from procosm.world_model.files import under, write_bytes

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.policies import BasePolicy

FORMAT = 1
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
CRITICS = ("critic.", "critic_target.", "value_net.", "mlp_extractor.value_net.")
"""How the names of weights begin that a policy learns with and does not act with."""
MOST_LAYERS, WIDEST, MOST_COUNTED = 16, 2**16, 10**15


@dataclass(frozen=True)
class Stored:
    """What a file holds.

    Attributes:
        algorithm: PPO, SAC, TD3, A2C or SHAC. policy: its name for the kind of network, such as MlpPolicy.
        net_arch: widths of hidden layers, as SB3 takes them; None for its default.
        features: name of the features extractor in ``procosm.envs.dreams.features``, None for SB3's own.
        counters: of the training. tensors: by name.
    """

    algorithm: str
    policy: str
    net_arch: Any
    features: str | None
    counters: Mapping[str, int]
    tensors: Mapping[str, Tensor]


def save_learner(learner: "BaseAlgorithm", path: Path) -> None:
    """Write an SB3 learner with its optimizers, whole or not at all.

    Raises:
        ProcosmError: the disk does not take it; what stood at ``path`` is untouched.
        TaskError: a learner with settings that this format has no place for.
    """
    kwargs = {key: value for key, value in learner.policy_kwargs.items() if not key.startswith("optimizer_")}
    extractor = kwargs.pop("features_extractor_class", None)
    names = [name for name, kind in learner.policy_aliases.items() if kind is learner.policy_class]
    left = set(kwargs) - {"net_arch", "features_extractor_kwargs", "use_sde"}
    if left or kwargs.get("use_sde") or not names or (extractor and extractor not in _extractors().values()):
        raise TaskError(
            f"{path}: a policy with {', '.join(sorted(left)) or 'such a network'} has no form without pickle"
        )
    settings = {
        "format": FORMAT,
        "algorithm": type(learner).__name__,
        "policy": names[0],
        "net_arch": kwargs.get("net_arch"),
        "features": extractor.__name__ if extractor else None,
        "counters": {name: int(getattr(learner, name)) for name in COUNTERS},
    }
    _write(path, settings, _tensors(learner))


def _write(path: Path, settings: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, content in (
            ("policy.json", json.dumps(settings, indent=1).encode()),
            ("tensors.safetensors", safetensors.torch.save(tensors)),
        ):
            archive.writestr(zipfile.ZipInfo(name), content)  # without the date: the same policy, the same bytes
    write_bytes(path, memory.getvalue())


def save_acting(trained: Path, path: Path) -> None:
    """Write what a policy of ours acts with, matrices in half precision: a tenth of its size, and no training goes on.

    Raises:
        TaskError: there is no policy of ours at ``trained``.
        ProcosmError: the disk does not take it.
    """
    stored = read_stored(trained)
    settings = {"format": FORMAT} | {field.name: getattr(stored, field.name) for field in fields(stored)}
    del settings["tensors"]
    acting = {f"weights.{name}": tensor for name, tensor in under("weights.", stored.tensors).items()
              if not name.startswith(CRITICS)}  # fmt: skip
    bounds = {name: tensor for name, tensor in stored.tensors.items() if name.startswith(("observation.", "action."))}
    small = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in acting.items()}
    _write(path, settings, bounds | small)


def _tensors(learner: "BaseAlgorithm") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, space in (("observation", learner.observation_space), ("action", learner.action_space)):
        if not isinstance(space, spaces.Box):
            raise TaskError(f"a policy with the {name} space {space} has no form without pickle")
        found |= {f"{name}.low": torch.from_numpy(space.low), f"{name}.high": torch.from_numpy(space.high)}
    for name, state in learner.get_parameters().items():
        if name == "policy":
            found |= {f"weights.{key}": value for key, value in state.items()}
        else:
            for index, values in state["state"].items():
                found |= {f"{name}/{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
    for name in learner._get_torch_save_params()[1]:
        variable = getattr(learner, name)
        if variable is not None:
            found[f"variable.{name}"] = variable.detach()
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in found.items()}


def restore_learner(learner: "BaseAlgorithm", path: Path) -> None:
    """Give a fresh learner of the same settings the weights, optimizers and counters that ``save_learner`` wrote.

    Raises:
        TaskError: the file is missing, damaged, of another learner, or a pickle of an earlier version.
    """
    if is_pickle(path):  # no command goes on from one, trusted or not
        raise TaskError(
            f"{path} holds pickles, as an earlier version and Stable-Baselines3 save a training, and opening them runs "
            f"whatever code is in them: delete {path} to begin this training again"
        )
    stored = read_stored(path)
    try:
        parameters = learner.get_parameters()
        for name, state in parameters.items():
            if name == "policy":
                parameters[name] = under("weights.", stored.tensors)
            else:
                state["state"] = _by_index(under(f"{name}/", stored.tensors))
        learner.set_parameters(cast(Any, parameters))
        for name, value in under("variable.", stored.tensors).items():
            getattr(learner, name).data.copy_(value)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"{path} was begun with other settings, or is damaged ({error}): delete {path.parent}"
        ) from error
    for name in COUNTERS:
        setattr(learner, name, stored.counters[name])


def _by_index(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        found.setdefault(int(index), {})[key] = tensor
    return found


def load_policy(path: Path | str, trust_pickle: bool = False) -> "BasePolicy":
    """A saved policy, ready to act, on the CPU.

    Args:
        path: a zip of ours, or one that SB3 saved.
        trust_pickle: open SB3's too, whose pickles run whatever code they hold.

    Raises:
        TaskError: no policy, a damaged one, or one of SB3's that is not trusted.
    """
    path = Path(path)
    if trust_pickle and is_pickle(path):
        return algorithm_of(path).load(path, device="cpu").policy
    stored = read_stored(path)
    try:
        kind = _networks()[stored.algorithm][stored.policy]
        observed, acted = (
            spaces.Box(stored.tensors[f"{name}.low"].numpy(), stored.tensors[f"{name}.high"].numpy(), dtype=dtype)
            for name, dtype in (
                (name, stored.tensors[f"{name}.low"].numpy().dtype.type) for name in ("observation", "action")
            )
        )
        with torch.random.fork_rng(devices=[]):
            policy = kind(observed, acted, lambda _: 0.0, **_architecture(stored, observed))
        weights, own = under("weights.", stored.tensors), policy.state_dict()
        if not any(name.startswith(CRITICS) for name in weights):  # kept only what acts: no value can be asked for
            weights |= {name: torch.full_like(own[name], torch.nan) for name in own if name.startswith(CRITICS)}
        policy.load_state_dict(weights)
    except (AssertionError, AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise TaskError(f"{path} is damaged ({error}): restore it from a copy, or train the policy again") from error
    policy.set_training_mode(False)
    return policy


def read_stored(path: Path) -> Stored:
    """What a file of ours holds; nothing in it is run, and no more memory is asked for than the file is long.

    Raises:
        TaskError: no file, a damaged one, or one of SB3's.
    """
    if not path.is_file():
        raise TaskError(f"there is no policy at {path}: give the policy.zip that `procosm train-policy` wrote")
    if is_pickle(path):
        raise TaskError(
            f"{path} holds pickles, as Stable-Baselines3 saves policies, and opening them runs whatever code is in "
            "them: add --trust-pickle (trust_pickle=True) if you trust whoever made it, or train it again"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.getinfo(name) for name in ("policy.json", "tensors.safetensors")}
            if any(
                m.compress_type != zipfile.ZIP_STORED or m.file_size > path.stat().st_size for m in members.values()
            ):
                raise ValueError("it is compressed, which ours are not")
            settings = json.loads(archive.read("policy.json"))
            tensors = safetensors.torch.load(archive.read("tensors.safetensors"))
        if settings.pop("format") != FORMAT:
            raise ValueError("another format: it needs another version of procosm")
        stored = Stored(**settings, tensors=tensors)
        _check(stored)
    except (
        zipfile.BadZipFile, safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError, OSError,
        NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        raise TaskError(
            f"{path} is no policy that can be read ({error}): restore it from a copy, or train the policy again"
        ) from error
    return stored


def _check(stored: Stored) -> None:
    """Refuse values that no policy has, by name."""
    if stored.policy not in _networks().get(stored.algorithm, ()):
        raise ValueError(f"no algorithm {stored.algorithm!r} with a {stored.policy!r}")
    if stored.features is not None and stored.features not in _extractors():
        raise ValueError(f"no features extractor {stored.features!r}")
    parts = list(stored.net_arch.values()) if isinstance(stored.net_arch, dict) else [stored.net_arch or []]
    elements = sum(tensor.numel() for tensor in stored.tensors.values())
    for widths in parts:
        right = isinstance(widths, list) and all(type(width) is int and 0 < width <= WIDEST for width in widths)
        if not right or len(widths) > MOST_LAYERS or sum(map(_product, widths, widths[1:])) > elements:
            raise ValueError("net_arch does not describe the layers that are stored")
    if set(stored.counters) != set(COUNTERS) or not all(
        type(n) is int and 0 <= n <= MOST_COUNTED for n in stored.counters.values()
    ):
        raise ValueError("the counters of its training are no counts")
    for name, tensor in stored.tensors.items():
        if (
            tensor.is_floating_point()
            and not name.startswith(("observation.", "action."))
            and not tensor.isfinite().all()
        ):
            raise ValueError(f"{name} is not finite")


def _product(first: int, second: int) -> int:
    return first * second


def _architecture(stored: Stored, observed: spaces.Box) -> dict[str, Any]:
    """Keywords of the policy's class; what an extractor knows besides its shape is among the tensors."""
    kwargs: dict[str, Any] = {} if stored.net_arch is None else {"net_arch": stored.net_arch}
    if stored.features is not None:
        kwargs["features_extractor_class"] = _extractors()[stored.features]
        if stored.features == "StandardisedState":
            size = spaces.flatdim(observed)
            kwargs["features_extractor_kwargs"] = {"mean": [0.0] * size, "scale": [1.0] * size}
    return kwargs


def is_pickle(path: Path) -> bool:
    """Whether SB3 saved this zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "policy.json" not in archive.namelist() and "data" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def algorithm_of(path: Path) -> "type[BaseAlgorithm]":
    """The SB3 class that saved a zip, told by the settings that only it has."""
    try:
        with zipfile.ZipFile(path) as archive:
            settings = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise TaskError(
            f"{path} is no policy saved by SB3 ({error}): give the zip that model.save(PATH) wrote"
        ) from error
    marks = {"clip_range": "PPO", "target_entropy": "SAC", "policy_delay": "TD3", "gae_lambda": "A2C"}
    found = next((kind for mark, kind in marks.items() if mark in settings), None)
    if found is None:
        raise TaskError(f"{path} was saved by an algorithm other than PPO, SAC, TD3 or A2C")
    return _algorithms()[found]


def _algorithms() -> "dict[str, type[BaseAlgorithm]]":
    import stable_baselines3 as sb3

    return {"PPO": sb3.PPO, "SAC": sb3.SAC, "TD3": sb3.TD3, "A2C": sb3.A2C}


def _networks() -> dict[str, Mapping[str, Any]]:
    """The kinds of network of each algorithm, by SB3's names for them."""
    from procosm.envs.collect.squashed import SquashedActorCritic

    own: dict[str, Mapping[str, Any]] = {name: kind.policy_aliases for name, kind in _algorithms().items()}
    return own | {"SHAC": {"MlpPolicy": SquashedActorCritic}}


def _extractors() -> dict[str, Any]:
    from procosm.envs.dreams.features import LatentMotion, StandardisedState

    return {kind.__name__: kind for kind in (LatentMotion, StandardisedState)}
