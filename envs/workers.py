"""Hands the parts of a job to several processes, which talk in lines and end when this one does."""

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from tqdm import tqdm

from procosm.envs.segments import Collector, Job, Part, write_part
from procosm.world_model.interface import DatasetError, ProcosmError, TaskError

_ERRORS = {kind.__name__: kind for kind in (DatasetError, TaskError, ProcosmError)}
_TAIL = 2000


def run_parts(folder: Path, job: Job, parts: list[Part], processes: int) -> None:
    """Collect ``parts`` into ``folder``, with a progress bar over steps.

    Raises:
        ProcosmError: whatever a process could not do; parts finished until then are kept.
    """
    total = sum(part.steps for part in job.parts)
    done = total - sum(part.steps for part in parts)
    with tqdm(total=total, initial=done, desc=f"collect {job.task.id}", unit="step", file=sys.stderr) as bar:
        if min(processes, len(parts)) > 1:
            _share_out(folder, parts, min(processes, len(parts)), bar)
        elif parts:
            collector = Collector(job)
            for part in parts:
                write_part(folder, part, list(collector.episodes(part)))
                bar.update(part.steps)
            collector.close()


def _share_out(folder: Path, parts: list[Part], processes: int, bar: tqdm) -> None:
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for part in parts:
        waiting.put(part)
    failures: list[ProcosmError] = []
    workers = [_Worker(folder, index) for index in range(processes)]
    threads = [threading.Thread(target=worker.serve, args=(waiting, bar, failures)) for worker in workers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for worker in workers:
            worker.stop()
    if failures:
        raise failures[0]


class _Worker:
    """One process, and the end of its pipes."""

    def __init__(self, folder: Path, index: int) -> None:
        self._log = folder / f"worker-{index}.log"
        # One core each: threads of OpenGL and BLAS would fight over them.
        environment = {**os.environ, "LP_NUM_THREADS": "0", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "procosm.envs.segments", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        assert self._process.stdin and self._process.stdout  # both are pipes
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def serve(self, waiting: queue.SimpleQueue, bar: tqdm, failures: list[ProcosmError]) -> None:
        """Take parts until none wait or anything failed."""
        while not failures:
            try:
                part = waiting.get_nowait()
            except queue.Empty:
                return
            answer = self._ask(part)
            if "error" in answer:
                failures.append(_ERRORS.get(answer["type"], ProcosmError)(answer["error"]))
                return
            bar.update(part.steps)

    def _ask(self, part: Part) -> dict:
        try:
            self._orders.write(part.name + "\n")
            self._orders.flush()
            line = self._answers.readline()
        except OSError:
            line = ""
        if line:
            return json.loads(line)
        self._process.wait()
        tail = self._log.read_text(errors="replace")[-_TAIL:]
        return {
            "type": "ProcosmError",
            "error": f"a collecting process ended with status {self._process.returncode} at {part.name}; run the same "
            f"command again to go on. It said:\n{tail}",
        }

    def stop(self) -> None:
        """End the process; what it was collecting is lost, what it wrote is kept."""
        self._process.kill()
        self._orders.close()
        self._answers.close()
        self._process.wait()
