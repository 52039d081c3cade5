"""Shape, loss and conditions of diffusion dynamics, as config.json holds them."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from procosm.world_model.conditioning.frames import ShownConfig
from procosm.world_model.conditioning.injection import Injection
from procosm.world_model.conditioning.rays import CameraConfig
from procosm.world_model.conditioning.text import TextConfig
from procosm.world_model.conditioning.views import ViewsConfig
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.readouts import ReadoutName


@dataclass(frozen=True)
class DynamicsConfig:
    """Shape and loss of diffusion dynamics."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """The denoising network."""
    context: Annotated[int, Field(ge=2, le=64)] = 3
    """Past latents the network sees."""
    sigma_mean: Annotated[float, Field(ge=-20, le=20)] = -0.4
    """Mean of ln σ in training."""
    sigma_std: Annotated[float, Field(gt=0, le=20)] = 1.2
    """Standard deviation of ln σ in training."""
    one_step_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Part of every batch trained as the one-step prediction from zero."""
    slowest: Annotated[float, Field(gt=0, le=1e6)] = 0.05
    """Mean square change of a latent in a step, in units of the residual, below which slower windows weigh no more."""
    state_weight: Annotated[float, Field(ge=0, le=1e6)] = 0.5
    """Weight of the error of the estimated true state, or of features, against the latent's, when unrolled."""
    readouts: tuple[ReadoutName, ...] = ("reward", "termination", "state")
    """What it learns to tell beside latents: the state where one is logged, features where none is."""
    features: Annotated[int, Field(ge=1, le=128)] = 64
    """Numbers of features, where it tells them."""
    action_cost: bool = False
    """Whether what the action alone costs is fitted to the reward beforehand, see OutcomeHead."""
    hidden_actions: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the denoised windows in which the newest action is hidden, so that dreams can be guided away from what
    happens whatever is done (Ho and Salimans 2022); 0: no dream can be guided so."""
    acts: bool = True
    """Whether it is told of actions; without, what is done changes nothing, and a text alone says what will happen."""
    injection: Injection = "timestep"
    """In which form it is told of actions: additions to the timestep embedding, cross-attention of every block, or
    channels of the input."""
    text: TextConfig | None = None
    """What it is told in words; None takes no words."""
    camera: CameraConfig | None = None
    """The camera that actions move, so that each place of a latent is told of its ray; None where they move none."""
    views: ViewsConfig | None = None
    """How the views of a frame are told apart; None sees them as one picture."""
    shown: ShownConfig | None = None
    """How often it learns from fewer frames than ``context``, told which there are; None: what begins with fewer stood
    still before."""
    guidance: Annotated[float, Field(ge=0, le=100)] = 0.0
    """How far dreams that do not say it themselves are guided away from those for no text."""

    @property
    def patch(self) -> int:
        """Latents along each side of what the network sees as one."""
        return self.transformer.patch
