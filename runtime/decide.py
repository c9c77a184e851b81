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
from typing import TYPE_CHECKING, Any

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
from eventray.runtime.model import AggregateModel
from eventray.runtime.outcomes import Outcomes
from eventray.runtime.threads import Threads
from eventray.runtime.wire import Answerer, CommandItem, Kind
from eventray.store.records import NewCommand, NewRecord, maker
from eventray.store.settling import AppendJob

if TYPE_CHECKING:
    from eventray.runtime.activation import Activation

log = logging.getLogger("eventray.runtime")

_new_record = maker(NewRecord)
_new_command = maker(NewCommand)


class Waiting:
    """A command in a mailbox, and what it came to: events to append (encoded), nothing, or an error."""

    __slots__ = ("answer", "attempts", "copies", "encoded", "error", "item")

    def __init__(self, item: CommandItem, answer: Answerer) -> None:
        self.item = item
        self.answer = answer
        self.attempts = 0
        self.encoded: list[tuple[str, int, bytes]] = []
        self.error: BaseException | None = None
        self.copies: list[Waiting] = []  # the same id and content again, in one round

    def begin_anew(self) -> None:
        """Forget what it came to."""
        self.encoded, self.error, self.copies = [], None, []


class Round(AppendJob):
    """The commands that were decided together on top of `version`, and the append that makes it true.

    Who sends that says whose it is: `stream`, `activation` and `settle`.
    """

    __slots__ = ("activation", "decided", "spoiled")

    activation: Activation
    commands: list[NewCommand]
    lookups: list[str]

    def __init__(self, version: int) -> None:
        super().__init__("", [], _not_sent, version, None, [])
        self.decided: list[Waiting] = []
        self.spoiled = False  # the state may be wrong now: drop it after this round


def _not_sent(_: object) -> None:
    raise AssertionError("a round is settled that nobody has sent")


def fingerprint(item: CommandItem) -> bytes:
    """What tells two commands with one id apart (with the command's name)."""
    return hashlib.blake2b(item.args, digest_size=8).digest()


