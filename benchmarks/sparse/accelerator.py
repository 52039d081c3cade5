"""The accelerator model against its references: exactness, search, speed, the headline and what moves it, a DiT.

    python -m procosm.benchmarks.sparse.accelerator --records accelerator_reference.json
    python -m procosm.benchmarks.sparse.accelerator --parts speed headline sensitivity mends dit

Every part writes benchmarks/results/accelerator_<part>.json. Nothing is fitted: the paper's 3.26x and 4x (Procrustes,
MICRO 2020, abstract) only stand beside the results.
"""

import json
import time

from procosm.benchmarks.record import flatten, record
from procosm.benchmarks.sparse.accelerator_parts.common import AcceleratorBenchmark
from procosm.benchmarks.sparse.accelerator_parts.dit import dit
from procosm.benchmarks.sparse.accelerator_parts.headline import headline
from procosm.benchmarks.sparse.accelerator_parts.mends import mends
from procosm.benchmarks.sparse.accelerator_parts.reference import reference, search_quality, speed
from procosm.benchmarks.sparse.accelerator_parts.sensitivity import sensitivity
from procosm.benchmarks.sparse.accelerator_parts.trained import real_masks
from procosm.world_model import command

PARTS = {"reference": reference, "search": search_quality, "speed": speed, "headline": headline,
         "trained": real_masks, "sensitivity": sensitivity, "mends": mends, "dit": dit}  # fmt: skip


def main(config: AcceleratorBenchmark) -> None:
    """Run the parts and write their results."""
    possible = [name for name in PARTS if config.records is not None or name not in ("reference", "search")]
    chosen = possible if config.parts is None else config.parts
    for name in chosen:
        if name not in PARTS:
            raise SystemExit(f"part {name!r} is unknown; choose among {', '.join(PARTS)}")
        if name not in possible:
            raise SystemExit(f"part {name} needs --records accelerator_reference.json")
    for name in chosen:
        start = time.perf_counter()
        found = PARTS[name](config)
        found |= {"wall_seconds": round(time.perf_counter() - start, 1)}
        record(f"accelerator_{name}", flatten(found, name), details=found)
        short = {key: value for key, value in found.items() if not isinstance(value, (list, dict))}
        print(f"{name}: {json.dumps(short)}")
        for sentence in found.get("assumptions", ()):
            print(f"  assumes {sentence}")


if __name__ == "__main__":
    command.main(main, AcceleratorBenchmark)
