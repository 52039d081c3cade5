"""Where a kernel runs in a test: on a CUDA device, or its own source on the CPU (host_device.py)."""

from collections.abc import Callable, Iterator
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


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest) -> Iterator[Callable[[Tensor], Tensor]]:
    """place(tensor): contiguous, inside a NaN-filled allocation, where the kernel of this test runs."""
    device = request.param
    if device == "host":
        request.getfixturevalue("host")
    elif not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    def put(tensor: Tensor) -> Tensor:
        fill = float("nan") if tensor.is_floating_point() else 2**30
        room = torch.full((tensor.numel() + 256,), fill, dtype=tensor.dtype)
        inside = room.to("cpu" if device == "host" else "cuda")[64 : 64 + tensor.numel()].view(tensor.shape)
        return inside.copy_(tensor)

    yield put
