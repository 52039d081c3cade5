"""What every benchmark that computes a world model lets its user choose."""

from dataclasses import dataclass

import torch

from procosm.world_model.precision import resolve_device
from procosm.world_model.settings import Device, Settings


@dataclass(frozen=True, kw_only=True)
class OnDevice(Settings):
    """Base of the settings of such a benchmark."""

    device: Device = "auto"
    """Where models are computed: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""

    def resolved(self) -> torch.device:
        """The device, which is torch's current one from now on if it is a CUDA device."""
        device = resolve_device(self.device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device
