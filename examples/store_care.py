"""A store and its keeper: made, proven, backed up while it is written to, damaged, restored, spread over more shards.

Shows the store alone, without Ray and without aggregates, and the commands that look after it. Ten copies of it are
damaged, each in another way, and `eventray verify` finds and names each damage; what was restored from the backup and
then spread from 4 to 7 shards still says, stream by stream, what was written.

    python -m examples.store_care --events 1000000
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from eventray.store import EventStore, NewRecord, backup, info, reshard, restore, verify

APP = "ledger"
SHARDS, SHARDS_LATER = 4, 7
EVENTS_A_STREAM, EVENTS_AT_ONCE, WRITERS = 500, 50, 32
BODY_BYTES = 100
PAGE_BYTES = 4096


@dataclass
class Figures:
    """What is told at the end."""

    steps: list[tuple[str, float, str]] = field(default_factory=list)
    damages: list[tuple[str, str]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; what it is told is shown beside the seconds."""
        started, said = time.monotonic(), [""]
        yield lambda text: said.__setitem__(0, text)
        self.steps.append((name, time.monotonic() - started, said[0]))


def bodies(stream: str, after: int, count: int) -> list[NewRecord]:
    """The events of a stream: which they are follows from its name."""
    texts = (f"{stream} {after + n}".encode() for n in range(1, count + 1))
    return [NewRecord("Noted", text.ljust(BODY_BYTES, b".")) for text in texts]


async def write(store: EventStore, streams: Iterator[str], until: Callable[[], bool]) -> int:
    """Fill streams one after another, each command with an id of its own; how many events that were."""
    written = 0
    for stream in streams:
        for after in range(0, EVENTS_A_STREAM, EVENTS_AT_ONCE):
            records = bodies(stream, after, EVENTS_AT_ONCE)
            commands = [(f"note-{after + n}", [record]) for n, record in enumerate(records)]
            await store.append_batch(stream, commands, expected_version=after)
            written += len(commands)
        await store.save_snapshot(stream, version=EVENTS_A_STREAM, data=b"all of it")
        if until():
            break
    return written


