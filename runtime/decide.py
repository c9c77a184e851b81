"""Runs waiting commands one after another against an aggregate's state; nothing here is stored or answered yet.

Per command: run it, encode its events, decode them again and apply the decoded copies. So live state is replayed
state, and what cannot be stored is known before anything is appended.
"""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections import Counter, deque
from typing import Any

from eventray.domain.aggregate import Aggregate
from eventray.domain.errors import (
    CommandFailed,
    CommandIdReused,
    ConcurrencyConflict,
    EncodingError,
    EventRayError,
    EventTooLarge,
    ImpureCommand,
    Rejected,
    UnknownName,
)
from eventray.domain.messages import Event
from eventray.runtime.config import Config
from eventray.runtime.guard import DomainCode
from eventray.runtime.metrics import Outcomes
from eventray.runtime.model import AggregateModel
from eventray.runtime.threads import Threads
from eventray.runtime.wire import Answerer, CommandItem, Kind
from eventray.store.records import NewCommand, NewRecord

log = logging.getLogger("eventray.runtime")


class Waiting:
    """A command in a mailbox."""

    __slots__ = ("answer", "attempts", "item")

    def __init__(self, item: CommandItem, answer: Answerer) -> None:
        self.item = item
        self.answer = answer
        self.attempts = 0


class Decision:
    """What a command came to: events to append (encoded), nothing, or an error."""

    __slots__ = ("copies", "encoded", "error", "fingerprint", "waiting")

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.encoded: list[tuple[str, int, bytes]] = []
        self.error: BaseException | None = None
        self.fingerprint = fingerprint(waiting.item)
        self.copies: list[Waiting] = []  # the same id and content again, in one batch


