"""``procosm plan`` writes a planner's settings; ``procosm play`` plays them as it plays a policy's zip."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from procosm.agents.policy.plan.planner import PlanConfig, load_planner, save_plan
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.play.command import PlayConfig
from procosm.envs.play.command import play as serve
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.settings import SettingsError


@dataclass(frozen=True)
class PlanFileConfig(PlanConfig):
    """Choose actions by search in the dream."""

    out: Path = Path("plan.json")
    """File to write, NAME.json."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out.suffix != ".json":  # by which it is told from a policy's zip
            raise SettingsError(f"--out {self.out}: a planner's settings are a file NAME.json")
        if self.policy is not None and not self.policy.is_file():
            raise SettingsError(f"--policy {self.policy}: there is no such file; give a policy's zip")


def plan(config: PlanFileConfig) -> Path:
    """Write the settings of a planner.

    Raises:
        ProcosmError: the file cannot be written.
    """
    settings = {field.name: getattr(config, field.name) for field in fields(PlanConfig)}
    return save_plan(PlanConfig(**settings), config.out)


def play(config: PlayConfig) -> None:
    """Serve the page of a dream, steered by a policy or a planner."""
    serve(config, _opened)


def _opened(path: Path, model: WorldModel, trust_pickle: bool) -> Any:
    return load_planner(path, model) if path.suffix == ".json" else load_policy(path, trust_pickle)
