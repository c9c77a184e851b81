"""Inbox: a batch is taken once, and its answers come back as they are ready."""

from __future__ import annotations

import asyncio

import pytest

from eventray.runtime import inbox
from eventray.runtime.config import Config
from eventray.runtime.inbox import Inbox
from eventray.runtime.wire import Answerer, Batch, BatchRefused, CommandItem, Kind, Reply

CONFIG = Config(reply_first_s=0.01, reply_grace_s=0.01)


def item(name: str) -> CommandItem:
    return CommandItem("A", name, "go", b"", name, False, None, b"")


def batch(number: int, *names: str, floor: int = 0, voids: tuple[int, ...] = (), epoch: int = 7) -> Batch:
    return Batch("client", epoch, number, floor, voids, [item(name) for name in names])


class Target:
    """Answers every item at once, but those whose name begins with "slow"."""

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.waiting: dict[str, Answerer] = {}
        self.inbox = Inbox(7, self.handle, CONFIG)

    def handle(self, item: CommandItem, answer: Answerer) -> None:
        self.handled.append(item.id)
        if item.id.startswith("slow"):
            self.waiting[item.id] = answer
        else:
            answer(Kind.VALUE, item.id)


async def test_all_answers_come_in_one_reply_when_they_are_ready() -> None:
    reply = await Target().inbox.submit(batch(1, "a", "b"))
    assert [(answer.item, answer.payload) for answer in reply.answers] == [(0, "a"), (1, "b")]
    assert not reply.pending


async def test_a_slow_item_does_not_hold_up_the_others() -> None:
    target = Target()
    reply = await target.inbox.submit(batch(1, "a", "slow", "b"))
    assert [answer.item for answer in reply.answers] == [0, 2]
    assert reply.pending
    rest = asyncio.create_task(target.inbox.collect("client", 1))
    target.waiting["slow"](Kind.VALUE, "late")
    last = await rest
    assert [(answer.item, answer.payload) for answer in last.answers] == [(1, "late")]
    assert not last.pending


async def test_an_item_is_answered_once() -> None:
    target = Target()
    await target.inbox.submit(batch(1, "slow"))
    for payload in ("first", "second"):
        target.waiting["slow"](Kind.VALUE, payload)
    reply = await target.inbox.collect("client", 1)
    assert [answer.payload for answer in reply.answers] == ["first"]


async def test_a_batch_that_arrives_twice_is_refused_the_second_time() -> None:
    target = Target()
    await target.inbox.submit(batch(1, "a"))
    with pytest.raises(BatchRefused):
        await target.inbox.submit(batch(1, "a"))
    assert target.handled == ["a"]


async def test_a_call_that_arrives_after_its_own_retry_is_refused() -> None:
    target = Target()
    await target.inbox.submit(batch(3, "a", voids=(2,)))  # the client gave up number 2 and sent its items as 3
    with pytest.raises(BatchRefused):
        await target.inbox.submit(batch(2, "a"))
    assert target.handled == ["a"]


async def test_a_call_below_the_floor_is_refused() -> None:
    target = Target()
    await target.inbox.submit(batch(9, "a", floor=9))
    with pytest.raises(BatchRefused):
        await target.inbox.submit(batch(4, "b"))


async def test_calls_of_one_client_may_arrive_out_of_order() -> None:
    target = Target()
    await target.inbox.submit(batch(2, "b", floor=1))
    await target.inbox.submit(batch(1, "a", floor=1))
    assert target.handled == ["b", "a"]


async def test_a_batch_for_another_incarnation_is_refused() -> None:
    target = Target()
    with pytest.raises(BatchRefused, match="epoch 6"):
        await target.inbox.submit(batch(1, "a", epoch=6))
    assert target.inbox.hello("client") == 7


async def test_answers_of_an_unknown_batch_are_refused() -> None:
    with pytest.raises(BatchRefused):
        await Target().inbox.collect("client", 5)


