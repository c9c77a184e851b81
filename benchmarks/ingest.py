"""`ingest`: one client, many packed accounts, as much as goes through."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import peer
from benchmarks.bank import Account, Balance, running
from benchmarks.harness import Bench, Case
from benchmarks.result import Goal
from eventray import Receipt

OUTSTANDING = 1_024
SHARDS = 2  # as many as one client keeps busy on two cores (see the benchmark `shards`)
PEER, LOCAL = "eventsourcing", "the same engine without Ray, one shard"


def ingest(bench: Bench) -> Iterator[Case]:
    """Deposits to 1,000 accounts in turn, 1,024 on the way; the peer saves one after the other, as it does."""
    names = [f"a{number}" for number in range(bench.pick(full=1_000, quick=1_000, tiny=10))]
    deposits = bench.pick(full=100_000, quick=10_000, tiny=200)
    few = deposits // 10  # of the peer: its rate does not depend on how many there are
    settings = {"send_all_commands_max": OUTSTANDING}
    with (
        peer.bank(bench.directory(), len(names)) as peer_deposits,
        running(bench, "packed", SHARDS, **settings) as on_ray,
        running(bench, "local", 1, **settings) as local,
        Balance(on_ray, names) as balance,
        Balance(local, names) as balance_local,
    ):
        yield Case(
            f"{deposits:,} deposits to {len(names):,} packed accounts on {SHARDS} shards, {OUTSTANDING:,} outstanding",
            "commands/s",
            lambda: pay_in(balance, deposits),
            {
                PEER: (lambda: few / peer_deposits(few)) if peer_deposits else None,
                LOCAL: lambda: pay_in(balance_local, deposits),
            },
            (Goal(">=", 15, to=PEER), Goal(">=", 0.9, to=LOCAL)),
        )


def pay_in(balance: Balance, deposits: int) -> float:
    """Pay into the accounts in turn; deposits a second."""
    names = balance.names
    commands = (Account.deposit.to(names[number % len(names)], 1) for number in range(deposits))

    def send() -> None:
        assert [outcome for outcome in balance.runtime.send_all(commands) if not isinstance(outcome, Receipt)] == []

    return balance.timed(deposits, send)
