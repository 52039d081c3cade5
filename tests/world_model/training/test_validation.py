"""The growth test is judged horizon by horizon, each by its own episodes, and says when nothing was tested."""

import json

import pytest

from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.data.windows import tabulate
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_json
from procosm.world_model.provenance import provenance
from procosm.world_model.registry import untrained
from procosm.world_model.training.growth import describe_growth, growth, growth_verdict
from procosm.world_model.training.presets import PRESETS, preset
from procosm.world_model.training.recipes import Training


def rows(*errors: float) -> list[dict[str, float]]:
    return [{"horizon": h, "error": e, "slope": 1 - e, "n": 40 - h} for h, e in enumerate(errors, 1)]


@pytest.mark.parametrize(
    ("errors", "passed"),
    [((0.31, 0.35, 0.55, 0.93, 0.72), False), ((0.31, 0.35, 0.5), True), ((0.51,), False), ((0.1, 0.1, 0.6), False)],
)
def test_one_horizon_worse_than_the_gate_is_enough_to_miss_it(errors, passed):
    verdict = growth_verdict(rows(*errors), 0.5)
    assert verdict["passed"] is passed
    assert verdict["growth_error"] == max(errors) and verdict["by_horizon"] == rows(*errors)
    assert all(f"{h}: {e:.2f} (n {40 - h})" in describe_growth(verdict) for h, e in enumerate(errors, 1))


def test_without_a_gate_or_episodes_nothing_was_tested_and_that_is_said():
    assert preset("debug").stages["unroll"].growth_gate is None
    for verdict in (growth_verdict(rows(0.1), None), growth_verdict([], 0.5)):
        assert verdict["passed"] is None and verdict["reason"]
        assert "nothing was tested" in describe_growth(verdict)
        json.dumps(verdict, allow_nan=False)


def test_each_horizon_counts_the_episodes_that_last_so_long(tmp_path):
    data = collect(CollectConfig(env="InvertedPendulum", out=tmp_path, steps=1200, processes=1))
    episodes, size = load_episodes(data), preset("debug")
    tokenizer, dynamics = untrained(load_task(data), size.tokenizer, size.dynamics)
    tables = {kind: tabulate(episodes, kind, dynamics.context) for kind in ("train", "constant")}
    found = growth(Training(tokenizer, dynamics, tables, 0, tmp_path))
    steps = [len(e.actions) - (dynamics.context - 1) for e in episodes if e.kind == "constant"]
    steps = [each for each in steps if each > 0][1::2]  # the others judge
    assert [row["n"] for row in found] == [n for h in range(1, 11) if (n := sum(s >= h for s in steps))]
    assert found[0]["n"] > found[-1]["n"]  # poles fall at different times


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1.0, -float("inf")]}])
def test_json_never_holds_what_json_has_no_word_for(tmp_path, value):
    path = tmp_path / "metrics.json"
    write_json(path, 1)
    with pytest.raises(ProcosmError, match=r"metrics\.json is not written"):
        write_json(path, value)
    assert path.read_text() == "1\n"


@pytest.mark.parametrize("name", PRESETS)
def test_no_preset_holds_an_infinity(name):
    assert "inf" not in json.dumps(provenance({"sizes": preset(name)})["configs"])
