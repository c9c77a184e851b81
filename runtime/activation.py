"""Activation: one aggregate instance in memory, with its mailbox.

Its life: recover (load snapshot and events, which is taking the instance over), run (decide what waits, append it as
one batch, answer after the commit), and nothing at all while idle: then it is only its state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from itertools import islice
from typing import Any

from eventray.domain.aggregate import Aggregate
from eventray.domain.errors import (
    ActivationSuperseded,
    CommandFailed,
    ConcurrencyConflict,
    EventRayError,
    Overloaded,
    ShardFenced,
    ShardUnavailable,
    StoreUnavailable,
)
from eventray.runtime.decide import Decider, Round, Waiting, answer_all, reused
from eventray.runtime.outcomes import Outcome, outcome_of
from eventray.runtime.quota import RETRY_AFTER_S
from eventray.runtime.streamlog import load_state, next_page, read_versions, replay
from eventray.runtime.wire import Answerer, CommandItem, Kind, ReceiptData, full
from eventray.store.port import ShardPort
from eventray.store.records import Appended, Committed, DuplicateCommands, maker

log = logging.getLogger("eventray.runtime")

_receipt = maker(ReceiptData)

OUTCOME_UNKNOWN = (StoreUnavailable, ShardUnavailable, ShardFenced, ActivationSuperseded)


class Activation:
    """One instance: takes commands, runs them one at a time, appends their events.

    Args:
        take_over: it has its own process (Dedicated): loading fences any other activation of the instance.
        schedule: called when there is work and none was under way; runs it by `run`, or by `begin` and `settle`.
    """

    __slots__ = (
        "_decider",
        "_drained",
        "_log",
        "_mailbox",
        "_position",
        "_repeating",
        "_schedule",
        "_snapshot_version",
        "_state",
        "_take_over",
        "_token",
        "stream",
        "superseded",
        "used_at",
    )

    def __init__(
        self,
        decider: Decider,
        stream: str,
        shard: ShardPort,
        *,
        take_over: bool,
        schedule: Callable[[Activation], object],
    ) -> None:
        self._decider = decider
        self._log = shard
        self._take_over = take_over
        self._schedule = schedule
        self._token: int | None = None
        self._state: Aggregate | None = None
        self._position = 0
        self._snapshot_version = 0
        self._repeating = False  # the last round met duplicates: look ids up before the next one
        self._mailbox: deque[Waiting] | None = None  # there while commands wait or run
        self._drained: asyncio.Future[None] | None = None
        self.superseded = False
        self.stream = stream
        self.used_at = time.monotonic()

    @property
    def idle(self) -> bool:
        """No command waits or runs."""
        return self._mailbox is None

    @property
    def idle_s(self) -> float:
        """Seconds without a command; 0 while there is one."""
        return time.monotonic() - self.used_at if self.idle else 0.0

    @property
    def pending(self) -> int:
        """Commands that wait (those of the running batch not counted)."""
        return len(self._mailbox or ())

    def submit(self, item: CommandItem, answer: Answerer) -> None:
        """Put a command into the mailbox."""
        waiting, most = Waiting(item, answer), self._decider.config.mailbox_commands_max
        if self._mailbox is None:
            self._mailbox = deque((waiting,))
            self._schedule(self)
        elif len(self._mailbox) < most:
            self._mailbox.append(waiting)
        else:
            self._decider.outcomes["overloaded"] += 1
            answer(Kind.FULL, (self.stream, most, "waiting commands", RETRY_AFTER_S))

    async def drain(self) -> None:
        """Wait until every command taken so far is answered."""
        while not self.idle:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained])

    def _rest(self) -> None:
        """Nothing waits and nothing runs."""
        self.used_at = time.monotonic()
        self._mailbox = None
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # run together with others: one task for all activations that have work

    def begin(self) -> Round | None:
        """Decide what waits, if nothing has to be awaited for that; else None: it has to `run`."""
        if self._state is None or self._repeating or not self._mailbox:
            return None
        done = self._decider.decide(self._state, self._mailbox)
        return done if done.decided else None  # the first one blocks

    def settle(self, done: Round) -> Coroutine[Any, Any, None] | None:
        """Answer a round whose append has ended; gives what remains to be awaited, if anything does."""
        if done.error is not None or done.found or done.spoiled or self._is_due():
            return self.run(done)
        self._answer(done)
        if self._mailbox:
            self._schedule(self)
        else:
            self._rest()
        return None

    # run alone

    async def run(self, ended: Round | None = None) -> None:
        """Work until nothing waits; begins with a round whose append has ended, if there is one."""
        mailbox = self._mailbox
        assert mailbox is not None
        done = ended or Round(0)
        try:
            if ended is not None:
                await self._conclude(ended, mailbox)
            while mailbox and not self.superseded:
                if self._is_repeat_likely(mailbox[0]) and await self._answer_repeated(mailbox):
                    continue
                if self._state is None:
                    self._state = await self._recover(mailbox[0].item.id)  # the host's own string: one for both
                if self._decider.blocks(mailbox[0]):
                    done = await self._decider.decide_blocking(self._state, mailbox)
                else:
                    done = self._decider.decide(self._state, mailbox)
                await self._append(done)
                await self._conclude(done, mailbox)
        except OUTCOME_UNKNOWN as error:
            self.superseded = isinstance(error, ActivationSuperseded)
            if isinstance(error, ShardUnavailable) and error.lost:  # nothing will answer before it is back
                self._end(done, mailbox, Kind.ERROR, error)
            else:
                self._end(done, mailbox, Kind.AGAIN, str(error))
        except Overloaded as error:  # the shard's; of a command sent before, an earlier run may be committed
            self._end(done, mailbox, Kind.FULL, full(error))
        except EventRayError as error:
            self._end(done, mailbox, Kind.ERROR, error)
        except Exception as error:
            self._fail(done, mailbox, error)
        finally:
            if self.superseded:
                self._end(done, mailbox, Kind.AGAIN, f"{self.stream} is activated elsewhere")
            self._rest()

    def abort(self, done: Round, error: Exception) -> None:
        """End a round, and all that waits, with a fault of the engine; the next command begins anew."""
        self._fail(done, self._mailbox or deque(), error)
        self._rest()

    def _fail(self, done: Round, mailbox: deque[Waiting], error: Exception) -> None:
        log.error("%s failed", self.stream, exc_info=error)
        self._end(done, mailbox, Kind.ERROR, CommandFailed(self.stream, "", str(error), type(error).__name__))

    def _end(self, done: Round, mailbox: deque[Waiting], kind: Kind, payload: Any) -> None:
        """Drop the state and answer everything that is open (what has been answered ignores it)."""
        self._state = None
        if kind is not Kind.AGAIN:
            outcome: Outcome = "overloaded" if kind is Kind.FULL else outcome_of(payload)
            self._decider.outcomes[outcome] += len(done.decided) + len(mailbox)
        for waiting in done.decided:
            answer_all(waiting, kind, payload)
        while mailbox:
            mailbox.popleft().answer(kind, payload)

    # recover

    async def _recover(self, id: str) -> Aggregate:
        """The state from its snapshot and the events after it, page by page."""
        model, limit = self._decider.model, self._decider.config.load_page_events
        loaded, state = await load_state(self._log, model, id, take_over=self._take_over, page_events=limit)
        self._token = loaded.token if self._take_over else None
        self._position = loaded.position
        self._snapshot_version = state.version
        records, more = loaded.records, loaded.more
        replay(model, state, records)
        while more:
            records = await next_page(self._log, self.stream, state.version, loaded.version, limit)
            replay(model, state, records)
            more = state.version < loaded.version
            await asyncio.sleep(0)  # others in this process go on between pages
        return state

    # commit

    async def _append(self, done: Round) -> None:
        try:
            result = await self._log.append_batch(
                self.stream,
                done.commands,
                expected_version=done.expected_version,
                token=self._token,
                lookups=done.lookups,
            )
        except (DuplicateCommands, ConcurrencyConflict) as error:
            done.fail(error)
        else:
            done.found, done.version, done.position = result.found, result.version, result.position

    async def _conclude(self, done: Round, mailbox: deque[Waiting]) -> None:
        if done.error is None:
            await self._answer_first(self._answer(done), done.found)
            if done.spoiled:
                self._state = None
            elif self._is_due():
                await self._snapshot()
            return
        self._state = None  # it has applied what is not stored, or was stored before
        if isinstance(done.error, DuplicateCommands):
            self._repeating = True
            await self._answer_committed(done, done.error.found, mailbox)
        elif isinstance(done.error, ConcurrencyConflict):
            self._decide_again(done.decided, mailbox, done.error)
        else:
            raise done.error

    def _answer(self, done: Round) -> list[Waiting]:
        """Answer what is decided now; gives the commands whose ids were committed before."""
        version, position = done.version - done.events, self._position
        shard, outcomes, failed = self._log.index, self._decider.outcomes, 0
        repeated: list[Waiting] = []
        for waiting in done.decided:
            if done.found and waiting.item.command_id in done.found:
                repeated.append(waiting)
            elif waiting.error is not None:
                failed += 1
                outcomes[outcome_of(waiting.error)] += 1 + len(waiting.copies)
                answer_all(waiting, Kind.ERROR, waiting.error)
            else:
                encoded = waiting.encoded
                if encoded:
                    version += len(encoded)
                    position = done.position - (done.version - version)  # both are contiguous within an append
                waiting.answer(Kind.RECEIPT, _receipt((version, shard, position, False, encoded)))
                for copy in waiting.copies:
                    outcomes["duplicate"] += 1
                    copy.answer(Kind.RECEIPT, ReceiptData(version, shard, position, bool(encoded), encoded))
        outcomes["answered"] += len(done.decided) - len(repeated) - failed
        self._position = done.position
        return repeated

    async def _answer_committed(self, done: Round, found: dict[str, Committed], mailbox: deque[Waiting]) -> None:
        """Some ids were committed before: those get their first receipt, the others of the batch run again."""
        await self._answer_first([w for w in done.decided if w.item.command_id in found], found)
        self._put_back([w for w in done.decided if w.item.command_id not in found], mailbox)

    def _is_repeat_likely(self, next: Waiting) -> bool:
        """Whether ids are looked up before anything runs: after duplicates, or where a run for nothing takes long."""
        return self._repeating or (next.item.look_up and self._decider.blocks(next))

    async def _answer_repeated(self, mailbox: deque[Waiting]) -> bool:
        """Where duplicates come in a row (an import that is run again), find them before they spoil the state.

        Gives whether any was found; without, the next rounds look nothing up again.
        """
        most = self._decider.config.commit_commands_max
        ids = list({waiting.item.command_id for waiting in islice(mailbox, most) if waiting.item.look_up})
        found = await self._log.lookup(self.stream, ids) if ids else {}
        self._repeating = bool(found)
        taken = [mailbox.popleft() for _ in range(min(most, len(mailbox)))] if found else []
        known = [waiting for waiting in taken if waiting.item.command_id in found]
        mailbox.extendleft(waiting for waiting in reversed(taken) if waiting.item.command_id not in found)
        try:
            await self._answer_first(known, found)
        except BaseException:
            mailbox.extendleft(reversed(known))  # not answered: they end as the rest does
            raise
        return bool(found)

    async def _answer_first(self, repeated: list[Waiting], found: Mapping[str, Committed]) -> None:
        """Answer each with the receipt of its id's first run, rebuilt from the log."""
        same: list[tuple[Waiting, Appended]] = []
        for waiting in repeated:
            first = found[waiting.item.command_id]
            error = reused(waiting.item, self.stream, first.name, first.fingerprint)
            if error is None:
                same.append((waiting, first.appended))
            else:
                self._decider.outcomes["failed"] += 1 + len(waiting.copies)
                answer_all(waiting, Kind.ERROR, error)
        ranges = [(last.version - last.events + 1, last.version) for _, last in same]
        events = await read_versions(self._log, self.stream, ranges, self._decider.config.load_page_events)
        for waiting, last in same:
            self._decider.outcomes["duplicate"] += 1 + len(waiting.copies)
            own = [events[version] for version in range(last.version - last.events + 1, last.version + 1)]
            answer_all(waiting, Kind.RECEIPT, ReceiptData(last.version, last.shard, last.position, True, own))

    def _decide_again(self, decided: list[Waiting], mailbox: deque[Waiting], conflict: ConcurrencyConflict) -> None:
        """Another writer appended: the commands run again on the new state, a bounded number of times."""
        for waiting in decided:
            waiting.attempts += 1
            if waiting.attempts >= self._decider.config.conflict_attempts_max:
                self._decider.outcomes["refused"] += 1 + len(waiting.copies)
                answer_all(waiting, Kind.ERROR, conflict)
        most = self._decider.config.conflict_attempts_max
        self._put_back([waiting for waiting in decided if waiting.attempts < most], mailbox)

    @staticmethod
    def _put_back(decided: list[Waiting], mailbox: deque[Waiting]) -> None:
        for waiting in reversed(decided):
            mailbox.extendleft(reversed(waiting.copies))
            mailbox.appendleft(waiting)
            waiting.begin_anew()

    def _is_due(self) -> bool:
        every = self._decider.model.snapshot_every
        return bool(every) and self._state is not None and self._state.version - self._snapshot_version >= (every or 0)

    async def _snapshot(self) -> None:
        state = self._state
        assert state is not None
        self._snapshot_version = state.version
        try:
            await self._log.save_snapshot(
                self.stream,
                version=state.version,
                data=self._decider.model.encode_state(state),
                fingerprint=self._decider.model.fingerprint,
            )
        except EventRayError as error:
            log.warning("no snapshot of %s at version %d: %s", self.stream, state.version, error)
