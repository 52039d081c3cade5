"""Dreams of several checkpoints are judged on the same held-out frames."""

import json
from dataclasses import replace

import pytest

from procosm.benchmarks.dream.families import FamiliesConfig, compare
from procosm.world_model.checkpoint import load, save
from procosm.world_model.errors import ProcosmError
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig, train


def trained(data, out, family):
    sizes = preset("debug", dynamics=family)
    for name in sizes.stages:
        sizes = sizes.with_stage(name, steps=2, batch=4)
    return train(TrainConfig(data, out, family=family), sizes)


def test_families_stand_side_by_side_and_copying_is_the_same_for_all(pendulum_log, tmp_path, tiny_checkpoint):
    folders = tuple(trained(pendulum_log, tmp_path / family, family) for family in ("diffusion", "autoregressive"))
    asked = FamiliesConfig(pendulum_log, folders, tmp_path / "families.json", windows=5, horizon=3)
    found = json.loads(compare(asked).read_text())
    values = {
        (row["family"], row["method"], row["horizon"]): row["value"]
        for row in found["rows"]
        if row["metric"] == "psnr_db"
    }
    assert set(values) == {
        (family, method, horizon)
        for family in ("diffusion", "autoregressive")
        for method in ("dream", "shuffled actions", "copy last frame", "tokenizer")
        for horizon in (1, 2, 3)
    }
    for horizon in (1, 2, 3):
        copies = {values[family, "copy last frame", horizon] for family in ("diffusion", "autoregressive")}
        assert len(copies) == 1 and values["diffusion", "dream", horizon] != values["autoregressive", "dream", horizon]
    with pytest.raises(ProcosmError, match="must be of InvertedPendulum-v5"):
        compare(FamiliesConfig(pendulum_log, (trained_elsewhere(tiny_checkpoint, tmp_path),), tmp_path / "x.json"))


def trained_elsewhere(folder, tmp_path):
    """The same checkpoint, of a task of another name."""
    model = load(folder)
    return save(tmp_path / "other", replace(model, task=replace(model.task, id="Other-v0")))
