"""The errors of procosm: the command line prints them and exits with status 1."""


class ProcosmError(Exception):
    """What was wrong, where, and what to do about it. The command line prints it and exits with status 1."""


class DatasetError(ProcosmError):
    """A dataset is missing, truncated, or does not fit the model."""


class CheckpointError(ProcosmError):
    """A checkpoint is missing, truncated, or from another architecture."""


class TaskError(ProcosmError):
    """An unknown task, or an action the environment cannot take."""
