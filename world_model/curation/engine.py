"""Runs stages over many items: in this process, or on Ray Data with any number of workers."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Processes, Settings

BLOCKS_PER_WORKER = 8
ATTEMPTS = 3
PATIENCE = {"health_check_timeout_ms": 60_000, "health_check_failure_threshold": 20}
"""Of a local Ray with its only node: a machine that is busy with other work too is not dead."""
STORE_BYTES = 512 * 2**20
"""Of Ray's object store for each local worker: what is between two stages at most."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig(Settings):
    """Where work is done that divides by recording."""

    workers: Processes = 1
    """Processes on this machine; more than one needs Ray."""
    ray_address: str = ""
    """Ray cluster to work on, such as auto or ray://HOST:10001; it must see the folders that are read and written."""

    def engine(self) -> "Engine":
        """What works there."""
        return Engine(self.workers, self.ray_address)


@dataclass(frozen=True)
class Engine:
    """Where stages run.

    Attributes:
        workers: processes; 1 is this one, without Ray.
        address: of a Ray cluster, or "auto"; "" starts Ray here if there is more than one worker.
    """

    workers: int = 1
    address: str = ""

    @property
    def on_ray(self) -> bool:
        """Whether Ray is needed."""
        return self.workers > 1 or bool(self.address)

    def stream(
        self,
        items: Sequence[Any],
        first: Callable[[Any], Iterable[Any]],
        *rest: Callable[[Any], Any],
        in_order: bool = False,
    ) -> Iterator[Any]:
        """What comes out of the stages, in any order unless that of the items is asked for.

        Args:
            first: makes any number of results of an item. rest: each makes one of one.

        Raises:
            ProcosmError: a stage failed on an item more often than it is tried again.
        """
        if self.on_ray:
            yield from self._on_ray(items, first, rest, in_order)
            return
        for item in items:
            for result in first(item):
                for stage in rest:
                    result = stage(result)
                yield result

    def _on_ray(self, items: Sequence[Any], first: Callable, rest: Sequence[Callable], in_order: bool) -> Iterator[Any]:
        ray = self._started()
        ray.data.DataContext.get_current().execution_options.preserve_order = in_order
        # Stages with different shares of a core are not joined into one task, so that each has its own parallelism.
        rows = ray.data.from_items([{"item": item} for item in items], override_num_blocks=self._blocks(len(items)))
        rows = rows.flat_map(lambda row: [{"item": result} for result in first(row["item"])], num_cpus=0.5)
        for index, stage in enumerate(rest):
            rows = rows.map(
                lambda row, stage=stage: {"item": stage(row["item"])}, num_cpus=1 if index % 2 == 0 else 0.5
            )
        try:
            for row in rows.iter_rows():
                yield row["item"]
        except ray.exceptions.RayError as error:
            raise ProcosmError(
                f"a stage failed on Ray ({str(error).strip().splitlines()[-1]:.300}): what is done is kept; run the "
                "same command again"
            ) from error

    def _blocks(self, items: int) -> int:
        """Into how many parts the items go: a lost worker loses one of them."""
        return max(1, min(items, self.workers * BLOCKS_PER_WORKER))

    def _started(self) -> Any:
        """Ray, connected to the cluster or started here."""
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise ProcosmError("--workers and --ray-address need Ray: pip install 'procosm[curation]'") from error
        if not ray.is_initialized():
            settings: dict[str, Any] = {"address": self.address}
            if not self.address:
                settings = {"address": "local", "num_cpus": self.workers, "include_dashboard": False}
                settings["object_store_memory"] = self.workers * STORE_BYTES
                settings["_system_config"] = PATIENCE
            _join(ray, settings)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        return ray


def _join(ray: Any, settings: Mapping[str, Any]) -> None:
    """Connect to Ray; where it is started here on a busy machine, it gives up after 30 s and is asked again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises the bare class where its own processes do not come up
            ray.shutdown()
            if attempt == ATTEMPTS or settings["address"] != "local":
                where = "on this machine" if settings["address"] == "local" else f"at {settings['address']}"
                raise ProcosmError(
                    f"Ray cannot be used {where} ({str(error).strip().splitlines()[0]:.200}): give the address of a "
                    "cluster that runs (--ray-address), or work without Ray (--workers 1)"
                ) from error