class Round:
    """The decisions of one batch on top of `version`, and what the store must be asked to make them true."""

    __slots__ = ("commands", "decisions", "events", "lookups", "size_bytes", "spoiled", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        self.decisions: list[Decision] = []
        self.commands: list[NewCommand] = []
        self.lookups: list[str] = []
        self.size_bytes = 0
        self.events = 0
        self.spoiled = False  # the state may be wrong now: drop it after this round


def fingerprint(item: CommandItem) -> bytes:
    """What tells two commands with one id apart (with the command's name)."""
    return hashlib.blake2b(item.args, digest_size=8).digest()


class Decider:
    """Runs commands of one aggregate class; those that block in `threads` (its own, if none are given).

    Attributes:
        outcomes: how commands of the class ended in this process; counted by its activations.
    """

    __slots__ = ("_config", "_model", "_threads", "_warned", "outcomes")

    def __init__(self, model: AggregateModel, config: Config, threads: Threads | None = None) -> None:
        self._model = model
        self._config = config
        self._threads = threads or Threads(config.blocking_threads_max)
        self._warned: set[str] = set()
        self.outcomes: Outcomes = Counter()

    def blocks(self, waiting: Waiting) -> bool:
        """Whether a command has to run in a thread of its own."""
        command = self._model.commands.get(waiting.item.command)
        return command is not None and command.blocking

    def decide(self, state: Aggregate, mailbox: deque[Waiting]) -> Round:
        """Take commands from the mailbox and decide them, up to the limits of a commit.

        The round ends early at a command that spoils the state, before one that blocks, and before one that uses an
        id of this round again for something else.
        """
        config = self._config
        done = Round(state.version)
        by_id: dict[str, Decision] = {}
        with DomainCode(self._model.name):
            while mailbox and not done.spoiled and len(done.decisions) < config.commit_commands_max:
                waiting = mailbox[0]
                first = by_id.get(waiting.item.command_id)
                if first is not None:
                    if not _is_copy(waiting.item, first):
                        break
                    first.copies.append(mailbox.popleft())
                    continue
                if done.size_bytes >= config.commit_bytes_max or done.events >= config.command_events_max:
                    break
                if self.blocks(waiting):
                    break
                mailbox.popleft()
                decision = by_id[waiting.item.command_id] = Decision(waiting)
                self._decide(state, decision, done)
                done.decisions.append(decision)
        return done

    async def decide_blocking(self, state: Aggregate, mailbox: deque[Waiting]) -> Round:
        """Decide the first command of the mailbox in a thread."""
        done = Round(state.version)
        decision = Decision(mailbox.popleft())
        await self._threads.run(self._decide_guarded, state, decision, done)
        done.decisions.append(decision)
        return done

    def _decide_guarded(self, state: Aggregate, decision: Decision, done: Round) -> None:
        with DomainCode(self._model.name):
            self._decide(state, decision, done)

    def _decide(self, state: Aggregate, decision: Decision, done: Round) -> None:
        item = decision.waiting.item
        try:
            events = self._run(state, item)
            if events:
                self._encode(state, events, decision, item.metadata)
                self._apply(state, decision)
        except (Rejected, ConcurrencyConflict, UnknownName) as error:
            decision.error = error
        except (ImpureCommand, EncodingError, EventTooLarge) as error:
            decision.error, done.spoiled = error, True
        except BaseException as error:  # sys.exit() in a command, too: it must not end the engine
            decision.error, done.spoiled = self._failed(state, item, error), True
        if decision.error is None and decision.encoded:
            self._add(decision, done)
        elif item.look_up:
            done.lookups.append(item.command_id)

    def _run(self, state: Aggregate, item: CommandItem) -> list[Event]:
        command = self._model.commands.get(item.command)
        if command is None:
            raise UnknownName("command", f"{self._model.name}.{item.command}", tuple(self._model.commands))
        if item.expected_version is not None and item.expected_version != state.version:
            raise ConcurrencyConflict(f"{self._model.name}/{state.id}", item.expected_version, state.version)
        arguments = command.decode(item.args)
        before = state.__dict__.copy()
        deep_before = self._model.encode_state(state) if self._config.check_purity else b""
        DomainCode.now(command.where)
        started = time.perf_counter()
        events = command.call(state, arguments)
        if not command.blocking:
            self._warn_if_slow(command.where, time.perf_counter() - started)
        # Comparing is cheap: values that were not replaced are the same objects.
        if state.__dict__ != before or (deep_before and self._model.encode_state(state) != deep_before):
            changed = tuple(k for k in before if state.__dict__.get(k) is not before[k])
            raise ImpureCommand(f"{self._model.name}/{state.id}", command.name, changed)
        return events

    def _warn_if_slow(self, name: str, took_s: float) -> None:
        if took_s > self._config.slow_command_s and name not in self._warned:
            self._warned.add(name)
            log.warning(
                "%s computed for %.2f s and everything else in its process waited; declare it @command(blocking=True)",
                name,
                took_s,
            )

    def _encode(self, state: Aggregate, events: list[Event], decision: Decision, metadata: bytes) -> None:
        config = self._config
        encoded = [self._model.events.encode(event) for event in events]
        sizes = [len(data) + len(metadata) for _, _, data in encoded]
        if max(sizes) > config.event_bytes_max:
            name = encoded[sizes.index(max(sizes))][0]
            raise EventTooLarge(f"{self._model.name}/{state.id}: {name}", max(sizes), config.event_bytes_max)
        if sum(sizes) > config.commit_bytes_max:
            where = f"{self._model.name}/{state.id}: all events of one command"
            raise EventTooLarge(where, sum(sizes), config.commit_bytes_max)
        if len(encoded) > config.command_events_max:
            where = f"{self._model.name}/{state.id}: number of events of one command"
            raise EventTooLarge(where, len(encoded), config.command_events_max)
        decision.encoded = encoded

    def _apply(self, state: Aggregate, decision: Decision) -> None:
        model = self._model
        for encoded in decision.encoded:
            event = model.events.decode(*encoded)
            try:
                model.apply(state, event)
            except Rejected as error:  # too late to refuse: the state is half changed
                raise TypeError(f"apply raised {error!r}: only a command may refuse") from error

    def _add(self, decision: Decision, done: Round) -> None:
        item = decision.waiting.item
        records = [NewRecord(name, data, item.metadata, version) for name, version, data in decision.encoded]
        for record in records:
            done.size_bytes += len(record.data) + len(record.meta)
        done.events += len(records)
        done.commands.append(NewCommand(item.command_id, records, item.command, decision.fingerprint))

    def _failed(self, state: Aggregate, item: CommandItem, error: BaseException) -> EventRayError:
        failed = CommandFailed(
            f"{self._model.name}/{state.id}",
            item.command,
            str(error),
            type(error).__name__,
            "".join(traceback.format_exception(error)),
        )
        failed.__cause__ = error
        return failed


def _is_copy(item: CommandItem, first: Decision) -> bool:
    return first.waiting.item.command == item.command and first.fingerprint == fingerprint(item)


def reused(item: CommandItem, stream: str, first_command: str, first_fingerprint: bytes) -> CommandIdReused | None:
    """The error of an id that was committed for another command or other arguments, else None."""
    if first_command == item.command and first_fingerprint == fingerprint(item):
        return None
    return CommandIdReused(stream, item.command_id, first_command, item.command)


def answer_all(decision: Decision, kind: Kind, payload: Any) -> None:
    """Answer a decision and its copies alike."""
    decision.waiting.answer(kind, payload)
    for copy in decision.copies:
        copy.answer(kind, payload)
