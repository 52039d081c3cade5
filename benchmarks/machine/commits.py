"""Is a commit slower than another? Steps of dreams and of training of two checkouts, in alternating rounds of one run.

    git worktree add /tmp/before COMMIT
    python -m procosm.benchmarks.machine.commits --before /tmp/before --after .

A process for each checkout stays open, and both work in turn, so that what else the machine does falls on both. Two
processes of the same checkout are not equally fast either, for as long as they live, and which is faster goes by the
order in which they were opened (LOG.md, "The same commit beside itself"). So pairs of processes come in twos, one
opened in the other order, and with one thread all are on one core. Both dream of the InvertedPendulum that the earlier
one ships, and take training steps of the preset small on episodes that the earlier one has collected. Time is that of
the processor, where each has one torch thread: others on the machine matter less. With ``--threads 2`` it is that of
the clock, on a machine with nothing else to do: what is gained side by side cannot be seen otherwise. A ratio is the
later checkout's steps a second over the earlier one's, within a round; a pair's is the median of its rounds, that of
both orders their geometric mean, and the value the median of these.
"""

import json
import math
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
    repeats: Count = 3
    """How often processes are opened, in one order and in the other."""
    rounds: Annotated[int, Ge(3)] = 4
    """How often both of a pair do everything; a first round is not counted."""
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
def on_one_core(alone: bool) -> Iterator[None]:
    """Within, this process and those that it starts run on the first core that it may use, where they are to be
    ``alone`` there and the system can; one core may be slower than another.
    """
    if not alone or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def opened(config: CommitsConfig, run: Path, later_first: bool) -> Iterator[tuple[Checkout, Checkout]]:
    """A process of each checkout, with the same checkpoint and the data in ``run``."""
    checkpoint = (config.before / "envs" / "checkpoints" / TASK).resolve()
    both: dict[str, Checkout] = {}
    trees = [("before", config.before), ("after", config.after)]
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, tree in reversed(trees) if later_first else trees:
            arguments = [str(checkpoint), str(run / "data"), str(work / name)]
            arguments += [str(number) for number in (config.dreams, config.seconds, config.threads)]
            both[name] = Checkout(tree, arguments, _environment(config))
            stack.callback(both[name].close)
        yield both["before"], both["after"]


def collect(config: CommitsConfig, run: Path) -> None:
    """Collect the episodes that both train on, by the earlier checkout."""
    command = [sys.executable, "-m", "procosm.agents.cli", "collect", "--env", TASK, "--out", str(run)]
    command += ["--steps", str(config.collected), "--processes", "1"]
    subprocess.run(command, cwd=config.before, env=_environment(config) | _path(config.before), check=True)


def _environment(config: CommitsConfig) -> dict[str, str]:
    return dict(os.environ) | {"OMP_NUM_THREADS": str(config.threads), "OMP_WAIT_POLICY": "PASSIVE"}


def _path(tree: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(tree.resolve())}


def commit(tree: Path) -> str:
    """The commit that is checked out in a working tree."""
    asked = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def measured(config: CommitsConfig) -> dict[str, list[list[tuple[float, float]]]]:
    """Steps a second of each work that both do: of each pair of processes, of each round, before and after."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    with tempfile.TemporaryDirectory() as run, on_one_core(config.threads == 1):
        collect(config, Path(run))
        for pair in range(2 * config.repeats):
            with opened(config, Path(run), later_first=pair % 2 == 1) as (before, after):
                works = [work for work in after.works if work in before.works]
                for work in works:
                    found.setdefault(work, []).append([])
                for turn in range(config.rounds + 1):
                    for work in works:
                        order = (before, after) if turn % 2 else (after, before)
                        rates = {checkout: checkout.rate(work) for checkout in order}
                        if turn:
                            found[work][-1].append((rates[before], rates[after]))
    return found


def main(config: CommitsConfig) -> Path:
    """Time both, and write ``platform_speed.json``, or ``platform_speed_<n>_threads.json``."""
    rows, clock = [], "CPU" if config.threads == 1 else "wall-clock"
    for work, pairs in measured(config).items():
        each = [statistics.median(after / before for before, after in rounds) for rounds in pairs]
        ratios = [math.sqrt(one * other) for one, other in zip(each[::2], each[1::2], strict=True)]
        place: dict[str, Any] = {"task": work, "n": len(ratios)}
        faster = {"value": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        rows.append({**place, "metric": "faster", "unit": "ratio", **faster})
        for name, at in (("before", 0), ("after", 1)):
            value = statistics.median(rates[at] for rounds in pairs for rates in rounds)
            rows.append({**place, "metric": f"steps per {clock} second, {name}", "value": value, "unit": "steps/s"})
        print(f"{work:48} {faster['value']:5.2f} [{faster['low']:.2f}, {faster['high']:.2f}]")
    details = {
        "before": commit(config.before), "after": commit(config.after), "dreams": config.dreams,
        "threads": config.threads, "rounds": config.rounds,
        "interval": "n times two pairs of processes, opened in one order and in the other, each the median of its "
        "rounds and both their geometric mean; value is the median, low and high the least and the greatest",
    }  # fmt: skip
    name = "platform_speed" if config.threads == 1 else f"platform_speed_{config.threads}_threads"
    return record(name, rows, config.out, details)


if __name__ == "__main__":
    command.main(main, CommitsConfig)
