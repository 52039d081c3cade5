"""Settings are judged when they are made: types, ranges, finiteness, and whether a device is there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch
from annotated_types import Interval

from procosm.world_model.settings import Count, Device, Seed, Settings, SettingsError
from procosm.world_model.tokenizer.model import TokenizerConfig
from procosm.world_model.training.presets import PRESETS, check_frame_size
from procosm.world_model.training.stage import StageConfig


@dataclass(frozen=True)
class Config(Settings):
    out: Path = Path()
    many: Count = 1
    gamma: Annotated[float, Interval(gt=0, lt=1)] = 0.9
    seed: Seed = 0
    device: Device = "cpu"
    learner: Literal["ppo", "sac"] = "ppo"
    cut: Annotated[int, Interval(ge=0)] | None = None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"many": 0}, "--many 0 must be at least 1"),
        ({"many": True}, "--many True must be a valid integer"),
        ({"many": 1.5}, "--many 1.5 must be a valid integer"),
        ({"gamma": 1.0}, "--gamma 1.0 must be less than 1"),
        ({"gamma": float("nan")}, "--gamma nan must be a finite number"),
        ({"seed": -1}, "--seed -1 must be at least 0"),
        ({"seed": 2**32}, "--seed 4294967296 must be less than 4294967296"),
        ({"device": "gpu"}, "--device gpu is no device: give auto, cpu, cuda"),
        ({"device": f"cuda:{torch.cuda.device_count()}"}, "is not here"),
        ({"learner": "dqn"}, "--learner dqn must be 'ppo' or 'sac'"),
        ({"cut": -1}, "--cut -1 must be at least 0"),
        ({"out": "runs"}, "--out runs must be an instance of Path"),
        ({"many": 0, "seed": -1}, "--many 0 must be at least 1; --seed -1 must be at least 0"),
    ],
)
def test_what_is_wrong_is_named_with_what_it_must_be(values, said):
    with pytest.raises(SettingsError) as refused:
        Config(**values)
    assert said in str(refused.value)


def test_what_is_right_is_taken_as_it_is():
    assert Config(gamma=0.5, cut=None, seed=2**32 - 1).seed == 2**32 - 1


@pytest.mark.parametrize("name", ["steps", "batch", "learning_rate"])
def test_a_stage_of_nothing_is_refused(name):
    with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')} 0"):
        StageConfig(**{"steps": 1, "batch": 1, "learning_rate": 1e-3} | {name: 0})


@pytest.mark.parametrize("preset", PRESETS)
def test_frame_sizes_are_those_that_the_presets_tokenizer_is_made_with(preset):
    for size in range(32, 257):
        try:
            TokenizerConfig(frame_height=size, frame_width=size)
            check_frame_size(size, size, preset)
        except Exception:
            with pytest.raises(SettingsError, match="give 32, 64, 128, 256"):
                check_frame_size(size, size, preset)
