"""Runs waiting commands one after another against an aggregate's state; nothing here is stored or answered yet.

Per command: run it, encode its events, decode them again and apply the decoded copies. So live state is replayed
state, and what cannot be stored is known before anything is appended.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from eventray.domain.aggregate import Aggregate
from eventray.domain.messages import Event
from eventray.runtime.model import AggregateModel, CommandModel

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
from eventray.runtime.config import Config
from eventray.runtime.guard import DomainCode
from eventray.runtime.wire import Answerer, CommandItem, Kind
from eventray.store.records import NewCommand, NewRecord

log = logging.getLogger("eventray.runtime")


@dataclass(slots=True)
class Waiting:
    """A command in a mailbox."""

    item: CommandItem
    answer: Answerer
    attempts: int = 0


@dataclass(slots=True)
class Decision:
    """What a command came to: events to append, nothing, or an error."""

    waiting: Waiting
    encoded: list[tuple[str, int, bytes]] = field(default_factory=list)
    error: BaseException | None = None
    fingerprint: bytes = b""
    copies: list[Waiting] = field(default_factory=list)  # the same id and content again, in one batch


@dataclass(slots=True)
class Round:
    """The decisions of one batch on top of `version`, and what the store must be asked to make them true."""

    version: int
    decisions: list[Decision] = field(default_factory=list)
    commands: list[NewCommand] = field(default_factory=list)
    lookups: list[str] = field(default_factory=list)
    size_bytes: int = 0
    spoiled: bool = False  # the state may be wrong now: drop it after this round


def fingerprint(item: CommandItem) -> bytes:
    """What tells two commands with one id apart (with the command's name)."""
    return hashlib.blake2b(item.args, digest_size=8).digest()


class Decider:
    """Runs commands of one aggregate class."""

    __slots__ = ("_config", "_model", "_warned")

    def __init__(self, model: AggregateModel, config: Config) -> None:
        self._model = model
        self._config = config
        self._warned: set[str] = set()

    async def decide(self, state: Aggregate, mailbox: deque[Waiting]) -> Round:
        """Take commands from the mailbox and decide them, up to the limits of a commit.

        The round ends early at a command that spoils the state, and before one that uses an id of this round again
        for something else.
        """
        config = self._config
        done = Round(state.version)
        by_id: dict[str, Decision] = {}
        while mailbox and not done.spoiled and len(done.decisions) < config.commit_commands_max:
            if done.size_bytes >= config.commit_bytes_max:
                break
            item = mailbox[0].item
            first = by_id.get(item.command_id)
            if first is not None:
                if first.waiting.item.command != item.command or first.fingerprint != fingerprint(item):
                    break
                first.copies.append(mailbox.popleft())
                continue
            decision = Decision(mailbox.popleft(), fingerprint=fingerprint(item))
            by_id[item.command_id] = decision
            await self._decide(state, decision, done)
            done.decisions.append(decision)
        return done

    async def _decide(self, state: Aggregate, decision: Decision, done: Round) -> None:
        item = decision.waiting.item
        try:
            command, arguments = self._command(item, state)
            events = await self._call(command, state, arguments)
            self._encode(state, events, decision, item.metadata)
            self._apply(state, decision)
        except (Rejected, ConcurrencyConflict, UnknownName) as error:
            decision.error = error
        except (ImpureCommand, EncodingError, EventTooLarge) as error:
            decision.error, done.spoiled = error, True
        except Exception as error:
            decision.error, done.spoiled = self._failed(state, item, error), True
        if decision.error is None and decision.encoded:
            self._add(decision, done)
        elif item.look_up:
            decision.encoded = []
            done.lookups.append(item.command_id)

    def _command(self, item: CommandItem, state: Aggregate) -> tuple[CommandModel, dict[str, Any]]:
        command = self._model.commands.get(item.command)
        if command is None:
            raise UnknownName("command", f"{self._model.name}.{item.command}", tuple(self._model.commands))
        if item.expected_version is not None and item.expected_version != state.version:
            raise ConcurrencyConflict(f"{self._model.name}/{state.id}", item.expected_version, state.version)
        return command, command.decode(item.args)

    async def _call(self, command: CommandModel, state: Aggregate, arguments: dict[str, Any]) -> list[Event]:
        name = f"{self._model.name}.{command.name}"
        before = dict(state.__dict__)
        deep_before = self._model.encode_state(state) if self._config.check_purity else b""
        started = time.perf_counter()
        if command.blocking:
            events = await asyncio.to_thread(_guarded_call, name, command, state, arguments)
        else:
            with DomainCode(name):
                events = command.call(state, arguments)
            self._warn_if_slow(name, time.perf_counter() - started)
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
        config, where = self._config, f"{self._model.name}/{state.id}"
        if len(events) > config.command_events_max:
            raise EventTooLarge(f"{where}: number of events of one command", len(events), config.command_events_max)
        total = 0
        for event in events:
            encoded = self._model.events.encode(event)
            size = len(encoded[2]) + len(metadata)
            if size > config.event_bytes_max:
                raise EventTooLarge(f"{where}: {encoded[0]}", size, config.event_bytes_max)
            total += size
            decision.encoded.append(encoded)
        if total > config.commit_bytes_max:
            raise EventTooLarge(f"{where}: all events of one command", total, config.commit_bytes_max)

    def _apply(self, state: Aggregate, decision: Decision) -> None:
        with DomainCode(f"{self._model.name}.apply"):
            for encoded in decision.encoded:
                event = self._model.events.decode(*encoded)
                try:
                    self._model.apply(state, event)
                except Rejected as error:  # too late to refuse: the state is half changed
                    raise TypeError(f"apply raised {error!r}: only a command may refuse") from error

    def _add(self, decision: Decision, done: Round) -> None:
        item = decision.waiting.item
        records = [NewRecord(name, data, item.metadata, version) for name, version, data in decision.encoded]
        done.size_bytes += sum(len(record.data) + len(record.meta) for record in records)
        done.commands.append(NewCommand(item.command_id, records, item.command, decision.fingerprint))

    def _failed(self, state: Aggregate, item: CommandItem, error: Exception) -> EventRayError:
        failed = CommandFailed(
            f"{self._model.name}/{state.id}",
            item.command,
            str(error),
            type(error).__name__,
            "".join(traceback.format_exception(error)),
        )
        failed.__cause__ = error
        return failed


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


def _guarded_call(name: str, command: CommandModel, state: Aggregate, arguments: dict[str, Any]) -> list[Event]:
    with DomainCode(name):
        return command.call(state, arguments)
