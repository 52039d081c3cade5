"""What is built from a checkout: every file once, under the one import name."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("builder", [SdistBuilder, WheelBuilder])
def test_every_file_is_in_it_once(builder) -> None:
    files = list(builder(str(ROOT)).recurse_included_files())
    large = [Path(file.path) for file in files if Path(file.path).stat().st_size > 1000]
    contents = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in large)
    assert len(large) > 200 and max(contents.values()) == 1
    names = Counter(file.distribution_path for file in files)
    assert max(names.values()) == 1


def test_a_wheel_holds_the_packages_and_their_data_and_nothing_else() -> None:
    names = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {name.split("/")[0] for name in names} == {"procosm"}
    tracked = (
        "__init__.py",
        "envs/checkpoints/Reacher/config.json",
        "sparse/kernels/forward.cu",
        "envs/play/page/play.js",
    )
    assert {f"procosm/{name}" for name in tracked} <= names
