"""Collects the parts of a job, in this process or in several that end when it does."""

from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path

from procosm.envs.collect.segments import Collector, Job, Part, write_part
from procosm.sparse.processes import worker_processes
from procosm.world_model.errors import ProcosmError
from procosm.world_model.progress import Progress


def run_parts(folder: Path, job: Job, parts: list[Part], processes: int, trust_pickle: bool = False) -> None:
    """Collect ``parts`` into ``folder``, with a progress bar over steps.

    Raises:
        ProcosmError: whatever a process could not do; parts finished until then are kept.
    """
    total = sum(part.steps for part in job.parts)
    done = total - sum(part.steps for part in parts)
    with Progress(total, f"collect {job.task.id}", "step", done) as bar:
        if min(processes, len(parts)) > 1:
            with worker_processes(min(processes, len(parts))) as pool:
                _await({pool.submit(_collect, folder, job.to_json(), part, trust_pickle): part for part in parts}, bar)
        elif parts:
            collector = Collector(job, trust_pickle)
            for part in parts:
                write_part(folder, job, part, list(collector.episodes(part)))
                bar.update(part.steps)
            collector.close()


def _await(parts: dict[Future, Part], bar: Progress) -> None:
    """Wait for all parts; after a failure only for those that are being collected."""
    failure: BaseException | None = None
    for future in as_completed(parts):
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            bar.update(parts[future].steps)
            continue
        failure = failure or error
        for waiting in parts:
            waiting.cancel()
    if isinstance(failure, BrokenProcessPool):
        raise ProcosmError(
            f"a collecting process died ({failure}), most often for want of memory: run the same command again to go "
            "on, with --processes 1 if it happens again"
        ) from failure
    if failure:
        raise failure


def _collect(folder: Path, job: str, part: Part, trust_pickle: bool) -> None:
    read, collector = _opened(job, trust_pickle)
    write_part(folder, read, part, list(collector.episodes(part)))


@lru_cache(maxsize=1)
def _opened(job: str, trust_pickle: bool) -> tuple[Job, Collector]:
    """A job and what collects it, made once in each process."""
    read = Job.from_json(job)
    return read, Collector(read, trust_pickle)
