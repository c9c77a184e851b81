"""Single bits flipped anywhere in a store: each is detected or harmless, none gives wrong data."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from eventray.domain.errors import EventRayError
from eventray.store import EventStore, NewRecord, Shard
from tests.store import sample
from tests.store.sample import copy_of

FLIPS, SEED = 150, 20261124
FILES = ("shard-0000.db", "shard-0001.db", "shard-0000.db-wal", "shard-0000.head", "store.json", "views.db")


async def outcome(call: Any) -> Any:
    """What a call gave, or "refused" when it ended in an error of ours; any other error fails the test."""
    try:
        return await call
    except EventRayError:
        return "refused"


async def everything(directory: Path) -> dict[str, Any]:
    """All that a store says on every way to read it."""
    store = await outcome(EventStore.open(directory, app=sample.APP))
    if store == "refused":
        return {}
    async with store:
        said: dict[str, Any] = {"heads": await store.heads()}
        said["checkpoint"] = await outcome(store.load_checkpoint("Balances"))
        for index in store.shards:
            said[f"log {index}"] = await outcome(store.read_shard(shard=index))
        for stream in sample.STREAMS:
            shard: Shard = store.shard_of(stream)
            said[f"snapshot {stream}"] = await outcome(store.load_snapshot(stream))
            said[f"load {stream}"] = await outcome(shard.load(stream, fingerprint=""))
            said[f"read {stream}"] = await outcome(shard.read_stream(stream, limit=1000))
            said[f"back {stream}"] = await outcome(shard.read_stream(stream, reverse=True, limit=1000))
            said[f"ids {stream}"] = await outcome(shard.lookup(stream, ["tx-1-0", "tx-4-1", "tx-7-2"]))
        return said


def wrong(said: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Which answers are neither right nor refused. A snapshot or checkpoint that is ignored is rebuilt from events."""
    return [
        what
        for what, answer in said.items()
        if answer != "refused"
        and answer != expected[what]
        and not (answer is None and what.startswith(("snapshot", "checkpoint")))
        and not (what.startswith("load") and (answer.snapshot, answer.version) == (None, expected[what].version))
    ]


@pytest.fixture(scope="module")
def crashed_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as kill -9 leaves it, its last commands in the WAL of shard 0 only."""
    directory = tmp_path_factory.mktemp("bits")

    async def crash() -> None:
        await sample.build(directory / "data")
        async with await EventStore.open(directory / "data", app=sample.APP) as store:
            for stream in sample.STREAMS:
                if store.manifest.shard_of(stream) == 0:
                    await store.append(stream, [NewRecord("Opened", b"last")], command_id="last")
            copy_of(directory / "data", directory / "crashed")

    asyncio.run(crash())
    return directory / "crashed"


async def test_no_flipped_bit_gives_wrong_data(crashed_store: Path, tmp_path: Path) -> None:
    expected = await everything(copy_of(crashed_store, tmp_path / "sound"))
    assert "refused" not in expected.values()
    chance = random.Random(SEED)
    sizes = [(crashed_store / name).stat().st_size for name in FILES]
    detected = harmless = 0
    for _ in range(FLIPS):
        # A fair share for the small files, else nearly all bits would fall on the large ones.
        name, size = chance.choice(list(zip(FILES, sizes, strict=True)))
        byte, bit = chance.randrange(size), chance.randrange(8)
        directory = copy_of(crashed_store, tmp_path / "flipped")
        raw = bytearray((directory / name).read_bytes())
        raw[byte] ^= 1 << bit
        (directory / name).write_bytes(raw)
        said = await everything(directory)
        assert wrong(said, expected) == [], f"bit {bit} of byte {byte} of {name}"
        same = said == expected
        harmless, detected = harmless + same, detected + (not same)
        shutil.rmtree(directory)
    assert detected > FLIPS // 4  # the rest fell on free pages, on what can be rebuilt, and on names of nobody
    assert harmless > 0
