"""Is a commit slower than another? Steps of dreams and of training of two checkouts, in alternating rounds of one run.

    git worktree add /tmp/before COMMIT
    python -m procosm.benchmarks.machine.commits --before /tmp/before --after .

A process for each checkout stays open, and both work in turn, so that what else the machine does falls on both. Both
dream of the InvertedPendulum that the earlier one ships, and take training steps of the preset small on episodes that
the earlier one has collected. Time is that of the processor, where each has one torch thread: others on the machine
matter less. With ``--threads 2`` it is that of the clock, on a machine with nothing else to do: what is gained side by
side cannot be seen otherwise. A ratio is the later checkout's steps a second over the earlier one's, within a round;
its value is the median of the rounds.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from procosm.benchmarks.record import RESULTS, record
from procosm.world_model import command
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Positive, Settings

TASK = "InvertedPendulum"
PROGRAM = Path(__file__).with_name("commit_steps.py")
"""What each checkout runs; it imports only what both have."""


@dataclass(frozen=True)
class CommitsConfig(Settings):
    """Which checkouts, and for how long."""

    before: Path
    """Working tree of the earlier commit."""
    after: Path
    """Working tree of the later commit."""
    rounds: Annotated[int, Ge(4)] = 9
    """How often both do everything; a first round is not counted."""
    seconds: Positive = 0.5
    """Of the processor, for each work in a round."""
    collected: Count = 600
    """Steps that are collected to train on."""
    dreams: Count = 64
    """Dreams side by side."""
    threads: Count = 1
    """Torch threads of each checkout."""
    out: Path = RESULTS
    """Folder of the result."""


class Checkout:
    """A process that works on one checkout when it is told to."""

    def __init__(self, tree: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self.tree = tree
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tree,
            env=environment | _path(tree),
        )  # fmt: skip
        self.works = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise ProcosmError(f"the process of {self.tree} has ended: is that a checkout of procosm, its error above?")
        return json.loads(line)

    def rate(self, work: str) -> float:
        """Steps a second of some work."""
        assert self._process.stdin is not None
        self._process.stdin.write(work + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


@contextmanager
def opened(config: CommitsConfig) -> Iterator[tuple[Checkout, Checkout]]:
    """A process of each checkout; both have the same checkpoint and data."""
    checkpoint = (config.before / "envs" / "checkpoints" / TASK).resolve()
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(config.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        collect = [sys.executable, "-m", "procosm.agents.cli", "collect", "--env", TASK, "--out", str(run)]
        collect += ["--steps", str(config.collected), "--processes", "1"]
        subprocess.run(collect, cwd=config.before, env=environment | _path(config.before), check=True)
        both = []
        for name, tree in (("before", config.before), ("after", config.after)):
            arguments = [str(checkpoint), str(run / "data"), str(run / name)]
            arguments += [str(number) for number in (config.dreams, config.seconds, config.threads)]
            both.append(Checkout(tree, arguments, environment))
            stack.callback(both[-1].close)
        yield both[0], both[1]


def _path(tree: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(tree.resolve())}


def commit(tree: Path) -> str:
    """The commit that is checked out in a working tree."""
    asked = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def main(config: CommitsConfig) -> Path:
    """Time both, and write ``platform_speed.json``, or ``platform_speed_<n>_threads.json``."""
    with opened(config) as (before, after):
        found: dict[str, list[tuple[float, float]]] = {work: [] for work in after.works if work in before.works}
        for turn in range(config.rounds + 1):
            for work, pairs in found.items():
                order = (before, after) if turn % 2 else (after, before)
                rates = {tree: tree.rate(work) for tree in order}
                if turn:
                    pairs.append((rates[before], rates[after]))
    rows, clock = [], "CPU" if config.threads == 1 else "wall-clock"
    for work, pairs in found.items():
        ratios = sorted(after / before for before, after in pairs)
        place = {"task": work, "n": len(pairs)}
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        rows.append({**place, "metric": "faster", "value": statistics.median(ratios), "unit": "ratio"}
                    | {"low": low, "high": high})  # fmt: skip
        for name, at in (("before", 0), ("after", 1)):
            value = statistics.median(pair[at] for pair in pairs)
            rows.append({**place, "metric": f"steps per {clock} second, {name}", "value": value, "unit": "steps/s"})
        print(f"{work:48} {rows[-3]['value']:5.2f} [{low:.2f}, {high:.2f}]")
    details = {
        "before": commit(config.before), "after": commit(config.after), "dreams": config.dreams,
        "threads": config.threads,
        "interval": "value is the median of n alternating rounds, low and high the middle half of them",
    }  # fmt: skip
    name = "platform_speed" if config.threads == 1 else f"platform_speed_{config.threads}_threads"
    return record(name, rows, config.out, details)


if __name__ == "__main__":
    command.main(main, CommitsConfig)
