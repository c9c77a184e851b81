"""`umadb`: 64 single commands at a time, against UmaDB's 64 conditional appends. Optional: its wheel has the server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.bank import Balance, running
from benchmarks.callers import ACCOUNTS, deposits
from benchmarks.durability import require_syncs
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal

UMADB = "UmaDB, 64 threads"
CALLERS = 64
STARTS_WITHIN_S = 30.0
BODY = b"\x81\xa6amount\x01"  # of a deposit of 1


def umadb(bench: Bench) -> Iterator[Case]:
    """Packed accounts of one shard on Ray; UmaDB's callers have an account each, and know its last position."""
    calls = bench.pick(full=20_000, quick=2_000, tiny=128)
    with (
        _bank(bench.directory()) as append,
        running(bench, "packed", shards=1) as runtime,
        Balance(runtime, ACCOUNTS) as balance,
    ):
        yield Case(
            f"{CALLERS} callers, single commands",
            "commands/s",
            lambda: deposits(balance, CALLERS, calls).rate,
            {UMADB: (lambda: append(calls // 2)) if append else None},
            (Goal(">=", 2),),
        )


@contextmanager
def _bank(directory: Path) -> Iterator[Callable[[int], float] | None]:
    """Give what makes so many conditional appends and returns their rate; None without UmaDB."""
    try:
        module = import_module("umadb")
    except ImportError:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen(
        [Path(sys.executable).parent / "umadb", "--listen", address, "--db-path", directory],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        client = _client(module, server, f"http://{address}")
        require_syncs([server.pid], lambda: client.append([module.Event("Opened", b"")]))
        yield lambda calls: _rate(module, client, calls)
    finally:
        server.terminate()
        server.wait()


def _client(module: Any, server: subprocess.Popen[bytes], url: str) -> Any:
    """Return a client of a server that answers."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            client = module.Client(url)
            client.check_health()
            return client
        except module.TransportError:
            assert server.poll() is None, "UmaDB has ended"
            assert time.monotonic() < deadline, "UmaDB does not answer"
            time.sleep(0.05)


def _rate(module: Any, client: Any, calls: int) -> float:
    each, head = calls // CALLERS, client.head()

    def caller(number: int) -> None:
        tags, last = [f"Account/a{number}"], head
        query = module.Query([module.QueryItem(tags=tags)])
        for _ in range(each):
            condition = module.AppendCondition(query, last)
            last = client.append([module.Event("Deposited", BODY, tags=tags)], condition)

    with ThreadPoolExecutor(CALLERS) as callers:
        begun = time.perf_counter()
        list(callers.map(caller, range(CALLERS)))
        seconds = time.perf_counter() - begun
    assert client.head() == head + CALLERS * each
    return CALLERS * each / seconds
