"""A page of the log: its columns, and the records that are made of them when somebody looks."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from eventray.domain.errors import StoreCorrupted
from eventray.store import EventStore, Record, rows
from eventray.store.page import Columns, Envelopes, Records
from tests.store.conftest import deposits
from tests.store.sample import APP, STREAMS, build, forge, opened

META = rows.pack_meta(b"user")


def page_of(*metas: bytes | None) -> Records:
    """Events of one stream without commands, with these envelopes."""
    count = len(metas)
    numbers = range(1, count + 1)
    envelopes = Envelopes(metas, [None] * count, [0] * count, {}, "shard.db")
    types = {7: ("Deposited", 2)}
    columns = Columns(
        3, ["A/a"] * count, [*numbers], [7] * count, types, [b"x"] * count, [*numbers], [*numbers], envelopes
    )
    return Records(columns)


def record(number: int, meta: bytes) -> Record:
    return Record("A/a", number, "Deposited", b"x", meta, 3, number, number, None, 2)


def test_a_page_is_a_sequence_of_its_records() -> None:
    page, records = page_of(META, None), [record(1, b"user"), record(2, b"")]
    assert page == records
    assert (len(page), page[1], page[:1], [*page]) == (2, records[1], records[:1], records)
    assert page != records[:1]
    assert repr(page) == repr(records)


def test_columns_of_records_and_records_of_columns_are_the_same() -> None:
    records = [record(1, b"user"), record(2, b"")._replace(type="Withdrawn", type_version=1)]
    columns = Records.of(records).columns
    assert Records(columns) == records
    assert [columns.types[kind] for kind in columns.kinds] == [("Deposited", 2), ("Withdrawn", 1)]
    assert Records.of(Records.of(records)) == records
    assert Records.of([]) == []


def test_a_page_travels_as_it_is() -> None:
    page = page_of(META, None)
    assert pickle.loads(pickle.dumps(page)) == page


@pytest.mark.parametrize(("position", "count"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_a_page_of_a_log_can_be_cut_at_a_position(position: int, count: int) -> None:
    page = page_of(META, None)
    assert page.upto(position) == [record(1, b"user"), record(2, b"")][:count]


def test_an_envelope_that_is_none_is_noticed_when_it_is_asked_for() -> None:
    page = page_of(META, b"\xc1", None)
    assert page.columns.data == [b"x"] * 3
    with pytest.raises(StoreCorrupted, match="not an envelope") as raised:
        _ = page.command_ids
    assert (raised.value.stream, raised.value.version) == ("A/a", 2)


async def test_who_applies_events_does_not_open_their_envelopes(tmp_path: Path) -> None:
    await build(tmp_path, shards=1)
    with opened(tmp_path) as connection:
        forge(connection, 2, meta=b"\xc1")
    async with await EventStore.open(tmp_path, app=APP) as store:
        page = await store.read_shard(shard=0, after=0, limit=5)
        columns = Records.of(page.records).columns
        assert (len(columns.data), columns.positions) == (5, (1, 2, 3, 4, 5))
        with pytest.raises(StoreCorrupted, match="not an envelope"):
            _ = page[0]
        assert STREAMS[0] in columns.streams


async def test_a_page_that_begins_within_a_command_whose_first_event_is_gone_is_refused(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app=APP, shards=1) as store:
        await store.append("Account/0", deposits(1, 2, 3), command_id="tx")
    with opened(tmp_path) as connection:
        connection.execute("DELETE FROM events WHERE position = 1")
    async with await EventStore.open(tmp_path, app=APP) as store:
        with pytest.raises(StoreCorrupted, match="command") as raised:
            await store.read_shard(shard=0, after=1)
    assert (raised.value.stream, raised.value.version) == ("Account/0", 2)
