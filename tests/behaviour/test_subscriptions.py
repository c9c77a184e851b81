"""Subscriptions: events as they come, from where the last loop ended; the same on every transport."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from eventray import Event, Runtime, StoreMismatch, UnknownName
from eventray.store import reshard
from tests.bank_app import Account, Deposited, Opened
from tests.conftest import Start, in_this_process, wherever_they_live


class Elsewhere(Event):
    """No event of the app."""


def deposit(runtime: Runtime, first: int, last: int, accounts: int = 5) -> None:
    for n in range(first, last + 1):
        runtime.get(Account, f"a{n % accounts}").deposit.remote(Decimal(n)).result()


def take(runtime: Runtime, count: int, **options: Any) -> list[int]:
    """The amounts of the next deposits; the loop is left with the last one, which is not handled then."""
    feed = runtime.subscribe(events=(Deposited,), **options)
    return [int(event.amount) for event, _ in islice(feed, count)]  # type: ignore[attr-defined]


def handle(runtime: Runtime, count: int, **options: Any) -> list[int]:
    """The same, but the loop ends after it has asked for one more."""
    found = take(runtime, count + 1, **options)
    return found[:-1]


@wherever_they_live
def test_all_events_come_in_the_order_of_their_streams(start: Start) -> None:
    runtime = start(shards=2, read_page_events=3)
    deposit(runtime, 1, 40)
    found = list(islice(runtime.subscribe(), 40))
    assert sorted(int(event.amount) for event, _ in found) == list(range(1, 41))  # type: ignore[attr-defined]
    for number in range(5):
        versions = [meta.version for _, meta in found if meta.id == f"a{number}"]
        assert versions == list(range(1, 9))


@wherever_they_live
def test_it_waits_for_news(own_runtime: Runtime) -> None:
    runtime = own_runtime
    got: list[int] = []
    deposit(runtime, 1, 5)
    behind = runtime.heads().result()
    reading = threading.Thread(target=lambda: got.extend(take(runtime, 3, after=behind)))
    reading.start()
    deposit(runtime, 6, 8)
    reading.join()
    assert sorted(got) == [6, 7, 8]


@in_this_process
def test_other_classes_of_events_are_left_out(own_runtime: Runtime) -> None:
    runtime = own_runtime
    runtime.get(Account, "a1").open.remote("Alice").result()
    deposit(runtime, 1, 3)
    assert sorted(take(runtime, 3)) == [1, 2, 3]
    [(event, meta)] = islice(runtime.subscribe(events=(Opened,)), 1)
    assert (event, meta.event_id) == (Opened("Alice"), "Account/a1@1")


@wherever_they_live
def test_a_name_goes_on_behind_what_was_handled_also_in_the_next_run(start: Start) -> None:
    runtime = start(shards=2)
    deposit(runtime, 1, 20)
    first = handle(runtime, 7, name="mailer")
    assert len(first) == 7
    second = handle(runtime, 5, name="mailer")
    runtime.shutdown().result()
    again = start(local=True, shards=2)
    deposit(again, 21, 21)
    rest = take(again, 9, name="mailer")
    assert Counter([*first, *second, *rest]) == Counter(range(1, 22))
    assert sorted(take(again, 21)) == list(range(1, 22))  # one without a name has all


@in_this_process
def test_an_event_that_was_not_handled_to_the_end_comes_again(own_runtime: Runtime) -> None:
    runtime = own_runtime
    deposit(runtime, 1, 3, accounts=1)
    for event, _ in runtime.subscribe(name="mailer"):
        assert isinstance(event, Deposited)
        if event.amount == 2:
            break  # as an exception would
    assert take(runtime, 2, name="mailer") == [2, 3]


@in_this_process
def test_an_async_loop_gets_the_same(own_runtime: Runtime) -> None:
    runtime = own_runtime
    deposit(runtime, 1, 10)

    async def read() -> list[int]:
        found = []
        async for event, _ in runtime.subscribe(events=(Deposited,), name="mailer"):
            found.append(int(event.amount))  # type: ignore[attr-defined]
            if len(found) == 10:
                break
        return found

    assert sorted(asyncio.run(read())) == list(range(1, 11))


@in_this_process
def test_a_slow_loop_holds_at_most_a_page_of_each_shard(start: Start) -> None:
    runtime = start(shards=2, read_page_events=2)
    deposit(runtime, 1, 4)
    loop = iter(runtime.subscribe())
    seen = [next(loop)]
    deposit(runtime, 5, 40)  # nobody waits for the loop
    seen += islice(loop, 39)
    assert len({meta.event_id for _, meta in seen}) == 40


@in_this_process
def test_positions_of_another_generation_are_refused_unless_it_is_told_where_to_go_on(
    start: Start, tmp_path: Path
) -> None:
    with start(shards=2) as runtime:
        deposit(runtime, 1, 4)
        assert len(handle(runtime, 3, name="mailer")) == 3
        before = runtime.heads().result()
    reshard(tmp_path / "data", shards=3)
    with start(shards=3) as runtime:
        for options in ({"name": "mailer"}, {"after": before}):
            with pytest.raises(StoreMismatch, match="heads"):
                take(runtime, 1, **options)
        now = runtime.heads().result()
        deposit(runtime, 5, 6)
        assert sorted(handle(runtime, 1, name="mailer", after=now) + take(runtime, 1, name="mailer")) == [5, 6]


@in_this_process
def test_what_cannot_be_subscribed_to_is_refused(runtime: Runtime) -> None:
    with pytest.raises(TypeError, match="not a class derived from Event"):
        runtime.subscribe(events=(int,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name"):
        runtime.subscribe(name="")
    with pytest.raises(UnknownName, match="Elsewhere"):
        next(iter(runtime.subscribe(events=(Elsewhere,))))