class Decider:
    """Runs commands of one aggregate class; those that block in `threads` (its own, if none are given).

    Attributes:
        outcomes: how commands of the class ended in this process; counted by its activations.
    """

    __slots__ = ("_threads", "_warned", "config", "model", "outcomes")

    def __init__(self, model: AggregateModel, config: Config, threads: Threads | None = None) -> None:
        self.model = model
        self.config = config
        self._threads = threads or Threads(config.blocking_threads_max)
        self._warned: set[str] = set()
        self.outcomes: Outcomes = Counter()

    def blocks(self, waiting: Waiting) -> bool:
        """Whether a command has to run in a thread of its own."""
        command = self.model.commands.get(waiting.item.command)
        return command is not None and command.blocking

    def decide(self, state: Aggregate, mailbox: deque[Waiting]) -> Round:
        """Take commands from the mailbox and decide them, up to the limits of a commit.

        The round ends early at a command that spoils the state, before one that blocks, and before one that uses an
        id of this round again for something else.
        """
        config = self.config
        done = Round(state.version)
        by_id: dict[str, Waiting] = {}
        with DomainCode(self.model.name):
            while mailbox and not done.spoiled and len(done.decided) < config.commit_commands_max:
                waiting = mailbox[0]
                first = by_id.get(waiting.item.command_id)
                if first is not None:
                    if not _is_copy(waiting.item, first.item):
                        break
                    first.copies.append(mailbox.popleft())
                    continue
                if done.size_bytes >= config.commit_bytes_max or done.events >= config.command_events_max:
                    break
                if self.blocks(waiting):
                    break
                mailbox.popleft()
                by_id[waiting.item.command_id] = waiting
                self._decide(state, waiting, done)
                done.decided.append(waiting)
        return done

    async def decide_blocking(self, state: Aggregate, mailbox: deque[Waiting]) -> Round:
        """Decide the first command of the mailbox in a thread."""
        done = Round(state.version)
        waiting = mailbox.popleft()
        await self._threads.run(self._decide_guarded, state, waiting, done)
        done.decided.append(waiting)
        return done

    def _decide_guarded(self, state: Aggregate, waiting: Waiting, done: Round) -> None:
        with DomainCode(self.model.name):
            self._decide(state, waiting, done)

    def _decide(self, state: Aggregate, waiting: Waiting, done: Round) -> None:
        item = waiting.item
        try:
            events = self._run(state, item)
            if events:
                encoded = self._encode(state, events, len(item.metadata))
                self._apply(state, encoded)
                waiting.encoded = encoded
        except (Rejected, ConcurrencyConflict, UnknownName) as error:
            waiting.error = error
        except (ImpureCommand, EncodingError, EventTooLarge) as error:
            waiting.error, done.spoiled = error, True
        except BaseException as error:  # sys.exit() in a command, too: it must not end the engine
            waiting.error, done.spoiled = self._failed(state, item, error), True
        if waiting.encoded:
            _add(item, waiting.encoded, done)
        elif item.look_up:
            done.lookups.append(item.command_id)

    def _run(self, state: Aggregate, item: CommandItem) -> list[Event]:
        command = self.model.commands.get(item.command)
        if command is None:
            raise UnknownName("command", f"{self.model.name}.{item.command}", tuple(self.model.commands))
        if item.expected_version is not None and item.expected_version != state.version:
            raise ConcurrencyConflict(f"{self.model.name}/{state.id}", item.expected_version, state.version)
        arguments = command.decode(item.args)
        before = state.__dict__.copy()
        deep_before = self.model.encode_state(state) if self.config.check_purity else b""
        DomainCode.now(command.where)
        started = time.perf_counter()
        events = command.call(state, arguments)
        took_s = time.perf_counter() - started
        if took_s > self.config.slow_command_s and not command.blocking:
            self._warn(command.where, took_s)
        # Comparing is cheap: values that were not replaced are the same objects.
        if state.__dict__ != before or (deep_before and self.model.encode_state(state) != deep_before):
            changed = tuple(k for k in before if state.__dict__.get(k) is not before[k])
            raise ImpureCommand(f"{self.model.name}/{state.id}", command.name, changed)
        return events

    def _warn(self, name: str, took_s: float) -> None:
        if name not in self._warned:
            self._warned.add(name)
            log.warning(
                "%s computed for %.2f s and everything else in its process waited; declare it @command(blocking=True)",
                name,
                took_s,
            )

    def _encode(self, state: Aggregate, events: list[Event], metadata_bytes: int) -> list[tuple[str, int, bytes]]:
        config, encode = self.config, self.model.events.encode
        encoded, total = [], 0
        for event in events:
            one = encode(event)
            size = len(one[2]) + metadata_bytes
            if size > config.event_bytes_max:
                raise EventTooLarge(f"{self.model.name}/{state.id}: {one[0]}", size, config.event_bytes_max)
            encoded.append(one)
            total += size
        if total > config.commit_bytes_max:
            where = f"{self.model.name}/{state.id}: all events of one command"
            raise EventTooLarge(where, total, config.commit_bytes_max)
        if len(encoded) > config.command_events_max:
            where = f"{self.model.name}/{state.id}: number of events of one command"
            raise EventTooLarge(where, len(encoded), config.command_events_max)
        return encoded

    def _apply(self, state: Aggregate, encoded: list[tuple[str, int, bytes]]) -> None:
        model = self.model
        for one in encoded:
            event = model.events.decode(*one)
            try:
                model.apply(state, event)
            except Rejected as error:  # too late to refuse: the state is half changed
                raise TypeError(f"apply raised {error!r}: only a command may refuse") from error

    def _failed(self, state: Aggregate, item: CommandItem, error: BaseException) -> EventRayError:
        failed = CommandFailed(
            f"{self.model.name}/{state.id}",
            item.command,
            str(error),
            type(error).__name__,
            "".join(traceback.format_exception(error)),
        )
        failed.__cause__ = error
        return failed


def _add(item: CommandItem, encoded: list[tuple[str, int, bytes]], done: Round) -> None:
    meta = item.metadata
    records = [_new_record((name, data, meta, version)) for name, version, data in encoded]
    done.size_bytes += len(meta) * len(records) + sum([len(one[2]) for one in encoded])
    done.events += len(records)
    done.commands.append(_new_command((item.command_id, records, item.command, fingerprint(item))))


def _is_copy(item: CommandItem, first: CommandItem) -> bool:
    return first.command == item.command and first.args == item.args


def reused(item: CommandItem, stream: str, first_command: str, first_fingerprint: bytes) -> CommandIdReused | None:
    """The error of an id that was committed for another command or other arguments, else None."""
    if first_command == item.command and first_fingerprint == fingerprint(item):
        return None
    return CommandIdReused(stream, item.command_id, first_command, item.command)


def answer_all(waiting: Waiting, kind: Kind, payload: Any) -> None:
    """Answer a command and its copies alike."""
    waiting.answer(kind, payload)
    for copy in waiting.copies:
        copy.answer(kind, payload)
