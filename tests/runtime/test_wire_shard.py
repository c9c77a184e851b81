"""What travels between a dedicated activation and its shard arrives as it was, or is not packed at all."""

from __future__ import annotations

from typing import Any

import pytest

from eventray.runtime.wire_shard import (
    Append,
    pack_append,
    pack_loaded,
    pack_result,
    unpack_append,
    unpack_loaded,
    unpack_result,
)
from eventray.store import EventStore, NewCommand, NewRecord

STREAM = "Account/alice"
EVENT = NewRecord("Deposited", b"\x01", b"\x80", 2)
GOOD = NewCommand("tx-1", [EVENT], "deposit", b"print")


def event(**other: Any) -> NewRecord:
    return EVENT._replace(**other)


def command(*events: NewRecord, **other: Any) -> NewCommand:
    return GOOD._replace(records=[*events], **other)


def append(*commands: Any, stream: Any = STREAM, version: Any = 3, token: Any = 2**40, lookups: Any = ()) -> Append:
    return Append(stream, [*commands], version, token, lookups)


@pytest.mark.parametrize(
    "whole",
    [
        append(GOOD, NewCommand(None, [event(type="naïve 🙂", data=b""), EVENT])),
        append(version=None, token=None, lookups=("a", "b")),
        append(command(event(data=bytes(2**21)))),  # too large, which only its shard can say
    ],
)
def test_an_append_arrives_as_it_was(whole: Append) -> None:
    data = pack_append(whole)
    assert data is not None
    assert unpack_append(data) == whole


@pytest.mark.parametrize(
    "bad",
    [
        append(command(event(data=bytearray(b"1")))),
        append(command(event(meta=memoryview(b"1")))),
        append(command(event(type_version=True))),
        append(command(event(type_version=2**80))),
        append(command(event(type="\ud800"))),
        append(command(EVENT, command_id=7)),
        append(command(EVENT, fingerprint="print")),
        append(GOOD, GOOD),
        append(GOOD, stream="alice"),
        append(GOOD, version=True),
        append(GOOD, version=2**80),
        append(GOOD, token=2**80),
        append(GOOD, lookups=(None,)),
    ],
)
def test_what_no_shard_stores_is_not_packed_so_that_it_cannot_arrive_as_something_else(bad: Append) -> None:
    assert pack_append(bad) is None


async def test_what_a_shard_answers_arrives_as_it_was() -> None:
    shard = EventStore.memory(shards=1).shards[0]
    done = await shard.append_batch(STREAM, [GOOD, NewCommand("tx-2", [EVENT, EVENT])])
    found = await shard.append_batch(STREAM, [NewCommand(None, [])], lookups=("tx-1", "tx-2", "tx-3"))
    assert [unpack_result(pack_result(result)) for result in (done, found)] == [done, found]
    assert set(found.found) == {"tx-1", "tx-2"}
    await shard.save_snapshot(STREAM, version=1, data=b"state", fingerprint="shape")
    asked: list[dict[str, Any]] = [{}, {"fingerprint": "shape", "take_over": True}, {"limit": 2}]
    for options in asked:
        loaded = await shard.load(STREAM, **options)
        assert unpack_loaded(pack_loaded(loaded)) == loaded
        assert loaded.records
