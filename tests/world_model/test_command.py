"""Every command ends with a status and one line, never with a traceback."""

import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from procosm.sparse.errors import SparseError
from procosm.world_model.command import run_command
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Settings

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Config(Settings):
    out: Path
    many: Count = 1


def ended(function, *arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        run_command(function, Config, "procosm work", arguments)
    return stopped.value.code


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (ProcosmError("no such thing"), 1, "procosm work: no such thing"),
        (SparseError("no such layer"), 1, "procosm work: no such layer"),
        (MemoryError("Unable to allocate 3.6 TiB"), 1, "more memory than there is: Unable to allocate 3.6 TiB"),
        (KeyboardInterrupt(), 130, "Stopped. The same command goes on from here: procosm work --out '/a b/it'\"'\"'s'"),
    ],
)
def test_what_ends_a_command_is_a_status_and_a_line(failure, status, said, capsys):
    def fail(config: Config) -> None:
        raise failure

    assert ended(fail, "--out", "/a b/it's") == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_ctrl_c_does(number, capsys):
    before = signal.getsignal(number)
    assert ended(lambda config: signal.raise_signal(number), "--out", "x") == 128 + number
    assert "goes on from here" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_bad_usage_is_2_and_settings_out_of_range_are_1(capsys):
    assert ended(print, "--out", "x", "--many", "some") == 2
    assert ended(print, "--out", "x", "--many", "0") == 1
    assert "procosm work: --many 0 must be at least 1" in capsys.readouterr().err
    assert run_command(lambda config: config.many, Config, "procosm work", ["--out", "x", "--many", "3"]) == 3


def test_no_other_code_parses_a_command_line():
    parts = ("world_model", "envs", "agents", "benchmarks")
    parsing = [path for part in parts for path in (ROOT / part).rglob("*.py") if "tyro.cli(" in path.read_text()]
    assert [str(path.relative_to(ROOT)) for path in parsing] == ["world_model/command.py"]


@pytest.mark.parametrize(
    "command",
    [
        "procosm.benchmarks.dream.fidelity --run '/no such/run'",
        "procosm.benchmarks.dream.ranking --checkpoint '/no such/run'",
        "procosm.envs.trust.calibrate --world-model '/no such/run' --data x",
    ],
)
def test_a_module_given_a_folder_that_is_none_names_it(command):
    done = subprocess.run([sys.executable, "-m", *shlex.split(command)], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"python -m {command.split()[0]}: ") and "/no such/run" in last
