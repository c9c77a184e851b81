"""ProjectionRunner: follows every shard's log, folds the events into one view, saves it, and answers its queries.

State and positions move together: a page is applied and its position taken over without an await in between, and both
are saved in one checkpoint. So no event is applied twice and none is skipped, whatever dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgpack

from eventray.domain.errors import (
    CommandFailed,
    EventRayError,
    ProjectionStopped,
    Rejected,
    ShardFenced,
    ShardUnavailable,
    StaleView,
    StoreMismatch,
    StoreUnavailable,
    UnknownName,
)
from eventray.domain.meta import Meta
from eventray.runtime.config import Config
from eventray.runtime.guard import DomainCode
from eventray.runtime.model import ProjectionModel
from eventray.runtime.status import ViewStatus
from eventray.runtime.wire import Answerer, Kind, QueryItem
from eventray.store.port import CheckpointPort, ShardPort
from eventray.store.records import Record, ShardPage

log = logging.getLogger("eventray.runtime")

RETRY_S = 0.2
RETRY_LOST_S = 1.0


@dataclass(slots=True)
class _Waiter:
    after: dict[int, int]
    item: QueryItem
    answer: Answerer
    timer: asyncio.TimerHandle | None = None


class ProjectionRunner:
    """One view: `start`, then `handle` queries; `close` saves it.

    Args:
        shards: the log of every shard, by number.
        generation: of the store; a checkpoint of another one is not trusted.
    """

    def __init__(
        self,
        model: ProjectionModel,
        shards: Mapping[int, ShardPort],
        checkpoints: CheckpointPort,
        config: Config,
        *,
        generation: int,
    ) -> None:
        self._model = model
        self._shards = shards
        self._checkpoints = checkpoints
        self._config = config
        self._generation = generation
        self._view: Any = model.new()
        self._positions = dict.fromkeys(shards, 0)
        self._state: Literal["recovering", "following", "stopped"] = "recovering"
        self._reason = ""
        self._applied = self._saved_applied = 0
        self._waiters: list[_Waiter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._saving = asyncio.Lock()
        self._stopping = asyncio.Lock()

    def status(self, pid: int, node: str) -> ViewStatus:
        """How the view stands, here."""
        return ViewStatus(self._model.name, self._state, dict(self._positions), self._applied, self._reason, pid, node)

    # life

    async def start(self) -> None:
        """Take up the last save, and follow the shards from there."""
        await self._recover()
        self._state = "following"
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow(shard)) for shard in self._shards]
        self._tasks.append(loop.create_task(self._save_regularly()))

    async def close(self) -> None:
        """Stop following, and save what was applied."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiter in list(self._waiters):
            self._end(waiter, Kind.AGAIN, f"view {self._model.name} is closing")
        if self._state == "following":
            await self._save()

    async def _recover(self) -> None:
        self._view, self._positions = self._model.new(), dict.fromkeys(self._shards, 0)
        saved = await self._checkpoints.load(self._model.name)
        if saved is None:
            return
        if saved.generation != self._generation or saved.fingerprint != self._model.fingerprint:
            log.warning("view %s: its save is of another store or another class; it is built anew", self._model.name)
            return
        self._view = self._model.decode_state(saved.data)
        self._positions.update({shard: at for shard, at in saved.positions.items() if shard in self._positions})

    # following

    async def _follow(self, shard: int) -> None:
        config, types = self._config, self._model.events.names
        while True:
            after = self._positions[shard]
            try:
                page = await self._shards[shard].read(
                    after=after, limit=config.read_page_events, wait=config.poll_s, types=types
                )
            except (ShardUnavailable, StoreUnavailable, ShardFenced) as error:
                log.info("view %s waits for shard %d: %s", self._model.name, shard, error)
                lost = isinstance(error, ShardUnavailable) and error.lost
                await asyncio.sleep(RETRY_LOST_S if lost else RETRY_S)
                continue
            except EventRayError as error:
                await self._stop(shard, after, str(error))
                return
            failed = self._apply_page(shard, page)
            if failed is not None:
                await self._stop(shard, self._positions[shard] + 1, failed)
                return
            if self._applied - self._saved_applied >= config.checkpoint_events:
                await self._save()

    def _apply_page(self, shard: int, page: ShardPage) -> str | None:
        """Apply a page as far as it goes; the reason when an event cannot be applied."""
        with DomainCode(f"{self._model.name}.apply"):
            for record in page.records:
                try:
                    self._apply(record)
                except BaseException as error:  # sys.exit() in an apply, too: it must not end the engine
                    trace = "".join(traceback.format_exception(error, limit=-4))
                    return f"{record.type} {record.stream}@{record.version} in shard {shard}: {error!r}\n{trace}"
                self._positions[shard] = record.position
                self._applied += 1
        self._positions[shard] = page.position
        self._wake()
        return None

    def _apply(self, record: Record) -> None:
        event = self._model.events.decode(record.type, record.type_version, record.data)
        self._model.apply(self._view, event, meta_of(record))

    async def _stop(self, shard: int, position: int, reason: str) -> None:
        """Stop for good, on the state before the failure: the last save and the events since."""
        async with self._stopping:
            if self._state == "stopped":
                return
            self._state, self._reason = "recovering", reason  # queries wait until the good state is back
            log.error("view %s stopped at position %d of shard %d: %s", self._model.name, position, shard, reason)
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()
            upto = dict(self._positions)
            try:
                await self._recover()
                for number in self._shards:
                    await self._replay(number, upto[number])
            except EventRayError as error:
                self._reason += f"\n(its last good state could not be restored: {error})"
            self._state = "stopped"
            self._wake()
            for waiter in list(self._waiters):
                self._end(waiter, Kind.ERROR, self._stopped_error())

    async def _replay(self, shard: int, upto: int) -> None:
        while self._positions[shard] < upto:
            page = await self._shards[shard].read(
                after=self._positions[shard],
                limit=min(self._config.read_page_events, upto - self._positions[shard]),
                types=self._model.events.names,
            )
            good = [record for record in page.records if record.position <= upto]
            self._apply_page(shard, ShardPage(good, min(page.position, upto)))

    # saving

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._config.checkpoint_s)
            if self._applied != self._saved_applied:
                await self._save()

    async def _save(self) -> None:
        async with self._saving:
            applied, positions, data = self._applied, dict(self._positions), self._model.encode_state(self._view)
            try:
                await self._checkpoints.save(
                    self._model.name,
                    positions,
                    data,
                    generation=self._generation,
                    fingerprint=self._model.fingerprint,
                )
            except EventRayError as error:
                log.warning("view %s was not saved (it goes on from its save before): %s", self._model.name, error)
            self._saved_applied = applied

    # queries

    def handle(self, item: QueryItem, answer: Answerer) -> None:
        """Answer a query, when the view has applied what it asks for."""
        if item.generation not in (0, self._generation):
            store, advice = (
                f"the store of view {self._model.name}",
                "It was restored or resharded: ask after new receipts",
            )
            answer(Kind.ERROR, StoreMismatch(store, "generation", item.generation, self._generation, advice))
            return
        if self._has(item.after):
            self._answer(item, answer)
            return
        if self._state == "stopped":
            answer(Kind.ERROR, self._stopped_error())
            return
        waiter = _Waiter(item.after, item, answer)
        waiter.timer = asyncio.get_running_loop().call_later(item.wait_s, self._expire, waiter)
        self._waiters.append(waiter)

    def _has(self, after: Mapping[int, int]) -> bool:
        return self._state != "recovering" and all(
            self._positions.get(shard, 0) >= position for shard, position in after.items()
        )

    def _wake(self) -> None:
        for waiter in [waiter for waiter in self._waiters if self._has(waiter.after)]:
            self._forget(waiter)
            self._answer(waiter.item, waiter.answer)

    def _expire(self, waiter: _Waiter) -> None:
        if waiter.item.serve_stale and self._state == "following":
            self._waiters.remove(waiter)
            self._answer(waiter.item, waiter.answer)
            return
        behind = {
            shard: position - self._positions.get(shard, 0)
            for shard, position in waiter.after.items()
            if position > self._positions.get(shard, 0)
        }
        self._end(waiter, Kind.ERROR, StaleView(self._model.name, behind, waiter.item.wait_s))

    def _end(self, waiter: _Waiter, kind: Kind, payload: Any) -> None:
        self._forget(waiter)
        waiter.answer(kind, payload)

    def _forget(self, waiter: _Waiter) -> None:
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)
        if waiter.timer is not None:
            waiter.timer.cancel()

    def _answer(self, item: QueryItem, answer: Answerer) -> None:
        name = f"{self._model.name}.{item.query}"
        query = self._model.queries.get(item.query)
        if query is None:
            answer(Kind.ERROR, UnknownName("query", name, tuple(self._model.queries)))
            return
        try:
            with DomainCode(name):
                result = query.encode_result(query.call(self._view, query.decode(item.args)))
        except (Rejected, EventRayError) as error:
            answer(Kind.ERROR, error)
        except BaseException as error:
            trace = "".join(traceback.format_exception(error))
            answer(Kind.ERROR, CommandFailed(f"view/{self._model.name}", name, str(error), type(error).__name__, trace))
        else:
            answer(Kind.VALUE, (result, dict(self._positions)))

    def _stopped_error(self) -> ProjectionStopped:
        return ProjectionStopped(self._model.name, self._reason)


def meta_of(record: Record) -> Meta:
    """The Meta of a stored event; the caller's metadata is decoded only where there is any."""
    return Meta.of(
        record.stream,
        record.version,
        record.shard,
        record.position,
        record.recorded_at,
        record.command_id,
        msgpack.unpackb(record.meta, strict_map_key=False, timestamp=3) if record.meta else {},
    )
