"""Trust: how probable it is that MuJoCo, under the same actions from the same start, is now where the dream says it is.

Beside each dream run a few forecasts of the true state alone: small networks fitted to the logged states, as in
probabilistic ensembles (Chua et al. 2018, arXiv 1805.12114), each begun with another plausible error of the state read
from the first frames. They never see the dream. Where it parts from them, or they from each other because the task
magnifies small differences, the dream is out of its depth; ``procosm.envs.trust.calibrate`` says how probably.

Axis letters: k forecast, n dream, s true state, a action.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.envs.trust.coverage import Coverage
from procosm.world_model.errors import CheckpointError

LIMIT = 20.0
"""Forecasts stay within this many deviations of the data's mean: one that runs away would soon be infinite."""
NEAREST = 1e-4
"""Distances below this, in deviations, count as this, so that they have a logarithm."""


class Forecasts(nn.Module):
    """Networks that step the true state, and what turns their distance from a dream into a probability.

    All of it is tensors, so that a checkpoint holds it as ``trust.safetensors``.

    Attributes:
        mean, std: (s,), units of the state. change: (s,), deviation of one step's change in these units.
        low, high: (a,), bounds of the actions.
        start_errors: (k, s), standardised errors of a state read from real frames; their mean is zero.
        calibration: (3,), slope, offset and deviation of ln(error) given ln(distance).
        bound: (), the error that trust is about, root mean square over the state in deviations of the data.
    """

    mean: Tensor
    std: Tensor
    change: Tensor
    low: Tensor
    high: Tensor
    start_errors: Tensor
    calibration: Tensor
    bound: Tensor

    def __init__(self, members: int, state_size: int, action_size: int, hidden: int) -> None:
        super().__init__()
        sizes = [(state_size + action_size, hidden), (hidden, hidden), (hidden, state_size)]
        self.weights = nn.ParameterList(torch.randn(members, i, o) / math.sqrt(i) for i, o in sizes)
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for _, o in sizes)
        for name, shape in {
            "mean": (state_size,),
            "std": (state_size,),
            "change": (state_size,),
            "low": (action_size,),
            "high": (action_size,),
            "start_errors": (members, state_size),
            "calibration": (3,),
            "bound": (),
        }.items():
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Forecasts":
        """The forecasts that ``state_dict`` gave.

        Raises:
            CheckpointError: tensors are missing, or do not fit each other.
        """
        try:
            members, inputs, hidden = tensors["weights.0"].shape
            state_size = tensors["weights.2"].shape[-1]
            with torch.device("meta"):  # draws nothing, and takes the dtype of the tensors
                found = cls(members, state_size, inputs - state_size, hidden)
            own = found.state_dict()
            wrong = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
            if wrong:  # load_state_dict would take one number for a list of one
                raise ValueError(f"{wrong[0]} is {tuple(tensors[wrong[0]].shape)}")
            found.load_state_dict(tensors, assign=True)
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"trust.safetensors of the checkpoint is damaged or of another version ({error}): make it again with "
                "`python -m procosm.envs.trust.calibrate`, or delete it"
            ) from error
        return found.requires_grad_(False).to(tensors["mean"].device)

    def standardise(self, states: Tensor) -> Tensor:
        """States in the task's units to deviations of the data."""
        return (states - self.mean) / self.std

    def changes(self, states: Tensor, actions: Tensor) -> Tensor:
        """(k, n, s), what (n, a) actions, or (k, n, a), change in (k, n, s) standardised states; over ``change``."""
        unit = 2 * (actions - self.low) / (self.high - self.low) - 1
        x = torch.cat([states, unit.expand(len(states), -1, -1)], dim=-1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = F.silu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(self.biases[-1], x, self.weights[-1])

    def step(self, states: Tensor, actions: Tensor) -> Tensor:
        """(k, n, s) standardised states one step later."""
        return (states + self.changes(states, actions) * self.change).clamp(-LIMIT, LIMIT)

    def begin(self, states: Tensor) -> Tensor:
        """(k, n, s), where the forecasts begin beside (n, s) first states of dreams."""
        return self.standardise(states) + self.start_errors[:, None]

    def distance(self, forecasts: Tensor, states: Tensor) -> Tensor:
        """(n,), root mean square distance of (n, s) states from (k, n, s) forecasts, in deviations."""
        apart = (forecasts - self.standardise(states)).square().mean(dim=(0, 2)).sqrt()
        return apart.nan_to_num(nan=LIMIT).clamp(NEAREST, LIMIT)

    def trust(self, distance: Tensor) -> Tensor:
        """(n,), probability that the error is at most ``bound``: Φ((ln bound − slope · ln distance − offset) / σ)."""
        slope, offset, deviation = self.calibration
        return torch.special.ndtr((self.bound.log() - slope * distance.log() - offset) / deviation)


def watch(tensors: Mapping[str, Tensor], count: int) -> "Watch | Coverage":
    """What tells the trust of ``count`` dreams; ``tensors`` as a checkpoint holds them.

    Raises:
        CheckpointError: they are not what this version writes.
    """
    return Coverage(tensors) if "anchors" in tensors else Watch(tensors, count)


class Watch:
    """The forecasts beside a batch of dreams; all tensors are on the device of the forecasts."""

    def __init__(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Room for ``count`` dreams; ``tensors`` as a checkpoint holds them.

        Raises:
            CheckpointError: they are not what this version writes.
        """
        self._forecasts = Forecasts.from_tensors(tensors)
        self._states = self._forecasts.start_errors[:, None].repeat(1, count, 1)  # (k, n, s), standardised

    def begin(self, slots: Tensor, states: Tensor) -> Tensor:
        """New dreams begin in (m,) slots with (m, s) states; returns their trust (m,)."""
        begun = self._forecasts.begin(states)
        self._states[:, slots] = begun
        return self._trust(begun, states)

    def advance(self, actions: Tensor, states: Tensor) -> Tensor:
        """Every dream took (n, a) actions and says that it is in (n, s) states now; returns its trust (n,)."""
        self._states = self._forecasts.step(self._states, actions)
        return self._trust(self._states, states)

    def forecasts(self, slot: int) -> Tensor:
        """(k, s), those of one dream; a copy."""
        return self._states[:, slot].clone()

    def resume(self, slot: int, forecasts: Tensor, state: Tensor) -> float:
        """Go on in a slot with (k, s) forecasts beside a dream in an (s,) state; returns its trust."""
        self._states[:, slot] = forecasts
        return float(self._trust(forecasts[:, None], state[None])[0])

    def _trust(self, forecasts: Tensor, states: Tensor) -> Tensor:
        return self._forecasts.trust(self._forecasts.distance(forecasts, states))
