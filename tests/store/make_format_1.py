"""How tests/store/format-1 was made, once, when 1 was the format: `python -m tests.store.make_format_1`.

It is kept for good and never made again: later versions are tested against the files that this one wrote. A new format
gets a store and a script of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal
from uuid import UUID

from eventray.store import EventStore, NewCommand, NewRecord
from eventray.store.codec import Codec
from tests.store.conftest import Clock
from tests.store.values import Color, Level, Point

FIXTURE = Path(__file__).parent / "format-1"
UUID7 = "0193624f-9c00-7abc-8def-0123456789ab"
UUID4 = "5d0be76f-30d9-4c7e-a0a4-5d1b4a0f3b0e"


@dataclasses.dataclass(frozen=True)
class Everything:
    """A body with a field of each type that can be stored."""

    nothing: None = None
    yes: bool = True
    count: int = 2**64 - 1
    low: int = -(2**63)
    ratio: float = -0.0
    text: str = "ünï\0\N{FOX FACE}"
    raw: bytes = b"\x00\xff"
    amount: Decimal = Decimal("1.50")
    huge: Decimal = Decimal("-1E+400")
    moment: datetime = datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)
    early: datetime = datetime(1066, 10, 14, tzinfo=UTC)
    day: date = date(2024, 2, 29)
    clock: time = time(23, 59, 59, 1)
    span: timedelta = timedelta(days=-3, microseconds=7)
    id: UUID = UUID(UUID7)  # noqa: RUF009
    color: Color = Color.BLUE
    level: Level = Level.HIGH
    kind: Literal["a", 1, None] = 1
    point: Point = Point(1, "p")  # noqa: RUF009
    maybe: Point | list[int] | str | None = Point(2)  # noqa: RUF009
    items: tuple[int, ...] = (1, 2, 3)
    pair: tuple[int, str] = (1, "a")
    unique: frozenset[str] = frozenset({"a", "b"})
    listed: list[list[float]] = dataclasses.field(default_factory=lambda: [[1.0], []])
    by_day: dict[date, int] = dataclasses.field(default_factory=lambda: {date(2024, 1, 1): 1})
    by_number: dict[int, str] = dataclasses.field(default_factory=lambda: {1: "one", -1: "minus one"})


EVERYTHING: Codec[Everything] = Codec(Everything, "Everything")


def command(id: str | None, *data: bytes, meta: bytes = b"") -> NewCommand:
    return NewCommand(id, [NewRecord("Noted", body, meta) for body in data], "note", b"\x01")


async def fill(store: EventStore, clock: Clock) -> None:
    """A few streams, each with ids of all kinds, commands of several events and several in one commit."""
    for stream in ("Note/alice", "Note/bob", "Note/\N{FOX FACE}\0/x", "Note/dora"):
        for id in (None, "tx-17", UUID7, UUID4):
            clock.now += 1_000_000
            await store.append_batch(stream, [command(id, b"one", b"", b"three", meta=b"\x81\xa4user\xa3bob")])
        await store.append_batch(
            stream, [command("batch-1", b"4"), command(None, b"5", b"6"), command("batch-2", b"7")]
        )
    body = EVERYTHING.encode(Everything())
    await store.append("Everything/1", [NewRecord("Everything", body, type_version=3)], command_id="all")
    await store.save_snapshot("Note/alice", version=12, data=b"the state", fingerprint="shape")
    await store.save_checkpoint("Notes", await store.heads(), b"the view", fingerprint="shape")


async def expected(store: EventStore) -> dict[str, object]:
    """What every later version must read."""
    pages = [await store.read_shard(shard=shard, limit=10_000) for shard in store.shards]
    return {
        "heads": {str(shard): head for shard, head in (await store.heads()).items()},
        "records": [
            record._replace(data=record.data.hex(), meta=record.meta.hex())  # type: ignore[arg-type]
            for page in pages
            for record in page
        ],
    }


async def main() -> None:
    clock = Clock()
    async with await EventStore.open(FIXTURE, app="notes", shards=2, clock=clock) as store:
        await fill(store, clock)
        (FIXTURE / "expected.json").write_text(json.dumps(await expected(store), indent=0) + "\n")
    for path in FIXTURE.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
    for path in FIXTURE.glob("*.lock"):
        path.unlink()


if __name__ == "__main__":
    shutil.rmtree(FIXTURE, ignore_errors=True)
    asyncio.run(main())
