"""ProjectionRunner: follows every shard's log, folds the events into a view, saves it, and answers its queries.

State and positions move together: a page is applied and its position taken over without an await in between, and both
are saved in one checkpoint. So no event is applied twice and none is skipped, whatever dies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from eventray.domain.errors import (
    EventRayError,
    StoreMismatch,
    UnknownName,
)
from eventray.runtime.answering import Answering
from eventray.runtime.config import Config
from eventray.runtime.metrics import Sample, of_view
from eventray.runtime.model import ProjectionModel
from eventray.runtime.outcomes import with_refused
from eventray.runtime.patience import until_back
from eventray.runtime.rebuild_fold import Fold, Folded, follow_fold
from eventray.runtime.saves import Saves
from eventray.runtime.status import ViewStatus
from eventray.runtime.tries import Tries
from eventray.runtime.units import Unit
from eventray.runtime.viewstate import Failure, ViewState
from eventray.runtime.wire import Answerer, QueryItem
from eventray.store.admission import REASON_CHARS_MAX
from eventray.store.page import Records
from eventray.store.port import CheckpointPort, ShardPort
from eventray.store.records import Checkpoint, ShardPage

log = logging.getLogger("eventray.runtime")
T = TypeVar("T")

MANAGED = ("retry", "drop", "take_over", "serve", "retire", "reach", "folded")


class ProjectionRunner:
    """One unit of a view: `start`, then `handle` queries; `close` saves it.

    Args:
        unit: its name for saves and dead letters, and which partition it is.
        shards: the log of every shard, by number.
        generation: of the store; a checkpoint of another one is not trusted.
        serves: whether its version answers the view's queries; in the shadow it answers those for its version only.
    """

    def __init__(
        self,
        model: ProjectionModel,
        unit: Unit,
        shards: Mapping[int, ShardPort],
        checkpoints: CheckpointPort,
        config: Config,
        *,
        generation: int,
        serves: bool = True,
    ) -> None:
        self._model = model
        self._unit = unit
        self._name = str(unit)
        self._shards = shards
        self._saves = Saves(checkpoints, model, unit, generation)
        self._config = config
        self._generation = generation
        self._state = ViewState(model, shards, unit.partition)
        self._phase: Literal["recovering", "following", "stopped"] = "recovering"
        self._reason = ""
        self._shows = False  # whether the state is one that stood in the log: not half of an event
        self._applied_before = self._saved_applied = 0
        self._letters: dict[int, set[int]] = {}  # rows of dead letters that this view may have to take away
        self._answering = Answering(
            model, generation, config.view_queries_max, self._shown, lambda: self._reason, serves=serves
        )
        self._followers: dict[int, asyncio.Task[None]] = {}
        self._saver: asyncio.Task[None] | None = None
        self._saving = asyncio.Lock()
        self._turn = asyncio.Lock()  # who changes the state: a page, or what follows from a failure

    def status(self, pid: int, node: str) -> ViewStatus:
        """How the view stands, here."""
        state, unit = self._state, self._unit
        return ViewStatus(
            unit.view,
            self._phase,
            dict(state.positions),
            self._applied,
            self._reason,
            pid,
            node,
            parked=sum(len(positions) for positions in state.parked.values()),
            version=unit.version,
            partition=unit.partition,
            replica=unit.replica,
            serves=self._answering.serves,
        )

    def samples(self, refused: int) -> Iterator[Sample]:
        """Its metrics; `refused`: queries that were not even taken."""
        answering = self._answering
        outcomes = with_refused(answering.outcomes, refused)
        yield from of_view(self.status(0, ""), outcomes, answering.waiting, self._saves.so_far)

    def handle(self, item: QueryItem, answer: Answerer) -> None:
        """Answer a query, when the view has applied what it asks for."""
        self._answering.handle(item, answer)

    @property
    def _applied(self) -> int:
        return self._applied_before + self._state.applied

    def _shown(self) -> ViewState | None:
        return self._state if self._shows else None

    # life

    async def start(self) -> None:
        """Take up the last save, and follow the shards from there."""
        self._state = await self._saves.load(self._shards)
        self._phase, self._shows = "following", True
        self._follow_all()
        self._saver = asyncio.create_task(self._save_regularly())

    def _follow_all(self) -> None:
        for shard in self._shards:
            if shard not in self._followers or self._followers[shard].done():
                self._followers[shard] = asyncio.create_task(self._follow(shard))

    @property
    def _tasks(self) -> list[asyncio.Task[None]]:
        return [*self._followers.values(), *([self._saver] if self._saver else [])]

    async def close(self) -> None:
        """Stop following, and save what was applied."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._answering.close()
        if self._phase == "following":
            await self._save()

    # following

    async def _follow(self, shard: int) -> None:
        config = self._config
        try:
            self._letters[shard] = await self._patiently(lambda: self._letters_of(shard))
            while self._phase != "stopped":
                page = await self._page(shard, self._state.positions[shard], config.read_page_events, config.poll_s)
                await self._take(shard, page)
                if self._letters[shard]:
                    async with self._turn:
                        await self._take_letters_away(shard)
                if self._applied - self._saved_applied >= config.checkpoint_events:
                    await self._save()
        except EventRayError as error:
            async with self._turn:
                self._stop(f"shard {shard} after position {self._state.positions[shard]}: {error}")

    async def _take(self, shard: int, page: ShardPage) -> None:
        """Apply a page; what fails is tried again, and then left behind or the end of it, as the projection says."""
        async with self._turn:
            tries = Tries(self._model)
            while self._phase != "stopped" and (failure := self._state.apply_page(shard, page)) is not None:
                await self._take_back()
                verdict = tries.after(failure)
                if verdict == "park":
                    await self._park(failure)
                elif verdict == "stop":
                    self._stop(failure.reason)
                else:
                    await asyncio.sleep(verdict)
        self._answering.wake()

    async def _take_back(self) -> None:
        """From a state that holds half of an event back to the one before it: the last save and the events since."""
        self._phase, self._shows = "recovering", False  # queries wait until the good state is back
        half, applied = self._state, self._applied
        state = await self._patiently(lambda: self._saves.load(self._shards))
        for shard, positions in half.parked.items():
            state.parked[shard] |= positions
        for shard, upto in half.positions.items():
            await self._replay(state, shard, upto)
        state.applied, self._applied_before = 0, applied
        self._state, self._phase, self._shows = state, "following", True
        self._answering.wake()

    async def _replay(self, state: ViewState, shard: int, upto: int) -> None:
        while (at := state.positions[shard]) < upto:
            limit = min(self._config.read_page_events, upto - at)
            page = await self._page(shard, at, limit)
            good = ShardPage(Records.of(page.records).upto(upto), min(page.position, upto))
            failure = state.apply_page(shard, good)
            if failure is not None:  # it was applied once: an apply that is not the same each time
                raise EventRayError(f"an event that was applied before cannot be applied again: {failure.reason}")

    async def _page(self, shard: int, after: int, limit: int, wait_s: float = 0.0) -> ShardPage:
        log, types = self._shards[shard], self._model.events.names
        return await self._patiently(lambda: log.read(after=after, limit=limit, wait=wait_s, types=types))

    async def _unpark(self, shard: int, positions: Sequence[int]) -> None:
        await self._patiently(lambda: self._shards[shard].unpark(self._name, positions))

    def _stop(self, reason: str) -> None:
        """Apply nothing more; what was good is served on."""
        if self._phase == "stopped":
            return
        log.error("view %s stopped: %s", self._name, reason)
        self._phase, self._reason = "stopped", reason
        self._answering.wake()

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_back(f"view {self._name}", work)

    # dead letters

    async def _park(self, failure: Failure) -> None:
        """Leave an event behind. The row comes first: an event that is skipped and nowhere listed would be lost."""
        record = failure.record
        await self._write_letter(record.shard, record.position, failure.reason)
        self._state.park(record)
        await self._save()  # so that the next failure is taken back to here, and not to the save before

    async def _write_letter(self, shard: int, position: int, reason: str) -> None:
        log.error("view %s left an event behind: %s", self._name, reason)
        kept = reason[:REASON_CHARS_MAX]
        await self._patiently(lambda: self._shards[shard].park(self._name, position, kept))

    async def _letters_of(self, shard: int) -> set[int]:
        found: set[int] = set()
        while page := await self._shards[shard].dead_letters(self._name, after=max(found, default=0)):
            found.update(letter.position for letter in page)
        return found

    async def _take_letters_away(self, shard: int) -> None:
        """Forget the letters of events that have been applied after all (by a new apply, or before a crash)."""
        state = self._state
        settled = {at for at in self._letters[shard] if at <= state.positions[shard] and at not in state.parked[shard]}
        if settled:
            await self._save()
            await self._unpark(shard, sorted(settled))
        self._letters[shard] = {at for at in self._letters[shard] - settled if at > state.positions[shard]}

    async def manage(self, method: str, *args: Any) -> Any:
        """Run one of the methods that others may call from afar, by its name."""
        if method not in MANAGED:
            raise ValueError(f"a view has no method {method!r}")
        return await getattr(self, method)(*args)

    async def retry(self, letters: Sequence[tuple[int, int]]) -> list[str]:
        """Apply events that were left behind, by shard and position, now; why it failed for each, "" where it did not.

        Raises:
            UnknownName: one that was not left behind.
            EventRayError: the view was not saved: nothing has changed.
        """
        async with self._turn:
            return [await self._retry(shard, position) for shard, position in letters]

    async def _retry(self, shard: int, position: int) -> str:
        self._require_parked(shard, position)
        [record] = (await self._page(shard, position - 1, 1)).records
        failure = self._state.apply_parked(record)
        if failure is not None:
            return failure.reason
        try:
            await self._save_surely()
        except EventRayError:
            self._state.parked[shard].add(position)
            await self._take_back()
            raise
        await self._unpark(shard, [position])
        return ""

    async def drop(self, letters: Sequence[tuple[int, int]]) -> list[str]:
        """Give up events that were left behind: a view that is built anew meets them again.

        Raises:
            UnknownName: one that was not left behind.
        """
        async with self._turn:
            for shard, position in letters:
                self._require_parked(shard, position)
                await self._unpark(shard, [position])
                self._state.parked[shard].discard(position)
            await self._save()
            return [""] * len(letters)

    def _require_parked(self, shard: int, position: int) -> None:
        if position not in self._state.parked.get(shard, ()):
            known = tuple(f"{s}:{at}" for s, positions in self._state.parked.items() for at in sorted(positions))
            raise UnknownName(f"dead letter of {self._name}", f"{shard}:{position}", known)

    # versions

    async def serve(self) -> None:
        """Answer the view's queries from now on."""
        self._answering.serve()

    async def retire(self) -> dict[int, int]:
        """Answer them no more, those that wait neither; gives the positions that were shown last."""
        self._answering.retire()
        return dict(self._state.positions)

    async def reach(self, positions: Mapping[int, int]) -> None:
        """Wait until it has applied the log up to these positions.

        Raises:
            ProjectionStopped: it will not.
        """
        await self._answering.reach(positions)

    async def folded(self) -> Folded:
        """The view as it is now, or as it was when it stopped."""
        await self._answering.reach({})
        state = self._state
        saved = Checkpoint(dict(state.positions), state.encode(), self._generation, self._model.fingerprint)
        return Folded(saved)

    # a view that was built anew

    async def take_over(self, folded: Folded) -> None:
        """Serve a view that was folded from the log in place of this one, once it is not behind it at any shard.

        Meanwhile this one serves on, and in the end no query meets an earlier state than one before it. The new view
        is saved first: whatever dies, one of the two is there whole. A view that has stopped follows again.

        Raises:
            StoreMismatch: it was folded by another version of the class, or from another generation of the store.
            ProjectionStopped: it cannot apply an event that came meanwhile. This one serves on.
            EventRayError: it could not be saved: this one serves on.
        """
        model, saved = self._model, folded.saved
        if (saved.generation, saved.fingerprint) != (self._generation, model.fingerprint):
            found = f"{saved.fingerprint} of generation {saved.generation}"
            raise StoreMismatch(f"view {self._name}", "state", f"{model.fingerprint} of {self._generation}", found)
        fold, behind = Fold(model, folded, self._config.read_page_events, self._unit.partition), None
        while behind is None or self._behind(fold) < behind:
            behind = self._behind(fold)
            await self._catch_up(fold)
        async with self._turn:  # the rest, however fast news come
            await self._catch_up(fold)
            await self._switch(fold)

    def _behind(self, fold: Fold) -> int:
        there = fold.state.positions
        return sum(max(0, at - there[shard]) for shard, at in self._state.positions.items())

    async def _catch_up(self, fold: Fold) -> None:
        """Fold on to where the present view is, or was a moment ago."""
        upto = dict(self._state.positions)
        await follow_fold(fold, upto, lambda want: self._page(want.shard, want.after, want.limit))

    async def _switch(self, fold: Fold) -> None:
        before, state = self._state, fold.state
        for shard, letters in self._letters.items():  # of both, until it is known which of them are settled
            letters |= before.parked[shard] | state.parked[shard]
        for left in fold.left:
            await self._write_letter(*left)
        async with self._saving:
            await self._saves.write(state)
            self._applied_before = self._saved_applied = self._applied
            self._state, self._phase, self._reason = state, "following", ""
            state.applied = 0
        self._follow_all()
        self._answering.wake()
        for shard in self._letters:
            await self._take_letters_away(shard)

    # saving

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._config.checkpoint_s)
            if self._applied != self._saved_applied and self._phase == "following":
                await self._save()

    async def _save(self) -> None:
        try:
            await self._save_surely()
        except EventRayError as error:
            log.warning("view %s was not saved (it goes on from its save before): %s", self._name, error)
            self._saved_applied = self._applied  # tried again after as many events, not with each page

    async def _save_surely(self) -> None:
        async with self._saving:
            applied, state = self._applied, self._state
            if not self._shows:  # half of an event is in it
                return
            await self._saves.write(state)
            self._saved_applied = applied
