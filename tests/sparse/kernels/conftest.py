"""Where a kernel runs in a test: on a CUDA device, or its own source on the CPU (host_device.py)."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from tests.sparse.kernels.host_device import COMPILER, HostDevice


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the kernels compiled for the CPU, shared by the session."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def host(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """Kernels run on CPU tensors; ``order`` can be changed between launches."""
    if COMPILER is None:
        pytest.skip("needs g++ to run the kernels' source on the CPU")
    device = HostDevice(compiled)
    monkeypatch.setattr(launch, "run", device.run)
    monkeypatch.setattr(launch, "capability", lambda tensor: device.capability)
    monkeypatch.setattr(launch, "processors", lambda tensor: device.processors)
    return device


@pytest.fixture
def hopper(host: HostDevice) -> HostDevice:
    """As ``host``, standing for an sm_90a device with three multiprocessors."""
    host.capability = (9, 0)
    return host


@pytest.fixture(params=["hopper", pytest.param("cuda", marks=pytest.mark.gpu)])
def on_hopper(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    """As ``place``, where the kernels for sm_90a run."""
    if request.param == "hopper":
        request.getfixturevalue("hopper")
        return partial(poisoned, device="cpu")
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("no CUDA device of compute capability 9.0")
    return partial(poisoned, device="cuda")


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest) -> Iterator[Callable[[Tensor], Tensor]]:
    """place(tensor): contiguous, inside a NaN-filled allocation, where the kernel of this test runs."""
    device = request.param
    if device == "host":
        request.getfixturevalue("host")
    elif not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    yield partial(poisoned, device="cpu" if device == "host" else "cuda")


def poisoned(tensor: Tensor, device: str) -> Tensor:
    """The tensor, contiguous, in the middle of a larger allocation filled with NaN."""
    fill = float("nan") if tensor.is_floating_point() else 2**30
    room = torch.full((tensor.numel() + 256,), fill, dtype=tensor.dtype).to(device)
    return room[64 : 64 + tensor.numel()].view(tensor.shape).copy_(tensor)
