"""Draws what the cameras of a task see of its simulator, side by side in one frame."""

from collections.abc import Mapping

import numpy as np

from procosm.envs.truth import backend
from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.camera import Camera
from procosm.envs.truth.model_camera import ModelCamera
from procosm.envs.truth.raycast import RaycastRenderer
from procosm.envs.truth.render import GLRenderer
from procosm.envs.truth.simulator import Simulator
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError


class Drawing:
    """One renderer for each view of a task, made when the first frame is asked for.

    Args:
        task: whose views are drawn; it has a twin.
        cameras: of each view, by its name.
    """

    def __init__(self, task: Task, cameras: Mapping[str, Camera | ModelCamera]) -> None:
        self.cameras = cameras
        self._task = task
        self._renderers: dict[str, GLRenderer | RaycastRenderer] = {}
        self._data: mujoco.MjData | None = None
        self._model: mujoco.MjModel | None = None
        self._saw_something: set[str] = set()

    def draw(self, simulator: Simulator) -> np.ndarray:
        """(H, W, 3) uint8: the frame of this moment.

        Raises:
            TaskError: a camera sees nothing, or this machine cannot draw as the task's frames are drawn.
        """
        model, data = simulator.model, self._positions(simulator)
        parts = []
        for name, renderer in self._renderers.items():
            part = renderer.draw(data, self.cameras[name].pose(model, data))
            if name not in self._saw_something and part.min() == part.max():
                raise TaskError(
                    f"the camera of {self._task.id} sees nothing: the first frame of view {name} is {part.max()} all "
                    f"over. Give another camera than {self.cameras[name].to_json()}"
                )
            self._saw_something.add(name)
            parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def geoms(self, simulator: Simulator, name: str) -> np.ndarray:
        """(2 height, 2 width): the id of the geom seen at each sample of a view's picture, −1 for none."""
        model, data = simulator.model, self._positions(simulator)
        return self._renderers[name].geoms(data, self.cameras[name].pose(model, data))

    def _positions(self, simulator: Simulator) -> mujoco.MjData:
        """Where things are now, for renderers that are there.

        Positions in the task's own data lag half a step behind its qpos, and tasks compute rewards from them: a second
        MjData shows where things are now and leaves the task alone.
        """
        model = simulator.model
        if self._data is None or self._model is not model:
            self.close()
            self._open(model)
            self._data, self._model = mujoco.MjData(model), model
        data = self._data
        data.qpos[:] = simulator.data.qpos
        data.mocap_pos[:] = simulator.data.mocap_pos
        data.mocap_quat[:] = simulator.data.mocap_quat
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_camlight(model, data)
        mujoco.mj_tendon(model, data)
        return data

    def _open(self, model: mujoco.MjModel) -> None:
        twin = self._task.twin
        assert twin is not None  # what is drawn is simulated
        backend.resolve(twin.renderer)  # a copy may have come from a process that draws otherwise
        for view in self._task.views:
            camera = self.cameras[view.name]
            self._renderers[view.name] = (
                RaycastRenderer(model, view.height, view.width, camera)
                if twin.renderer == "raycast"
                else GLRenderer(model, view.height, view.width, camera, twin.version)
            )

    def close(self) -> None:
        """Free the renderers' contexts; the next frame makes new ones."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers, self._data, self._model = {}, None, None

    def __getstate__(self) -> dict:
        # A copy has renderers of its own: contexts belong to the process and the environment that made them.
        return {**vars(self), "_renderers": {}, "_data": None, "_model": None}
