"""Packed activations: who leaves memory, and what slow commands and long loads of one delay of the others."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventray import App, CommandFailed, Packed
from eventray.runtime.config import Config
from eventray.runtime.hosting import PackedHost
from eventray.runtime.threads import Threads
from eventray.runtime.wire import CommandItem, Kind
from eventray.store import NewCommand, NewRecord
from eventray.store.shard import Shard
from tests.bank_app import Account, Deposited
from tests.waiting import LIMIT_S, until


@pytest.fixture
async def shard(tmp_path: Path) -> AsyncIterator[Shard]:
    opened = await Shard.open(tmp_path, 0, store_id="s", generation=1, run="r", create=True)
    yield opened
    await opened.close()


class Host:
    """A packed host with accounts, and ways to ask it."""

    def __init__(self, shard: Shard, placement: Packed, **settings: Any) -> None:
        app = App("tests", aggregates=[Account], placement={Account: placement})
        self.model = app.aggregates["Account"]
        self.host = PackedHost(app, shard, Config(**settings))

    def send(self, id: str, name: str, *args: Any) -> asyncio.Future[tuple[Kind, Any]]:
        answer: asyncio.Future[tuple[Kind, Any]] = asyncio.get_running_loop().create_future()
        data = self.model.commands[name].encode(args, {})
        item = CommandItem("Account", id, name, data, uuid.uuid4().hex, False, None, b"")
        self.host.handle(item, lambda kind, payload: answer.set_result((kind, payload)))
        return answer

    @property
    def in_memory(self) -> list[str]:
        return list(self.host._active["Account"])

    @property
    def counts(self) -> tuple[int, int, int]:
        [found] = self.host.statuses()
        return (found.active, found.started, found.passivated)


@asynccontextmanager
async def running(shard: Shard, placement: Packed, **settings: Any) -> AsyncIterator[Host]:
    host = Host(shard, placement, **settings)
    yield host
    await host.host.drain()


async def test_the_least_recently_used_leaves_first(shard: Shard) -> None:
    async with running(shard, Packed(max_active=3)) as host:
        for id in ("a", "b", "c", "a", "d"):
            await host.send(id, "deposit", Decimal(1))
        assert host.in_memory == ["c", "a", "d"]
        kind, receipt = await host.send("b", "deposit", Decimal(1))
        assert (kind, receipt.version) == (Kind.RECEIPT, 2)
        assert host.counts == (3, 5, 2)


async def test_none_with_work_leaves_and_there_are_no_more_than_allowed_when_the_work_is_done(
    shard: Shard, tmp_path: Path
) -> None:
    path = tmp_path / "go"
    async with running(shard, Packed(max_active=2)) as host:
        slow = [host.send(f"slow-{n}", "wait_for_file", str(path)) for n in range(20)]
        quick = [await host.send(f"quick-{n}", "deposit", Decimal(1)) for n in range(50)]
        assert {kind for kind, _ in quick} == {Kind.RECEIPT}
        assert [answer.done() for answer in slow] == [False] * 20
        assert {f"slow-{n}" for n in range(20)} <= set(host.in_memory)
        assert len(host.in_memory) <= 20 + 2
        path.touch()
        assert {(await answer)[0] for answer in slow} == {Kind.RECEIPT}
        await host.host.drain()
        await until(lambda: not host.host._tasks)  # they end in the next turns of the loop
        assert len(host.in_memory) == 2


async def test_what_is_idle_for_its_timeout_leaves(shard: Shard) -> None:
    async with running(shard, Packed(idle_timeout=0.01)) as host:
        await host.send("a", "deposit", Decimal(1))
        await until(lambda: not host.in_memory)
        assert host.counts == (0, 1, 1)


async def test_a_long_load_delays_no_other_instance(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(shard, Packed(), load_page_events=5) as host:
        name, version, data = host.model.events.encode(Deposited(Decimal(1)))
        records = [NewRecord(name, data, b"", version)] * 500
        await shard.append_batch("Account/long", [NewCommand(None, records)])
        read_stream, pages, half_way, go_on = shard.read_stream, 0, asyncio.Event(), asyncio.Event()

        async def slow(*args: Any, **kwargs: Any) -> Any:
            nonlocal pages
            pages += 1
            if pages == 50:
                half_way.set()
                await go_on.wait()
            return await read_stream(*args, **kwargs)

        monkeypatch.setattr(shard, "read_stream", slow)
        long = host.send("long", "deposit", Decimal(1))
        await half_way.wait()
        kinds = {(await host.send(f"quick-{n}", "deposit", Decimal(1)))[0] for n in range(20)}
        assert (kinds, long.done()) == ({Kind.RECEIPT}, False)
        go_on.set()
        kind, receipt = await long
        assert (kind, receipt.version, pages) == (Kind.RECEIPT, 501, 99)


async def test_a_fault_where_a_round_is_handed_to_the_shard_leaves_no_command_without_an_answer(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    async with running(shard, Packed()) as host, asyncio.timeout(LIMIT_S):
        await host.send("a", "deposit", Decimal(1))
        await host.send("b", "deposit", Decimal(1))
        with monkeypatch.context() as patched:
            patched.setattr(shard, "submit_batch", fault)
            failed = [await answer for answer in [host.send(id, "deposit", Decimal(1)) for id in ("a", "a", "b")]]
        assert [(kind, type(error)) for kind, error in failed] == [(Kind.ERROR, CommandFailed)] * 3
        assert [(await host.send(id, "deposit", Decimal(1)))[1].version for id in ("a", "b")] == [2, 2]


async def test_an_undeclared_slow_command_is_named_once(shard: Shard, caplog: pytest.LogCaptureFixture) -> None:
    async with running(shard, Packed(), slow_command_s=1e-9) as host:
        with caplog.at_level(logging.WARNING, logger="eventray.runtime"):
            for _ in range(3):
                await host.send("a", "deposit", Decimal(1))
        [message] = caplog.messages
        assert message.startswith("Account.deposit computed for")
        assert "blocking=True" in message


async def test_threads_are_no_more_than_allowed_and_give_what_the_call_raised() -> None:
    threads = Threads(2)
    running, most, lock, go = 0, 0, threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait()
        with lock:
            running -= 1

    tasks = [asyncio.create_task(threads.run(work)) for _ in range(6)]
    await until(lambda: running == 2)
    go.set()
    await asyncio.gather(*tasks)
    assert most == 2

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await threads.run(fail)
