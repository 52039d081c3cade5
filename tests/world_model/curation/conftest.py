"""Logs of drawn films, with and without planted faults."""

from pathlib import Path

import pytest

from tests.world_model.curation import scenes


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of eight good logs, a frozen one, and a recoloured copy of the first."""
    return scenes.write_logs(tmp_path_factory.mktemp("logs") / "data")
