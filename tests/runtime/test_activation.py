"""Activation: recovery, conflicts with writers outside, take-over, purity; on a real shard, without a transport."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventray import App, CommandFailed, ConcurrencyConflict, Event, ImpureCommand, Overloaded, Packed
from eventray.domain.aggregate import Aggregate, command
from eventray.runtime.activation import Activation
from eventray.runtime.config import Config
from eventray.runtime.decide import Decider
from eventray.runtime.streamlog import merged
from eventray.runtime.wire import CommandItem, Kind, ReceiptData
from eventray.store import NewCommand, NewRecord, ShardPort
from eventray.store.shard import Shard
from tests.bank_app import Account, Deposited

STREAM = "Account/alice"
MODEL = App("tests", aggregates=[Account], placement={Account: Packed()}).aggregates["Account"]


@pytest.fixture
async def shard(tmp_path: Path) -> AsyncIterator[Shard]:
    opened = await Shard.open(tmp_path, 0, store_id="s", generation=1, run="r", create=True)
    yield opened
    await opened.close()


class Running:
    """An activation and the answers it gave."""

    def __init__(self, shard: ShardPort, *, take_over: bool = False, **settings: Any) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        config = Config(**settings)
        decider = Decider(MODEL, config)
        self.outcomes = decider.outcomes
        self.activation = Activation(decider, STREAM, shard, take_over=take_over, schedule=self._run)

    def _run(self, activation: Activation) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(activation.run()))

    def send(self, name: str, *args: Any, id: str = "", **kwargs: Any) -> asyncio.Future[tuple[Kind, Any]]:
        answer: asyncio.Future[tuple[Kind, Any]] = asyncio.get_running_loop().create_future()
        data = MODEL.commands[name].encode(args, kwargs)
        item = CommandItem("Account", "alice", name, data, id or uuid.uuid4().hex, bool(id), None, b"")

        def finish(kind: Kind, payload: Any) -> None:
            if not answer.done():
                answer.set_result((kind, payload))

        self.activation.submit(item, finish)
        return answer


async def deposited_outside(shard: Shard, amount: int = 1) -> None:
    name, version, data = MODEL.events.encode(Deposited(Decimal(amount)))
    await shard.append_batch(STREAM, [NewCommand(None, [NewRecord(name, data, b"", version)])])


async def test_an_append_of_another_writer_is_loaded_and_the_command_decided_again(shard: Shard) -> None:
    one = Running(shard)
    await one.send("deposit", Decimal(5))
    await deposited_outside(shard, 10)
    kind, receipt = await one.send("withdraw", Decimal(12))  # refused on what it knew, right on what there is
    assert (kind, receipt.version) == (Kind.RECEIPT, 3)


async def test_a_writer_that_always_comes_first_ends_in_a_conflict(shard: Shard, monkeypatch: Any) -> None:
    one = Running(shard, conflict_attempts_max=3)
    append = shard.append_batch
    tries = 0

    async def overtaken(*args: Any, **kwargs: Any) -> Any:
        nonlocal tries
        tries += 1
        monkeypatch.setattr(shard, "append_batch", append)
        await deposited_outside(shard)
        monkeypatch.setattr(shard, "append_batch", overtaken)
        return await append(*args, **kwargs)

    await one.send("deposit", Decimal(1))
    monkeypatch.setattr(shard, "append_batch", overtaken)
    kind, error = await one.send("deposit", Decimal(1))
    assert kind is Kind.ERROR
    assert isinstance(error, ConcurrencyConflict)
    assert tries == 3


async def test_loading_takes_over_and_the_one_before_ends_without_an_answer_of_its_own(shard: Shard) -> None:
    old, new = Running(shard, take_over=True), Running(shard, take_over=True)
    await old.send("deposit", Decimal(1))
    await new.send("deposit", Decimal(1))
    for refused in (old.send("deposit", Decimal(1)), old.send("withdraw", Decimal(100))):
        kind, _ = await refused
        assert kind is Kind.AGAIN  # not even a refusal: it may be stale
    assert old.activation.superseded
    kind, receipt = await new.send("deposit", Decimal(1))
    assert (kind, receipt.version) == (Kind.RECEIPT, 3)


async def test_it_recovers_from_its_snapshot_and_the_events_after_it(shard: Shard) -> None:
    one = Running(shard, load_page_events=3)
    for _ in range(30):
        await one.send("deposit", Decimal(1))
    snapshot = await shard.load_snapshot(STREAM)
    assert snapshot is not None
    assert snapshot.version == 20
    again = Running(shard, load_page_events=3)
    kind, receipt = await again.send("withdraw", Decimal(30))
    assert (kind, receipt.version) == (Kind.RECEIPT, 31)


async def test_a_failure_in_a_batch_does_not_take_others_with_it(shard: Shard) -> None:
    one = Running(shard)
    answers = [
        one.send("deposit", Decimal(1), id="1"),
        one.send("break_down", id="2"),
        one.send("deposit", Decimal(1), id="3"),
        one.send("change_state", id="4"),
        one.send("deposit", Decimal(1), id="5"),
    ]
    kinds = [await answer for answer in answers]
    assert [kind for kind, _ in kinds] == [Kind.RECEIPT, Kind.ERROR, Kind.RECEIPT, Kind.ERROR, Kind.RECEIPT]
    assert isinstance(kinds[1][1], CommandFailed)
    assert isinstance(kinds[3][1], ImpureCommand)
    assert kinds[4][1].version == 3


async def test_an_id_used_for_two_things_in_one_batch_serves_the_first(shard: Shard) -> None:
    one = Running(shard)
    first, second, third = (one.send("deposit", Decimal(n), id="same") for n in (1, 2, 1))
    assert (await first)[0] is Kind.RECEIPT
    assert (await second)[0] is Kind.ERROR
    kind, receipt = await third
    assert kind is Kind.RECEIPT
    assert isinstance(receipt, ReceiptData)
    assert (receipt.version, receipt.duplicate) == (1, True)


class Noted(Event):
    text: str


class Notebook(Aggregate):
    notes: list[str] = []

    @command
    def note(self, text: str) -> Noted:
        self.notes.append(text)  # deep in the state: only a comparison of all of it finds this
        return Noted(text)

    def apply(self, event: Noted) -> None:
        self.notes.append(event.text)


@pytest.mark.parametrize("check_purity", [True, False])
async def test_a_change_deep_in_the_state_is_found_on_request(shard: Shard, check_purity: bool) -> None:
    model = App("tests", aggregates=[Notebook]).aggregates["Notebook"]
    config = Config(check_purity=check_purity)
    tasks = []
    activation = Activation(
        Decider(model, config),
        "Notebook/a",
        shard,
        take_over=False,
        schedule=lambda activation: tasks.append(asyncio.ensure_future(activation.run())),
    )
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    args = model.commands["note"].encode(("x",), {})
    item = CommandItem("Notebook", "a", "note", args, "id", False, None, b"")
    activation.submit(item, lambda kind, payload: answer.set_result(payload))
    assert isinstance(await answer, ImpureCommand) is check_purity


async def test_a_fault_of_the_engine_answers_everything_and_the_next_command_begins_anew(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenError(Exception):
        pass

    def broken(*args: Any) -> None:
        raise BrokenError("a bug of ours")

    one = Running(shard)
    await one.send("deposit", Decimal(1))
    with monkeypatch.context() as patched:
        patched.setattr(Decider, "decide", broken)
        answers = [one.send("deposit", Decimal(1)) for _ in range(3)]
        assert [(await answer)[0] for answer in answers] == [Kind.ERROR] * 3
    kind, receipt = await one.send("deposit", Decimal(1))
    assert (kind, receipt.version) == (Kind.RECEIPT, 2)


async def test_a_full_mailbox_takes_nothing_more_and_goes_on(shard: Shard) -> None:
    one = Running(shard, mailbox_commands_max=3)
    answers = [one.send("deposit", Decimal(n)) for n in range(1, 6)]
    ended = [await answer for answer in answers]
    assert [kind for kind, _ in ended] == [Kind.RECEIPT] * 3 + [Kind.FULL] * 2
    assert ended[4][1][:2] == (STREAM, 3)
    kind, receipt = await one.send("deposit", Decimal(1))
    assert (kind, receipt.version) == (Kind.RECEIPT, 4)
    assert one.outcomes == {"answered": 4, "overloaded": 2}


async def test_an_overloaded_shard_refuses_without_a_word_on_earlier_runs(shard: Shard, monkeypatch: Any) -> None:
    one = Running(shard)
    await one.send("deposit", Decimal(1))

    async def overloaded(*args: Any, **kwargs: Any) -> Any:
        raise Overloaded("shard 0", 5, "waiting appends", 0.05)

    with monkeypatch.context() as patched:
        patched.setattr(shard, "append_batch", overloaded)
        assert await one.send("deposit", Decimal(1)) == (Kind.FULL, ("shard 0", 5, "waiting appends", 0.05))
    kind, receipt = await one.send("deposit", Decimal(1))
    assert (kind, receipt.version) == (Kind.RECEIPT, 2)
    assert one.outcomes == {"answered": 2, "overloaded": 1}


async def test_many_events_of_many_commands_are_several_commits_within_the_limits_of_the_shard(tmp_path: Path) -> None:
    config = Config(command_events_max=2)
    shard = await Shard.open(tmp_path, 0, store_id="s", generation=1, run="r", limits=config.store_limits, create=True)
    one = Running(shard, command_events_max=2)
    ended = [await answer for answer in [one.send("deposit_twice", Decimal(1)) for _ in range(10)]]
    assert [(kind, receipt.version) for kind, receipt in ended] == [(Kind.RECEIPT, 2 * n) for n in range(1, 11)]
    await shard.close()


def test_ranges_that_lie_close_together_are_one() -> None:
    assert merged([(9, 9), (1, 2), (5, 5)], gap=2) == [(1, 5), (9, 9)]
    assert merged([(9, 9), (1, 2), (5, 5)], gap=3) == [(1, 9)]
    assert merged([], gap=3) == []
