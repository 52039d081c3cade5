"""The kinds of tokenizer and dynamics there are, by name: the one place that names concrete models.

A kind is a config class, a builder, and recipes: the sizes it comes in and the stages of their training. The config of
a module, ``module.config``, tells its kind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from procosm.world_model.autoregressive import recipe as autoregressive
from procosm.world_model.autoregressive.dynamics import AutoregressiveConfig, AutoregressiveDynamics
from procosm.world_model.conditioning.text import TextConfig
from procosm.world_model.conditioning.views import ViewsConfig
from procosm.world_model.data.task import Task
from procosm.world_model.diffusion import recipe as diffusion
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import DiscreteTokenizer, Tokenizer
from procosm.world_model.model import WorldModel
from procosm.world_model.pretrained import recipe as pretrained
from procosm.world_model.pretrained.dynamics import PretrainedDynamics, PretrainedDynamicsConfig
from procosm.world_model.pretrained.folder import is_published, open_published
from procosm.world_model.pretrained.tokenizer import PretrainedTokenizer, PretrainedTokenizerConfig
from procosm.world_model.settings import SettingsError
from procosm.world_model.tokenizer import recipe as causal
from procosm.world_model.tokenizer import training as causal_alone
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.training.recipes import Recipe

Part = Literal["tokenizer", "dynamics"]


@dataclass(frozen=True)
class Kind:
    """One family of models.

    Attributes:
        config: frozen dataclass, its fields what JSON can hold.
        build: an untrained ``torch.nn.Module`` with this ``config``. A tokenizer is built of (config, task) and
            satisfies ``interface.Tokenizer``; dynamics of (config, task, tokenizer), and ``interface.Dynamics``.
        fitted: the config with what follows from the task put in.
        recipes: by the name of a preset.
        conditions: what can be added to what such dynamics are told, by name: a config to the one that takes it, too.
        differentiable: whether such dynamics satisfy ``interface.DifferentiableDynamics``.
        later: fields that checkpoints of earlier versions lack; what their defaults say is what those did.
    """

    config: type
    build: Callable[..., Any]
    fitted: Callable[[Any, Task], Any] = lambda config, task: config
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    conditions: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    differentiable: bool = False
    later: tuple[str, ...] = ()


def _causal(config: TokenizerConfig, task: Task) -> CausalTokenizer:
    if (config.frame_height, config.frame_width) != (task.height, task.width):
        raise ProcosmError(
            f"frames of {task.height} by {task.width} for a tokenizer of {config.frame_height} by {config.frame_width}"
        )
    return CausalTokenizer(config)


@torch.no_grad()
def _diffusion(config: DynamicsConfig, task: Task, tokenizer: Tokenizer) -> DiffusionDynamics:
    dynamics = DiffusionDynamics(config, tokenizer.spec.shape, len(task.action_low), task.state_size)
    _set_bounds(dynamics, task)
    return dynamics


@torch.no_grad()
def _autoregressive(config: AutoregressiveConfig, task: Task, tokenizer: DiscreteTokenizer) -> AutoregressiveDynamics:
    dynamics = AutoregressiveDynamics(config, tokenizer, len(task.action_low), task.state_size)
    _set_bounds(dynamics, task)
    return dynamics


def _set_bounds(dynamics: DiffusionDynamics | AutoregressiveDynamics, task: Task) -> None:
    dynamics.action_low.copy_(torch.tensor(task.action_low))
    dynamics.action_high.copy_(torch.tensor(task.action_high))


def _told(config: Any, task: Task) -> Any:
    """Told is what was logged, success too; features where no state was."""
    told = tuple(name for name in dict.fromkeys((*config.readouts, "success")) if name in task.signals)
    blind = "state" not in told
    return replace(config, readouts=(*told, "features") if blind else told, action_cost=blind and "reward" in told)


def _with_views(config: DynamicsConfig, task: Task) -> DynamicsConfig:
    """As many views as the task has, where they are told apart; rays go by the seconds of its steps.

    Raises:
        ProcosmError: they are of several widths, or one of several is to be moved by actions.
    """
    if config.camera is not None and len(task.views) > 1:
        raise ProcosmError(f"rays are of one camera, and {task.id} has {len(task.views)} views: leave out --rays")
    if config.camera is not None:
        config = replace(config, camera=replace(config.camera, dt_s=task.dt_s))
    if config.views is None:
        return config
    if len(widths := {view.width for view in task.views}) > 1:
        raise ProcosmError(
            f"views of {task.id} are {', '.join(map(str, sorted(widths)))} pixels wide: they can be told apart where "
            "all are of one width; ingest them so, or leave out --views"
        )
    return replace(config, views=replace(config.views, count=len(task.views)))


def _vae(config: PretrainedTokenizerConfig, task: Task) -> PretrainedTokenizer:
    if (config.height, config.width) != (task.height, task.width):
        raise ProcosmError(
            f"frames of {task.height} by {task.width} for a tokenizer of {config.height} by {config.width}"
        )
    return PretrainedTokenizer(config)


def _pretrained(config: PretrainedDynamicsConfig, task: Task, tokenizer: Tokenizer) -> PretrainedDynamics:
    return PretrainedDynamics(config, tokenizer, len(task.action_low))


KINDS: dict[Part, dict[str, Kind]] = {
    "tokenizer": {
        "causal": Kind(
            TokenizerConfig,
            _causal,
            lambda config, task: replace(config, frame_height=task.height, frame_width=task.width),
            recipes=causal.RECIPES,
            later=("levels", "linear_path", "views"),
        ),
        "vae": Kind(
            PretrainedTokenizerConfig, _vae, lambda config, task: replace(config, height=task.height, width=task.width)
        ),
    },
    "dynamics": {
        "diffusion": Kind(
            DynamicsConfig,
            _diffusion,
            lambda config, task: _told(_with_views(config, task), task),
            recipes=diffusion.RECIPES,
            conditions={
                "actions": lambda config: replace(config, acts=True),
                "text": lambda config: replace(config, text=config.text or TextConfig()),
                "views": lambda config: replace(config, views=config.views or ViewsConfig()),
            },
            differentiable=True,
            later=(
                *("readouts", "features", "hidden_actions", "acts", "injection", "text", "camera", "views", "guidance"),
                *("shown", "action_cost"),
            ),
        ),
        "autoregressive": Kind(
            AutoregressiveConfig, _autoregressive, _told, recipes=autoregressive.RECIPES, later=("action_cost",)
        ),
        "pretrained": Kind(
            PretrainedDynamicsConfig,
            _pretrained,
            recipes=pretrained.RECIPES,
            conditions={"actions": lambda config: replace(config, actions="each")},
        ),
    },
}


@dataclass(frozen=True)
class Alone:
    """How one part is trained by itself, for any task.

    Attributes:
        check: refuses, before the work, settings that cannot be followed. train: returns what it made.
        look: raises a ProcosmError where a folder does not hold, whole, what ``train`` makes.
    """

    check: Callable[[Any], None]
    train: Callable[[Any], Path]
    look: Callable[[Path], None]


ALONE: dict[type, Alone] = {
    causal_alone.TokenizerTrainConfig: Alone(
        causal_alone.check_outs, causal_alone.train_tokenizer, causal_alone.check_made
    )
}
"""Trainings of one part by itself, by the class of their settings, whose ``data`` and ``out`` are paths."""

FOLDERS: tuple[tuple[Callable[[Path], bool], Callable[[Path, torch.device], WorldModel]], ...] = (
    (is_published, open_published),
)
"""Folders that others write and that hold a world model: how to tell one, and how to open it."""


def kind(part: Part, name: str) -> Kind:
    """The kind of this name.

    Raises:
        ProcosmError: there is none.
    """
    if name not in KINDS[part]:
        raise ProcosmError(f"no kind of {part} is called {name[:60]!r}: known are {', '.join(KINDS[part])}")
    return KINDS[part][name]


def kind_of(part: Part, config: object) -> str:
    """The name of the kind that a config is of.

    Raises:
        ProcosmError: it is of none.
    """
    for name, known in KINDS[part].items():
        if type(config) is known.config:
            return name
    raise ProcosmError(f"{type(config).__name__} is of no kind of {part}: known are {', '.join(KINDS[part])}")


def with_condition(config: Any, condition: str) -> Any:
    """The config of dynamics with a condition added to what they are told.

    Raises:
        SettingsError: such dynamics do not take it.
    """
    known = KINDS["dynamics"][kind_of("dynamics", config)].conditions
    if condition not in known:
        raise SettingsError(f"no {condition} can be added to such dynamics: they take {', '.join(known) or 'no more'}")
    return known[condition](config)


def build(task: Task, tokenizer: object, dynamics: object) -> tuple[Any, Any]:
    """Untrained modules of two configs; draw of the weights from torch's global generator.

    Raises:
        ProcosmError: configs of no kind, or that do not fit the task or each other.
    """
    tokens = KINDS["tokenizer"][kind_of("tokenizer", tokenizer)].build(tokenizer, task)
    return tokens, KINDS["dynamics"][kind_of("dynamics", dynamics)].build(dynamics, task, tokens)


def untrained(task: Task, tokenizer: object, dynamics: object) -> tuple[Any, Any]:
    """The same, each config first fitted to the task."""
    fitted = KINDS["tokenizer"][kind_of("tokenizer", tokenizer)].fitted(tokenizer, task)
    return build(task, fitted, KINDS["dynamics"][kind_of("dynamics", dynamics)].fitted(dynamics, task))
