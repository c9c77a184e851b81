"""Files that were changed, swapped, lost or put back behind the store's back."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Awaitable
from pathlib import Path

import pytest

from eventray.domain.errors import ShardUnavailable, StoreCorrupted, StoreMismatch
from eventray.store import EventStore, NewCommand, NewRecord, Shard
from tests.store.conftest import deposits, one_shard
from tests.store.workload import check_digests

ALICE = "Account/alice"
FILE = "shard-0000.db"


def change(directory: Path, *statements: str) -> None:
    connection = sqlite3.connect(directory / FILE)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def filled(directory: Path) -> None:
    async with one_shard(directory) as shard:
        records = [NewRecord("Opened", b"o", b"m"), *deposits(1, 2)]
        await shard.append_batch(ALICE, [NewCommand("first", records, "open", b"f"), NewCommand(None, deposits(3))])
        await shard.append_batch("Account/bob", [NewCommand(None, deposits(4))])


@pytest.mark.parametrize(
    ("statement", "version"),
    [
        ("UPDATE events SET data = x'39' WHERE position = 2", 2),
        ("UPDATE events SET data = 'text' WHERE position = 2", 2),
        ("UPDATE events SET data = 5 WHERE position = 2", 0),
        ("UPDATE events SET meta = x'00' WHERE position = 1", 1),
        ("UPDATE events SET meta = x'91c0' WHERE position = 2", 2),
        ("UPDATE events SET command_key = x'00' WHERE position = 1", 1),
        ("UPDATE events SET command_index = 7 WHERE position = 2", 2),
        ("UPDATE events SET recorded_at = recorded_at - 1 WHERE position = 2", 2),
        ("UPDATE events SET flags = 1 WHERE position = 2", 2),
        ("UPDATE events SET flags = -1 WHERE position = 2", 2),
        ("UPDATE events SET type = 1 WHERE position = 2", 2),
        ("UPDATE events SET type = 99 WHERE position = 2", 2),
        ("UPDATE events SET version = 9 WHERE position = 4", 9),
        ("UPDATE events SET crc = crc + 1 WHERE position = 2", 2),
        ("UPDATE types SET name = 'Withdrawn' WHERE name = 'Deposited'", 2),
        ("UPDATE types SET version = 2 WHERE name = 'Deposited'", 2),
    ],
)
async def test_a_changed_field_is_noticed_on_every_way_to_read(tmp_path: Path, statement: str, version: int) -> None:
    await filled(tmp_path)
    change(tmp_path, statement)
    async with one_shard(tmp_path, create=False) as shard:
        for reading in (shard.read(after=0), shard.read_stream(ALICE, limit=10), shard.load(ALICE)):
            with pytest.raises(StoreCorrupted) as caught:
                await reading
            if version:
                assert (caught.value.stream, caught.value.version) == (ALICE, version)
        if "types" not in statement:
            assert (await shard.load("Account/bob")).version == 1


async def test_a_renamed_stream_is_noticed(tmp_path: Path) -> None:
    await filled(tmp_path)
    change(tmp_path, "UPDATE streams SET name = 'Account/eve' WHERE name = 'Account/alice'")
    async with one_shard(tmp_path, create=False) as shard:
        with pytest.raises(StoreCorrupted):
            await shard.load("Account/eve")


async def test_a_corrupt_first_event_is_noticed_when_its_command_is_looked_up(tmp_path: Path) -> None:
    await filled(tmp_path)
    change(tmp_path, "UPDATE events SET data = x'39' WHERE position = 1")
    async with one_shard(tmp_path, create=False) as shard:
        again = [NewCommand("first", deposits(9))]
        calls: list[Awaitable[object]] = [
            shard.lookup(ALICE, ["first"]),
            shard.append_batch(ALICE, [], lookups=["first"]),
            shard.append_batch(ALICE, again),
            shard.append_batch(ALICE, again, expected_version=9),
        ]
        for call in calls:
            other = asyncio.ensure_future(shard.append_batch("Account/bob", [NewCommand(None, deposits(5))]))
            with pytest.raises(StoreCorrupted):
                await call
            await other  # what shares its commit goes on
        with pytest.raises(StoreCorrupted):
            await shard.read(after=1)  # the id of position 2 is in position 1
        await shard.append_batch("Account/bob", [NewCommand(None, deposits(5))])


async def test_a_stream_that_cannot_be_read_does_not_fail_the_loads_that_share_its_hop(tmp_path: Path) -> None:
    await filled(tmp_path)
    change(tmp_path, "UPDATE events SET data = x'39' WHERE position = 1")
    async with one_shard(tmp_path, create=False) as shard:
        outcomes = await asyncio.gather(*map(shard.load, (ALICE, "Account/bob", "Account/new")), return_exceptions=True)
        assert isinstance(outcomes[0], StoreCorrupted)
        assert [getattr(outcome, "version", None) for outcome in outcomes[1:]] == [1, 0]


async def test_the_digest_chain_covers_every_event(tmp_path: Path) -> None:
    await filled(tmp_path)
    assert check_digests(tmp_path / FILE) == [(1, 4), (5, 5)]
    change(tmp_path, "UPDATE commits SET digest = x'00' WHERE last = 5")
    with pytest.raises(AssertionError):
        check_digests(tmp_path / FILE)


async def test_an_older_copy_of_a_shard_is_not_served(tmp_path: Path) -> None:
    await filled(tmp_path)
    shutil.copy(tmp_path / FILE, tmp_path / "copy")
    async with one_shard(tmp_path, create=False) as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(5))])
    shutil.copy(tmp_path / "copy", tmp_path / FILE)
    with pytest.raises(StoreCorrupted) as caught:
        async with one_shard(tmp_path, create=False):
            pass
    assert "position 5" in caught.value.reason
    assert "position 6" in caught.value.reason
    (tmp_path / "shard-0000.head").unlink()  # a person accepts the loss
    async with one_shard(tmp_path, create=False) as shard:
        assert shard.head == 5


async def test_another_history_of_the_same_length_is_not_served(tmp_path: Path) -> None:
    for name, amount in (("one", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        async with one_shard(tmp_path / name) as shard:
            await shard.append_batch(ALICE, [NewCommand(None, deposits(amount))])
    shutil.copy(tmp_path / "other" / FILE, tmp_path / "one" / FILE)
    with pytest.raises(StoreCorrupted) as caught:
        async with one_shard(tmp_path / "one", create=False):
            pass
    assert "history" in caught.value.reason


async def test_a_wal_that_is_lost_is_noticed(tmp_path: Path) -> None:
    async with one_shard(tmp_path) as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1))])
        (tmp_path / "lost").mkdir()
        for name in (FILE, "shard-0000.head"):  # as a copy of a live store without its WAL has it
            shutil.copy(tmp_path / name, tmp_path / "lost" / name)
    with pytest.raises(StoreCorrupted):
        async with one_shard(tmp_path / "lost", create=False):
            pass


@pytest.mark.parametrize("content", [b"", b"torn", b"x" * 64])
async def test_an_unreadable_witness_is_ignored(tmp_path: Path, content: bytes) -> None:
    await filled(tmp_path)
    (tmp_path / "shard-0000.head").write_bytes(content)
    async with one_shard(tmp_path, create=False) as shard:
        assert shard.head == 5


async def test_commits_that_were_never_synced_may_be_gone_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventray.store.shardfile.boot_id", lambda: "the boot before")
    async with one_shard(tmp_path, durability="os") as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(1))])
    shutil.copy(tmp_path / FILE, tmp_path / "copy")
    async with one_shard(tmp_path, create=False, durability="os") as shard:
        await shard.append_batch(ALICE, [NewCommand(None, deposits(2))])
    shutil.copy(tmp_path / "copy", tmp_path / FILE)
    with pytest.raises(StoreCorrupted):
        async with one_shard(tmp_path, create=False, durability="os"):
            pass
    monkeypatch.undo()
    async with one_shard(tmp_path, create=False, durability="os") as shard:
        assert shard.head == 1


async def test_a_shard_whose_file_is_gone_is_never_made_again(tmp_path: Path) -> None:
    await (await EventStore.open(tmp_path, app="bank", shards=2)).close()
    (tmp_path / "shard-0001.db").unlink()
    with pytest.raises(ShardUnavailable) as caught:
        await (await EventStore.open(tmp_path, app="bank")).close()
    assert caught.value.shard == 1
    assert str(tmp_path) in caught.value.reason
    assert not (tmp_path / "shard-0001.db").exists()


async def test_a_shard_of_length_0_is_refused(tmp_path: Path) -> None:
    await (await EventStore.open(tmp_path, app="bank", shards=1)).close()
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(StoreCorrupted):
        await (await EventStore.open(tmp_path, app="bank")).close()
    assert (tmp_path / FILE).stat().st_size == 0


async def test_swapped_shards_are_refused(tmp_path: Path) -> None:
    await (await EventStore.open(tmp_path, app="bank", shards=2)).close()
    first, second = tmp_path / FILE, tmp_path / "shard-0001.db"
    first.rename(tmp_path / "held")
    second.rename(first)
    (tmp_path / "held").rename(second)
    with pytest.raises(StoreMismatch) as caught:
        await (await EventStore.open(tmp_path, app="bank")).close()
    assert (caught.value.what, caught.value.expected, caught.value.found) == ("shard", 0, 1)


@pytest.mark.parametrize(("key", "value"), [("store_id", "other"), ("generation", 2)])
async def test_a_shard_of_another_store_or_generation_is_refused(tmp_path: Path, key: str, value: object) -> None:
    await filled(tmp_path)
    with pytest.raises(StoreMismatch) as caught:
        async with one_shard(tmp_path, create=False, **{key: value}):
            pass
    assert caught.value.what == key


@pytest.mark.parametrize("create", [False, True])
async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, create: bool) -> None:
    (tmp_path / FILE).write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreCorrupted):
        async with one_shard(tmp_path, create=create):
            pass
    assert (tmp_path / FILE).read_bytes() == b"not a database" * 1000


async def test_a_bad_page_fails_its_shard_alone(tmp_path: Path) -> None:
    async with await EventStore.open(tmp_path, app="bank", shards=2) as store:
        for n in range(200):
            await store.append(f"Account/{n}", [NewRecord("Noted", b"x" * 500)])
        heads = await store.heads()
    raw = bytearray((tmp_path / FILE).read_bytes())
    for page in range(2, len(raw) // 4096):  # page 1 has the schema, page 2 the info
        raw[page * 4096 + 8 : page * 4096 + 4000] = b"\xa5" * 3992
    (tmp_path / FILE).write_bytes(bytes(raw))
    with pytest.raises(StoreCorrupted) as caught:
        async with await EventStore.open(tmp_path, app="bank") as store:
            await store.read_shard(shard=0)
    assert FILE in caught.value.path
    id = json.loads((tmp_path / "store.json").read_bytes())["store_id"]
    shard = await Shard.open(tmp_path, 1, store_id=id, generation=1, run="r", create=False)
    try:
        assert len(await shard.read(after=0)) == heads[1]
    finally:
        await shard.close()
