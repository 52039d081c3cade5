"""Datasets of our own as logs, one episode at a time."""

import h5py
import numpy as np

from procosm.world_model.data.episodes import MAIN_FILE, check_whole, load_task, read_episode
from procosm.world_model.data.logs import Log, LogsConfig
from procosm.world_model.errors import DatasetError
from procosm.world_model.folders import find


class DatasetLogs:
    """The episodes of a dataset; their names are ``episode_0`` and so on."""

    def __init__(self, config: LogsConfig) -> None:
        check_whole(config.data)
        self._path, self.task = config.data, load_task(config.data)
        names = tuple(view.name for view in self.task.views)
        if config.views not in ((), names) or config.height not in (None, self.task.height):
            raise DatasetError(
                f"{config.data} has views {names} with {self.task.height} rows, which are kept as they are"
            )
        with h5py.File(find(self._path, MAIN_FILE), "r") as file:
            self.names = [f"episode_{index}" for index in range(len(file))]

    def read(self, name: str) -> Log:
        """One episode."""
        episode = read_episode(self._path, int(name.rpartition("_")[2]), self.task)
        return Log(name, episode, np.arange(len(episode.frames)) * self.task.dt_s)