async def make(data: Path, events: int) -> None:
    """A store of so many events."""
    streams = (f"Note/{n}" for n in range(events // EVENTS_A_STREAM))
    async with await EventStore.open(data, app=APP, shards=SHARDS) as store:
        await asyncio.gather(*(write(store, streams, lambda: False) for _ in range(WRITERS)))


async def back_up_while_writing(data: Path, to: Path) -> tuple[int, dict[int, int]]:
    """How many events were written meanwhile, and where the shards of the backup end."""
    streams = (f"Late/{n}" for n in itertools.count())
    async with await EventStore.open(data, app=APP) as store:
        copying = asyncio.create_task(asyncio.to_thread(backup, data, to))
        written = await asyncio.gather(*(write(store, streams, copying.done) for _ in range(WRITERS)))
        return sum(written), (await copying).positions


async def fingerprint(data: Path, events: int) -> str:
    """A hash of all that the streams of before the backup say, however they are stored."""
    digest = blake2b(digest_size=16)
    async with await EventStore.open(data, app=APP) as store:
        for n in range(events // EVENTS_A_STREAM):
            async for r in store.read(f"Note/{n}"):
                digest.update(repr((r.stream, r.version, r.type, r.data, r.recorded_at, r.command_id)).encode())
    return digest.hexdigest()


# Ten ways to damage a store. Each gets a copy of it, and the folder with its backup, which is older.


def sql(*statements: str) -> Callable[[Path, Path], None]:
    """Statements that somebody runs on the file of shard 1."""

    def damage(data: Path, kept: Path) -> None:
        connection = sqlite3.connect(data / "shard-0001.db")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    return damage


def flip_a_bit(data: Path, kept: Path) -> None:
    """One bit of one body, behind SQLite's back."""
    path = data / "shard-0001.db"
    raw = bytearray(path.read_bytes())
    raw[raw.index(b".....")] ^= 1
    path.write_bytes(raw)


def put_an_older_copy_back(data: Path, kept: Path) -> None:
    """The shard as the backup has it."""
    shutil.copy(kept / "shard-0001.db", data / "shard-0001.db")


def swap_two_files(data: Path, kept: Path) -> None:
    """Shard 1 under the name of shard 2, and the other way round."""
    (data / "shard-0001.db").rename(data / "held")
    (data / "shard-0002.db").rename(data / "shard-0001.db")
    (data / "held").rename(data / "shard-0002.db")


def cut_a_file(data: Path, kept: Path) -> None:
    """A file that ends early."""
    path = data / "shard-0001.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_a_file(data: Path, kept: Path) -> None:
    """A file that is gone."""
    (data / "shard-0001.db").unlink()


def overwrite_a_page(data: Path, kept: Path) -> None:
    """A page of garbage in the middle."""
    path = data / "shard-0001.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES)
        file.write(b"\xa5" * PAGE_BYTES)


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "a bit flipped": flip_a_bit,
    "an event changed": sql("UPDATE events SET data = x'39' WHERE position = 500"),
    "an event removed": sql("DELETE FROM events WHERE position = 500"),
    "an event inserted": sql(
        "INSERT INTO events SELECT (SELECT max(position) FROM events) + 1, stream, version + 10000, type,"
        " recorded_at + 1, NULL, 0, 0, data, NULL, crc FROM events WHERE position = 1"
    ),
    "two events swapped": sql(
        "UPDATE events SET position = -1 WHERE position = 10",
        "UPDATE events SET position = 10 WHERE position = 900",
        "UPDATE events SET position = 900 WHERE position = -1",
    ),
    "an older copy put back": put_an_older_copy_back,
    "two files swapped": swap_two_files,
    "a file cut": cut_a_file,
    "a file lost": lose_a_file,
    "a page overwritten": overwrite_a_page,
}


def first_problem(data: Path) -> str:
    """What `eventray verify` says of a damaged store, in a process of its own."""
    command = [sys.executable, "-m", "eventray.runtime.cli", "verify", str(data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 1:
        raise SystemExit(f"eventray verify ended with {done.returncode} on a damaged store:\n{done.stderr}")
    problem: dict[str, Any] = json.loads(done.stdout)["problems"][0]
    event = f" {problem['stream']}@{problem['version']}" if problem["stream"] else ""
    place = f" at position {problem['position']}" if problem["position"] else ""
    return f"{problem['where']}{place}{event}: {problem['what']}"


def sound(data: Path, said: Callable[[str], None]) -> None:
    """Prove a store or a backup."""
    report = verify(data)
    if not report.ok:
        raise SystemExit(f"{data} is not sound: {report.problems[0]}")
    said(f"{report.events} events, {report.events / report.seconds:,.0f} events/s")


def tend(folder: Path, events: int) -> Figures:
    """Do all of it below `folder`."""
    figures = Figures()
    data, kept, back = folder / "data", folder / "kept", folder / "back"
    with figures.step("written, 4 shards, every receipt on disk") as said:
        asyncio.run(make(data, events))
        found = info(data)
        said(f"{found.events} events, {found.bytes / 2**20:.0f} MiB")
    with figures.step("verified") as said:
        sound(data, said)
    expected = asyncio.run(fingerprint(data, events))
    with figures.step("backed up while written to") as said:
        meanwhile, positions = asyncio.run(back_up_while_writing(data, kept))
        said(f"{sum(positions.values())} events carried away, {meanwhile} written meanwhile")
    with figures.step("the backup verified") as said:
        sound(kept, said)
    with figures.step("damaged in ten ways, each found"):
        for name, damage in DAMAGES.items():
            copy = Path(shutil.copytree(data, folder / "damaged"))
            damage(copy, kept)
            figures.damages.append((name, first_problem(copy)))
            shutil.rmtree(copy)
    with figures.step("restored") as said:
        restore(kept, back, check=False)
        said(f"generation {info(back).generation}")
    if asyncio.run(fingerprint(back, events)) != expected:
        raise SystemExit("what was restored is not what was written")
    with figures.step(f"resharded from {SHARDS} to {SHARDS_LATER}, proven before and after") as said:
        report = reshard(back, shards=SHARDS_LATER)
        said(f"{report.events} events, {report.events / report.seconds:,.0f} events/s")
    with figures.step("verified") as said:
        sound(back, said)
    if asyncio.run(fingerprint(back, events)) != expected:
        raise SystemExit("what was resharded is not what was written")
    return figures


def main(
    events: Annotated[int, typer.Option(min=EVENTS_A_STREAM, help="How many events the store begins with.")] = 100_000,
    folder: Annotated[Path | None, typer.Option(help="Where to work; a temporary folder.")] = None,
) -> None:
    """Make a store, prove it, carry it away, damage it, bring it back, spread it over more shards."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        figures = tend(Path(scratch), events)
    console = Console()
    table = Table("step", "seconds", "figures")
    for name, seconds, said in figures.steps:
        table.add_row(name, f"{seconds:.1f}", said)
    console.print(table)
    table = Table("damage", "what verify says first")
    for name, problem in figures.damages:
        table.add_row(name, problem)
    console.print(table)
    print(f"{len(figures.damages)} of {len(DAMAGES)} damages found; every stream says what was written")


if __name__ == "__main__":
    typer.run(main)
