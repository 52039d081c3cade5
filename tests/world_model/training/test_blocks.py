"""The choice of blocks: by the clock among those that fit, kept, and told. Only the clock is replaced."""

import json
import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from procosm.sparse import machines, matrix
from procosm.sparse.nn import BlockWeight
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.training import blocks
from procosm.world_model.training.blocks import DENSE, Part, choose_blocks
from procosm.world_model.training.presets import preset

CPU = torch.device("cpu")


class Net(nn.Module):
    stay_dense = ("head",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.Linear(width, 128)


class Step:
    """A training step of a net, and its clock: ``costs`` are seconds by side of the blocks."""

    costs: ClassVar[dict[int, float]] = {}
    taken: ClassVar[list[int]] = []

    def __init__(self, net: nn.Module, batch: int) -> None:
        self.net, self.x = net, torch.randn(batch, net.head.in_features)
        self.side = net.up.block if isinstance(net.up, BlockWeight) else DENSE

    def __call__(self) -> None:
        self.taken.append(self.side)
        self.net.head(self.net.down(self.net.up(self.x))).sum().backward()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        machines, "processor", lambda: machines.Processor("AuthenticAMD", True, "avx512_bf16")
    )  # whose predictions these are
    monkeypatch.setattr(blocks, "_seconds", lambda step, device: Step.costs[step.side])
    monkeypatch.setattr(Step, "taken", [])
    monkeypatch.setattr(Step, "costs", {DENSE: 0.4} | dict.fromkeys(matrix.BLOCKS, 0.5))


def part(width: int = 256, density: float = 0.25, batch: int = 1024) -> Part:
    torch.manual_seed(0)
    return Part("dynamics", Net(width), density, Step, batch, f"width {width}", wider=" (--preset wide)")


def test_the_fastest_of_those_that_the_cost_model_puts_first(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Step.costs[64] = 0.16
    assert choose_blocks([part()], None, CPU, tmp_path) == {"dynamics": 64}
    assert set(Step.taken) == {DENSE, 64, 128}, "two are timed"
    said = capsys.readouterr().err
    assert "density 0.25 in blocks of 64 trains 2.50 times as fast as dense" in said and "blocks of 128: 0.80" in said
    assert "SLOWER" not in said


def test_the_choice_is_kept_wherever_training_goes_on(tmp_path: Path) -> None:
    Step.costs[64] = 0.2
    assert choose_blocks([part()], None, CPU, tmp_path) == {"dynamics": 64}
    Step.costs |= {64: 0.3, 128: 0.1}
    assert choose_blocks([part()], None, CPU, tmp_path) == {"dynamics": 64}
    assert json.loads((tmp_path / "blocks.json").read_text())["dynamics"]["gain"] == 2.0
    assert choose_blocks([part()], 32, CPU, tmp_path) == {"dynamics": 32}, "what is asked for is obeyed"
    assert choose_blocks([part(density=0.2)], None, CPU, tmp_path) == {"dynamics": 128}, "another run is another choice"


@pytest.mark.parametrize(
    "text", ["[]", "{", "3", '{"dynamics": 64}', '{"dynamics": {"block": 17}}', '{"dynamics": {}}']
)
def test_a_damaged_choice_is_an_error_that_names_its_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "blocks.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"blocks\.json"):
        choose_blocks([part()], None, CPU, tmp_path)


def test_a_gain_that_a_short_timing_cannot_tell_is_not_promised(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Step.costs[128] = 0.39
    choose_blocks([part()], None, CPU, tmp_path)
    assert "1.03 times as fast as dense" in (said := capsys.readouterr().err) and "may be a tenth off" in said


def test_a_training_begun_when_nothing_was_chosen_goes_on_with_its_blocks(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.safetensors").touch()
    assert choose_blocks([part()], None, CPU, tmp_path) == {"dynamics": 16}


def test_sides_that_leave_more_layers_dense_are_advised_not_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Of 128 x 64 weights a tenth is .8 blocks of 32: only blocks of 16 fit every layer."""

    class Narrow(Net):
        def __init__(self) -> None:
            super().__init__(512)
            self.down, self.head = nn.Sequential(nn.Linear(2048, 64), nn.Linear(64, 128)), nn.Linear(128, 128)

    class Slow(Step):
        def __init__(self, net: nn.Module, batch: int) -> None:
            super().__init__(net, batch)
            self.x = torch.randn(batch, 512)

    Step.costs |= {DENSE: 0.16, 16: 0.17}  # near what the cost model predicts
    torch.manual_seed(0)
    narrow = Part("dynamics", Narrow(), 0.1, Slow, 2048, "narrow")
    assert choose_blocks([narrow], None, CPU, tmp_path) == {"dynamics": 16}
    said = capsys.readouterr().err
    assert "trains 0.94 times as fast as dense" in said and "This is SLOWER than dense" in said
    assert re.search(r"--block (32|64|128) would pay .* 1 of 3 layers", said)


def test_where_nothing_pays_width_is_advised(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Step.costs |= {DENSE: 0.0004, 16: 0.0005, 32: 0.0005}
    choose_blocks([part(width=32, batch=256)], None, CPU, tmp_path)
    said = capsys.readouterr().err
    assert re.search(r"SLOWER .* layers \d+ times as wide would pay in blocks of \d+ \(--preset wide\)", said)


def test_choosing_leaves_the_module_and_the_generators_alone(tmp_path: Path) -> None:
    mine = part()
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in mine.module.state_dict().items()}
    choose_blocks([mine], None, CPU, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, weights[k]) for k, v in mine.module.state_dict().items())


def test_blocks_that_fit_no_layer_are_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ProcosmError, match="no layer of Net"):
        choose_blocks([part(width=16, density=0.01)], None, CPU, tmp_path)


def test_tokens_are_counted_in_layers_of_every_kind() -> None:
    """What the cost model is asked: rows of the product, over all calls, in the dtype of its result."""

    class Both(nn.Module):
        stay_dense = ()

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.twice = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 16)

    def make_step(net: nn.Module, batch: int) -> Step:
        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                x = net.conv(torch.ones(batch, 3, 8, 4)).flatten(2).transpose(1, 2)
                net.twice(net.twice(x))

        step.side = DENSE
        return step

    rehearsed = blocks._Rehearsed(Part("both", Both(), 0.5, make_step, 2, ""), CPU)
    assert rehearsed.calls == {
        "conv": (2 * 8 * 4, torch.bfloat16),
        "twice": (2 * 2 * 8 * 4, torch.bfloat16),
    }


def test_preset_wide_is_as_wide_as_it_says() -> None:
    wide = preset("wide").dynamics.transformer
    assert wide.width >= 512 and all(wide.width % side == 0 for side in matrix.BLOCKS)
