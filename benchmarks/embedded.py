"""`embedded`: the engine in the caller's own process, `local=True`."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import peer
from benchmarks.bank import Account, Balance, running
from benchmarks.callers import ACCOUNTS, PEER, deposits, peer_side
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal
from eventray import Runtime


def embedded(bench: Bench) -> Iterator[Case]:
    """`local=True`: one caller who waits by `result()`, as the peer's caller waits, and 64 in one event loop.

    One shard, as the peer has one file: in one process more shards only mean smaller commits.
    """
    calls = bench.pick(full=20_000, quick=2_000, tiny=100)
    with (
        peer.bank(bench.directory(), len(ACCOUNTS)) as peer_deposits,
        running(bench, "local", shards=1) as runtime,
        Balance(runtime, ACCOUNTS) as balance,
    ):
        yield Case(
            "1 caller",
            "commands/s",
            lambda: balance.timed(calls // 10, lambda: one_by_one(runtime, calls // 10)),
            {PEER: peer_side(peer_deposits, calls // 10)},
            (Goal(">=", 1, to=PEER),),
        )
        yield Case(
            "64 callers",
            "commands/s",
            lambda: deposits(balance, 64, calls).rate,
            {PEER: peer_side(peer_deposits, calls // 10)},
            (Goal(">=", 12, to=PEER),),
        )


def one_by_one(runtime: Runtime, calls: int) -> None:
    """Have one caller pay into the accounts in turn."""
    handles = [runtime.get(Account, name) for name in ACCOUNTS]
    for number in range(calls):
        handles[number % len(handles)].deposit.remote(1).result()
