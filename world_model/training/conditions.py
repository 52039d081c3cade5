"""What the dynamics that `procosm train` makes are told beside frames and actions."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from procosm.world_model import registry
from procosm.world_model.conditioning.frames import ShownConfig
from procosm.world_model.conditioning.rays import CameraConfig
from procosm.world_model.data.task import Task
from procosm.world_model.settings import SettingsError

if TYPE_CHECKING:
    from procosm.world_model.training.train import TrainConfig


def with_conditions(config: "TrainConfig", dynamics: Any, task: Task) -> Any:
    """The dynamics' config with the conditions that are asked for.

    Raises:
        SettingsError: such dynamics do not take them.
    """
    if config.text:
        dynamics = registry.with_condition(dynamics, "text")
    if config.views:
        if len(task.views) == 1:
            raise SettingsError(f"--views: {task.id} has one view, and nothing is to be told apart; leave it out")
        dynamics = registry.with_condition(dynamics, "views")
    if config.rays is not None:
        if not hasattr(dynamics, "camera"):
            raise SettingsError("--rays: such dynamics take no camera; take --family diffusion")
        dynamics = replace(dynamics, camera=CameraConfig(config.rays, task.dt_s))
    if config.fewer or config.images:
        if not hasattr(dynamics, "shown"):
            raise SettingsError("--fewer and --images: such dynamics see all frames; take --family diffusion")
        dynamics = replace(dynamics, shown=ShownConfig(config.fewer, config.images))
    if not config.acts:
        if not config.text and config.rays is None:
            raise SettingsError("--no-acts without --text or --rays: nothing would say what will happen")
        dynamics = replace(dynamics, acts=False)
    return dynamics
