"""`dedicated`: an instance in an actor of its own, from its first command on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import count

from benchmarks.bank import Account, Balance, running
from benchmarks.callers import BARE, bare_call, deposits
from benchmarks.closed_loop import closed_loop
from benchmarks.harness import Bench, Case
from benchmarks.own_ray import bare_actor, make_bare
from benchmarks.result import Goal
from eventray import Runtime

_NEW = count()


def dedicated(bench: Bench) -> Iterator[Case]:
    """The first command makes the actor; the others go through it to its shard."""
    calls = bench.pick(full=10_000, quick=1_000, tiny=50)
    few = calls // 10
    with running(bench, "dedicated") as runtime, bare_actor() as bare, Balance(runtime, ["one"]) as balance:
        yield Case(
            "first command to a new instance",
            "ms",
            lambda: 1000 * _first_command(runtime),
            {"making a bare Ray actor and calling it": lambda: 1000 * _first_call()},
            (Goal("<=", 1.2),),
        )
        yield Case(
            "1 caller: p50",
            "ms",
            lambda: deposits(balance, 1, few).p50_ms,
            {BARE: lambda: closed_loop(1, few, bare_call(bare)).p50_ms},
            (Goal("<=", 3),),
        )
        for callers, bound in ((64, 8_000), (256, 20_000)):
            yield Case(
                f"{callers} outstanding",
                "commands/s",
                partial(lambda callers: deposits(balance, callers, calls).rate, callers),
                {BARE: partial(lambda callers: closed_loop(callers, few, bare_call(bare)).rate, callers)},
                (Goal(">=", bound, "figure"),),
            )


def _first_command(runtime: Runtime) -> float:
    begun = time.perf_counter()
    receipt = runtime.get(Account, f"new-{next(_NEW)}").deposit.remote(1).result()
    seconds = time.perf_counter() - begun
    assert receipt.version == 1
    return seconds


def _first_call() -> float:
    import ray

    begun = time.perf_counter()
    actor = make_bare()
    assert ray.get(actor.deposit.remote(1)) == 1
    seconds = time.perf_counter() - begun
    ray.kill(actor)
    return seconds
