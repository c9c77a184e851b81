"""`callers` and `hot`: callers that wait for each answer, one to a thousand of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from benchmarks import peer
from benchmarks.bank import Account, Balance, running
from benchmarks.closed_loop import Loop, closed_loop
from benchmarks.harness import Bench, Case, Side, Told
from benchmarks.own_ray import bare_actor
from benchmarks.result import Goal

ACCOUNTS = [f"a{number}" for number in range(1_000)]
PEER = "eventsourcing"
BARE = "a bare Ray actor, called the same way"
_RATES: dict[int, tuple[Goal, ...]] = {
    8: (),
    64: (Goal(">=", 15_000, "figure"),),
    256: (),
    1_024: (Goal(">=", 45_000, "figure"),),
}


def callers(bench: Bench) -> Iterator[Case]:
    """Packed accounts of one shard on Ray; each call is a deposit to the next account.

    One shard: callers that wait share its calls and its commits. Spread over four, each has a quarter of them in every
    call, and on two cores nothing else to gain.
    """
    calls = bench.pick(full=20_000, quick=2_000, tiny=100)
    few = calls // 20
    with running(bench, "packed", shards=1) as runtime, bare_actor() as bare, Balance(runtime, ACCOUNTS) as balance:
        yield Case(
            "1 caller, one shard: p50",
            "ms",
            lambda: deposits(balance, 1, few).p50_ms,
            {BARE: lambda: closed_loop(1, few, bare_call(bare)).p50_ms},
            (Goal("<=", 2),),
        )
        for count, goals in _RATES.items():
            own = calls // 4 if count < 64 else calls
            runs = Told(partial(deposits, balance, count, own))
            yield Case(
                f"{count:,} callers, one shard",
                "commands/s",
                runs.made(lambda loop: loop.rate),
                {BARE: partial(lambda count: closed_loop(count, few, bare_call(bare)).rate, count)},
                goals,
            )
            yield Case(
                f"{count:,} callers, one shard: p50",
                "ms",
                runs.told(lambda loop: loop.p50_ms),
                goals=(Goal("<=", 5, "figure"),) if count == 64 else (),
            )


def hot(bench: Bench) -> Iterator[Case]:
    """One packed account that everybody wants."""
    calls = bench.pick(full=10_000, quick=2_000, tiny=100)
    with (
        peer.bank(bench.directory(), 1) as peer_deposits,
        running(bench, "packed") as runtime,
        Balance(runtime, ["hot"]) as balance,
    ):
        for count, bound in ((64, 5), (256, 10)):
            yield Case(
                f"{calls:,} deposits to one account, {count} outstanding",
                "commands/s",
                partial(lambda count: deposits(balance, count, calls).rate, count),
                {PEER: peer_side(peer_deposits, calls // 4)},
                (Goal(">=", bound, to=PEER),),
            )


def deposits(balance: Balance, callers: int, calls: int) -> Loop:
    """Have callers pay into the accounts in turn."""
    handles = [balance.runtime.get(Account, name) for name in balance.names]
    with balance.grows_by(calls):
        return closed_loop(callers, calls, lambda number: handles[number % len(handles)].deposit.remote(1))


def bare_call(bare: Any) -> Callable[[int], Awaitable[Any]]:
    """Give what calls a bare actor."""
    return lambda _: bare.deposit.remote(1)


def peer_side(peer_deposits: Callable[[int], float] | None, calls: int) -> Side | None:
    """Give the side of the peer, which deposits one after the other."""
    return None if peer_deposits is None else lambda: calls / peer_deposits(calls)
