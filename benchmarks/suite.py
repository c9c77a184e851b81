"""All benchmarks, in the order in which they run: first those that need no Ray, as there is none yet then."""

from __future__ import annotations

from benchmarks import (
    append,
    callers,
    care,
    dedicated,
    embedded,
    ingest,
    lag,
    limits,
    load,
    memory,
    rebuild,
    reopen,
    size,
    sizes,
    start,
    umadb,
)
from benchmarks.harness import Benchmark

SUITE: dict[str, Benchmark] = {
    "append": append.append,
    "size": size.size,
    "load": load.load,
    "reopen": reopen.reopen,
    "verify": care.verifying,
    "backup": care.backing_up,
    "embedded": embedded.embedded,
    "start": start.start,
    "callers": callers.callers,
    "hot": callers.hot,
    "ingest": ingest.ingest,
    "umadb": umadb.umadb,
    "dedicated": dedicated.dedicated,
    "memory": memory.memory,
    "lag": lag.lag,
    "rebuild": rebuild.rebuild,
    "sizes": sizes.sizes,
    "shards": sizes.shards,
    "limits": limits.limits,
}