async def test_a_batch_that_must_be_alone_waits_for_what_runs_and_keeps_others_out() -> None:
    target = Target()
    await target.inbox.submit(batch(1, "slow"))
    alone = asyncio.create_task(target.inbox.submit(batch(2, "slow alone")._replace(alone=True)))
    others = asyncio.create_task(target.inbox.submit(batch(3, "other")))
    await asyncio.wait([alone, others], timeout=0.05)
    assert target.handled == ["slow"]
    assert not alone.done()
    target.waiting["slow"](Kind.VALUE, "done")
    assert await alone == Reply([], True)
    assert target.handled == ["slow"]  # its client has to come for it
    collected = asyncio.create_task(target.inbox.collect("client", 2))
    await asyncio.wait([collected, others], timeout=0.05)
    assert target.handled == ["slow", "slow alone"]
    target.waiting["slow alone"](Kind.VALUE, "done")
    assert [answer.payload for answer in (await collected).answers] == ["done"]
    assert [answer.payload for answer in (await others).answers] == ["other"]


async def test_a_client_that_does_not_come_for_its_turn_alone_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "RESERVED_S", 0.01)
    target = Target()
    assert await target.inbox.submit(batch(1, "lonely")._replace(alone=True)) == Reply([], True)
    assert (await target.inbox.submit(batch(2, "other"))).answers[0].payload == "other"
    with pytest.raises(BatchRefused, match="not open"):
        await target.inbox.collect("client", 1)
    assert target.handled == ["other"]


@pytest.mark.parametrize("limit", [{"actor_commands_max": 2}, {"actor_bytes_max": 2 * item("slow").size}])
async def test_what_an_actor_has_no_room_for_is_refused_at_once_whoever_sends_it(limit: dict[str, int]) -> None:
    target = Target()
    target.inbox = Inbox(7, target.handle, Config(reply_first_s=0.01, reply_grace_s=0.01, **limit))  # type: ignore[arg-type]
    await target.inbox.submit(batch(1, "slow 1", "slow 2"))
    reply = await target.inbox.submit(batch(1, "a", "b")._replace(client="another"))
    assert [(answer.kind, answer.payload[2]) for answer in reply.answers] == [
        (Kind.FULL, "commands and queries" if "actor_commands_max" in limit else "bytes of arguments")
    ] * 2
    assert not reply.pending
    target.waiting["slow 1"](Kind.VALUE, "done")
    assert (await target.inbox.submit(batch(2, "c"))).answers[0].payload == "c"
    assert target.handled == ["slow 1", "slow 2", "c"]
    assert target.inbox.overloaded == {"A": 2}


async def test_an_item_whose_handler_fails_keeps_nobody_else_waiting() -> None:
    target = Target()

    def handle(item: CommandItem, answer: Answerer) -> None:
        if item.id == "bad":
            raise ZeroDivisionError("a fault of ours")
        target.handle(item, answer)

    box = Inbox(7, handle, CONFIG)
    reply = await box.submit(batch(1, "a", "bad", "b"))
    assert [(answer.item, answer.kind) for answer in reply.answers] == [
        (0, Kind.VALUE),
        (1, Kind.ERROR),
        (2, Kind.VALUE),
    ]
    assert await box.submit(batch(2, "alone")._replace(alone=True)) == Reply([], True)


async def test_a_batch_of_more_than_there_is_room_for_is_taken_while_its_items_are_answered_at_once() -> None:
    target = Target()
    target.inbox = Inbox(7, target.handle, Config(actor_commands_max=2))
    reply = await target.inbox.submit(batch(1, "a", "slow", "b", "c", "slow too", "d"))
    assert [(answer.item, answer.kind) for answer in reply.answers] == [
        (0, Kind.VALUE),
        (2, Kind.VALUE),
        (3, Kind.VALUE),
        (5, Kind.FULL),
    ]
