"""Many tasks that append and read at once, and the history of what they called and were told."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from eventray.domain.errors import ConcurrencyConflict
from eventray.store import Appended, EventStore, NewRecord, Record
from tests.store.history import History, Logs, Outcome, Read, Write

LOG_PAGE = 20


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that may be sent again."""

    stream: str
    bodies: tuple[bytes, ...]
    command_id: str | None
    expected: int | None


@dataclass
class Recorder:
    """Calls a store and writes down when and with what outcome. Positions count from where the logs were at first."""

    store: EventStore
    starts: dict[int, int]
    history: History = field(default_factory=History)
    _time: Iterable[int] = field(default_factory=itertools.count)

    @classmethod
    async def of(cls, store: EventStore) -> Recorder:
        """A recorder that begins where the logs end now."""
        return cls(store, await store.heads())

    def now(self) -> int:
        """A time that rises."""
        return next(self._time)  # type: ignore[call-overload, no-any-return]

    def _placed(self, record: Record) -> Record:
        return record._replace(position=record.position - self.starts[record.shard])

    async def send(self, command: Sent) -> Outcome:
        """Append a command."""
        begun, ended = self.now(), math.inf
        outcome: Outcome = "unknown"
        records = [NewRecord("Noted", body) for body in command.bodies]
        try:
            done = await self.store.append(
                command.stream, records, expected_version=command.expected, command_id=command.command_id
            )
            outcome, ended = done._replace(position=done.position - self.starts[done.shard]), self.now()
        except ConcurrencyConflict:
            outcome, ended = "refused", self.now()
        finally:  # of a cancelled one, too
            write = Write(command.stream, command.bodies, begun, ended, outcome, command.expected)
            self.history.writes.append(write)
        return outcome

    async def read_stream(self, stream: str, after: int) -> None:
        """Read a stream to its end."""
        begun = self.now()
        found = [self._placed(record) async for record in self.store.read(stream, after=after)]
        self.history.reads.append(Read(stream, after, tuple(found), begun, self.now()))

    async def read_page(self, shard: int, after: int, wait: float = 0.0) -> int:
        """Read a page of a log; where to read on."""
        start = self.starts[shard]
        begun = self.now()
        page = await self.store.read_shard(shard=shard, after=start + after, limit=LOG_PAGE, wait=wait)
        found = tuple(self._placed(record) for record in page)
        read = Read(shard, after, found, begun, self.now(), whole=len(found) < LOG_PAGE)
        self.history.reads.append(read)
        return page.position - start

    async def logs(self) -> Logs:
        """What the logs hold in the end."""
        logs: dict[int, list[Record]] = {}
        for shard, start in self.starts.items():
            log, after = logs.setdefault(shard, []), start
            while page := await self.store.read_shard(shard=shard, after=after):
                log += [self._placed(record) for record in page]
                after = page.position
        return logs


class Writer:
    """Sends commands of every kind: with and without id and expected version, again, twice at once, and cancelled."""

    def __init__(self, recorder: Recorder, name: str, streams: list[str], seed: int) -> None:
        self.recorder = recorder
        self.name = name
        self.streams = streams
        self.random = random.Random(f"{name} {seed}")
        self.versions = dict.fromkeys(streams, 0)
        self.sent: list[Sent] = []
        self.number = 0

    async def write(self, commands: int) -> None:
        for _ in range(commands):
            await self._one(self._next())

    def _next(self) -> Sent:
        known = [sent for sent in self.sent if sent.command_id is not None]
        if known and self.random.random() < 0.2:
            return self.random.choice(known)
        self.number += 1
        stream = self.random.choice(self.streams)
        bodies = tuple(f"{self.name} {self.number}.{k}".encode() for k in range(self.random.randint(1, 3)))
        id = f"{self.name} {self.number}" if self.random.random() < 0.6 else None
        expected = self.versions[stream] if self.random.random() < 0.5 else None
        self.sent.append(Sent(stream, bodies, id, expected))
        return self.sent[-1]

    async def _one(self, command: Sent) -> None:
        way = self.random.random()
        if way < 0.15:
            await self._cancelled(command)
        elif way < 0.3 and command.command_id is not None:
            await asyncio.gather(self.recorder.send(command), self.recorder.send(command))
        else:
            outcome = await self.recorder.send(command)
            if isinstance(outcome, Appended):
                self.versions[command.stream] = outcome.version
            elif self.random.random() < 0.5:
                await self.recorder.read_stream(command.stream, 0)
                self.versions[command.stream] = len(self.recorder.history.reads[-1].found)

    async def _cancelled(self, command: Sent) -> None:
        sending = asyncio.ensure_future(self.recorder.send(command))
        for _ in range(self.random.randint(0, 6)):
            await asyncio.sleep(0)
        sending.cancel()
        await asyncio.wait([sending])


async def run_at_once(store: EventStore, streams: list[str], *, writers: int, commands: int, seed: int) -> Recorder:
    """Let many write and read at the same time; what happened."""
    recorder = await Recorder.of(store)
    written = asyncio.Event()

    async def follow(shard: int) -> None:
        after = 0
        while not written.is_set():
            after = await recorder.read_page(shard, after, wait=0.01)

    async def look(stream: str) -> None:
        after = 0
        while not written.is_set():
            await recorder.read_stream(stream, after)
            after = len(recorder.history.reads[-1].found) if after == 0 else 0
            await asyncio.sleep(0)

    reading = [asyncio.ensure_future(follow(shard)) for shard in recorder.starts]
    reading += [asyncio.ensure_future(look(stream)) for stream in streams[:2]]
    writing = [Writer(recorder, f"{streams[0]} w{n}", streams, seed) for n in range(writers)]
    await asyncio.gather(*(writer.write(commands) for writer in writing))
    written.set()
    await asyncio.gather(*reading)
    return recorder
