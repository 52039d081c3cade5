"""Where a moving camera looks: Plücker rays by channel concatenation (Cosmos §6.1, arXiv 2501.03575).

The action of such a task is the motion of its camera, so the pose that a frame is to be seen from is known exactly.
Each place of a latent is told of the ray that it will see along, (d, c × d) of unit direction d and camera position c,
in the coordinates of the camera before the step: then what is told does not grow as the camera goes far. Where in the
scene it is, the model sees. Cosmos gives the rays of a whole clip, which spread as the camera goes; those of one step
are nearly those at rest, and a network told of them learned nothing of the motion. So their change per second is told.

A camera looks along -z, x to its right and y up, as MuJoCo's do.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

MOTION = 6
"""Numbers of an action: velocity (x, y, z), m/s, and turn rate about the axes (x, y, z), rad/s, in the camera's own."""


@dataclass(frozen=True)
class CameraConfig:
    """A camera that actions move."""

    fov_y_deg: Annotated[float, Field(gt=0, lt=180)]
    """Vertical field of view."""
    dt_s: Annotated[float, Field(gt=0, le=3600)]
    """Seconds of a step, for which the motion goes on."""


def turned(rotation_vector: Tensor) -> Tensor:
    """(…, 3) axis times angle, rad, to rotation matrices (…, 3, 3), by Rodrigues' formula."""
    angle = rotation_vector.norm(dim=-1, keepdim=True)[..., None]
    x, y, z = (rotation_vector / angle[..., 0].clamp_min(1e-12)).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=rotation_vector.dtype, device=rotation_vector.device)
    return identity + angle.sin() * cross + (1 - angle.cos()) * (cross @ cross)


def step_pose(motion: Tensor, dt_s: float) -> tuple[Tensor, Tensor]:
    """Position (…, 3), m, and rotation (…, 3, 3) after a step, in the coordinates of the camera before it.

    The camera first goes straight, then turns, as a simulator's step has it.

    Args:
        motion: (…, 6), see ``MOTION``.
    """
    return motion[..., :3] * dt_s, turned(motion[..., 3:] * dt_s)


def plucker(position: Tensor, rotation: Tensor, fov_y_deg: float, height: int, width: int) -> Tensor:
    """(…, 6, height, width): (d, c × d) of the ray through the middle of each cell of a picture.

    Args:
        position: c, (…, 3). rotation: (…, 3, 3), its columns the camera's axes. Both in one coordinate system.
        fov_y_deg: vertical field of view; cells are square.
    """
    reach = math.tan(math.radians(fov_y_deg) / 2)
    kind: dict[str, Any] = {"dtype": position.dtype, "device": position.device}
    y = reach * (1 - 2 * (torch.arange(height, **kind) + 0.5) / height)
    x = reach * (width / height) * (2 * (torch.arange(width, **kind) + 0.5) / width - 1)
    own = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), -torch.ones(height, width, **kind)], dim=-1)
    own = own / own.norm(dim=-1, keepdim=True)
    # No matrix product, which autocast would round to the eight bits of bfloat16.
    direction = (rotation[..., None, None, :, :] * own[..., None, :]).sum(-1)
    moment = torch.linalg.cross(position[..., None, None, :].expand(direction.shape), direction)
    return torch.cat([direction, moment], dim=-1).movedim(-1, -3)


class RayEmbedding(nn.Module):
    """What rays add to tokens: the columns of the first layer that concatenated channels would have; 0 at first."""

    rest: Tensor

    def __init__(self, config: CameraConfig, width: int, patch: int, grid: tuple[int, int]) -> None:
        """``grid``: tokens down and across, each of ``patch`` by ``patch`` latents."""
        super().__init__()
        self.config, self.patch, self.size = config, patch, (grid[0] * patch, grid[1] * patch)
        self.rays_in = nn.Linear(6 * patch * patch, width, bias=False)
        rest = plucker(torch.zeros(3), torch.eye(3), config.fov_y_deg, *self.size)
        self.register_buffer("rest", rest, persistent=False)
        self.silence()

    @torch.no_grad()
    def silence(self) -> None:
        """Add nothing until it is trained."""
        self.rays_in.weight.zero_()

    def forward(self, motion: Tensor) -> Tensor:
        """(b, 6) motion of the camera in the step to (b, tokens, d)."""
        pose = step_pose(motion, self.config.dt_s)
        rays = (plucker(*pose, self.config.fov_y_deg, *self.size) - self.rest) / self.config.dt_s
        p = self.patch
        cut = rays.unflatten(2, (-1, p)).unflatten(4, (-1, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return self.rays_in(cut.to(self.rays_in.weight.dtype))
