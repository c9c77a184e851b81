"""Dead letters: events that a consumer left behind."""

from __future__ import annotations

import uuid

import pytest

from eventray.domain.errors import InvalidId
from eventray.store import EventStore, StoredLetter
from eventray.store.admission import REASON_CHARS_MAX
from tests.store.conftest import Reopen, deposits
from tests.store.contract.conftest import Kind

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def consumer() -> str:
    return f"view-{uuid.uuid4().hex}"


def facts(letters: list[StoredLetter]) -> list[tuple[int, int, str]]:
    return [(letter.shard, letter.position, letter.reason) for letter in letters]


async def test_dead_letters_are_kept_in_order_until_they_are_forgotten(
    reopen: Reopen, kind: Kind, alice: str, consumer: str
) -> None:
    store = await reopen()
    done = await store.append(alice, deposits(1, 2, 3))
    shard, last = done.shard, done.position
    for position in (last, last - 2, last - 1):
        await store.park(consumer, shard=shard, position=position, reason=f"number {position}")
    if kind.kept:
        store = await reopen()
    letters = await store.dead_letters(consumer)
    assert facts(letters) == [(shard, p, f"number {p}") for p in (last - 2, last - 1, last)]
    assert all(letter.consumer == consumer and letter.parked_at > 0 for letter in letters)
    await store.unpark(consumer, shard=shard, positions=[last - 2, last, last])
    assert [letter.position for letter in await store.dead_letters(consumer)] == [last - 1]


async def test_a_dead_letter_that_is_there_stays_as_it_is(store: EventStore, alice: str, consumer: str) -> None:
    done = await store.append(alice, deposits(1))
    await store.park(consumer, shard=done.shard, position=done.position, reason="the first reason")
    [first] = await store.dead_letters(consumer)
    await store.park(consumer, shard=done.shard, position=done.position, reason="another")
    assert await store.dead_letters(consumer) == [first]


async def test_each_consumer_has_its_own(store: EventStore, alice: str, consumer: str) -> None:
    done = await store.append(alice, deposits(1))
    other = f"{consumer}-2"
    await store.park(consumer, shard=done.shard, position=done.position, reason="mine")
    await store.park(other, shard=done.shard, position=done.position, reason="theirs")
    await store.unpark(other, shard=done.shard, positions=[done.position])
    assert facts(await store.dead_letters(consumer)) == [(done.shard, done.position, "mine")]
    assert await store.dead_letters(other) == []


async def test_pages_of_dead_letters_follow_each_other(store: EventStore, alice: str, consumer: str) -> None:
    done = await store.append(alice, deposits(*range(1, 6)))
    positions = range(done.position - 4, done.position + 1)
    for position in positions:
        await store.park(consumer, shard=done.shard, position=position, reason="")
    shard = store.shard_of(alice)
    found: list[int] = []
    while page := await shard.dead_letters(consumer, after=found[-1] if found else 0, limit=2):
        assert len(page) <= 2
        found += [letter.position for letter in page]
    assert found == list(positions)


async def test_what_could_not_be_read_back_is_refused(store: EventStore, alice: str, consumer: str) -> None:
    done = await store.append(alice, deposits(1))
    head = (await store.heads())[done.shard]
    for position in (0, -1, head + 1_000_000):
        with pytest.raises(ValueError, match="position"):
            await store.park(consumer, shard=done.shard, position=position, reason="")
    with pytest.raises(ValueError, match="reason"):
        await store.park(consumer, shard=done.shard, position=head, reason="x" * (REASON_CHARS_MAX + 1))
    with pytest.raises(InvalidId):
        await store.park("\ud800", shard=done.shard, position=head, reason="")
    assert await store.dead_letters(consumer) == []
    assert (await store.append(alice, deposits(2))).version == 2
