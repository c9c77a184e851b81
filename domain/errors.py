"""Every error of eventray. Each says what happened, where, and what to do next.

EventRayError
    Rejected                    the domain said no
    CommandFailed               a command raised something else than `Rejected`
    ImpureCommand               a command changed its aggregate's state
    CommandTimeout              no answer in time: outcome unknown
    CommandIdReused             one command id, two different commands
    CommandPoisoned             a command that crashed its process too often
    ConcurrencyConflict         the stream is not at the expected version
    EncodingError               a value that does not fit its annotation, or bytes that do not
    EventTooLarge               an event or a batch above its limit
    InvalidId                   an id that cannot name a stream
    Overloaded                  a bounded queue is full
    UnknownEvent                a stored event that no class of the app stands for
    UnknownName                 an aggregate, projection, command or app that is not there
    StaleView                   a view that did not catch up in time
    ProjectionStopped           a view that does not follow the log any more
    ShardUnavailable            a shard that cannot serve now
    ShardFenced                 a writer that another one has replaced
    ActivationSuperseded        an activation that another one has replaced (internal)
    StoreLocked, StoreMismatch, StoreFull, StoreCorrupted, StoreUnavailable
    RayUnavailable              Ray is absent, unreachable or refuses us
    RayUnprotected              a Ray that obeys everyone who reaches it
    ExtraMissing                a package of an optional extra that is not installed
    AppEnded                    the app, or this runtime of it, was shut down
"""

# ruff: noqa: N818 - the names say what happened, in the words of the field; none would be clearer with "Error" behind it.
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

Advice = Literal["give up", "send again", "repair"]

_SHOWN_CHARS_MAX = 120


def shortened(text: object) -> str:
    """Return `text` fit for a one-line message: plain when it is short and printable, else a cut repr."""
    plain = text if isinstance(text, str) else repr(text)
    if len(plain) <= _SHOWN_CHARS_MAX and plain.isprintable():
        return plain
    shown = repr(plain[:_SHOWN_CHARS_MAX])
    return shown if len(plain) <= _SHOWN_CHARS_MAX else f"{shown}... ({len(plain)} characters)"


def _rebuild(cls: type[EventRayError], args: tuple[Any, ...], facts: dict[str, Any]) -> EventRayError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class EventRayError(Exception):
    """Base of all errors of eventray.

    `advice` says what a caller may do: "give up" (the same call fails again), "send again" (it may
    succeed later; sending with the same command id is safe), "repair" (a person or a new release is needed).
    """

    advice: ClassVar[Advice] = "give up"

    # An error crosses processes as type, args and facts: subclasses may have any `__init__`, so it must not run again.
    def __reduce__(self) -> tuple[Callable[..., EventRayError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class Rejected(EventRayError):
    """Raised by a command to refuse: nothing is stored and the caller gets this very exception.

    Derive from it freely, with any `__init__`: it is rebuilt from type, args and `__dict__`.
    """

    advice = "give up"


class CommandFailed(EventRayError):
    """A command (or `apply`) raised something else than `Rejected`; nothing was stored."""

    advice = "repair"

    def __init__(self, stream: str, command: str, cause: str, cause_type: str = "", traceback: str = "") -> None:
        what = f"{cause_type}: {cause}" if cause_type else cause
        super().__init__(
            f"{command} on {shortened(stream)} failed with {what}. "
            "Nothing was stored; fix the command or its arguments."
        )
        self.stream, self.command, self.cause = stream, command, cause
        self.cause_type, self.traceback = cause_type, traceback


class ImpureCommand(EventRayError):
    """A command changed its aggregate's state itself; nothing was stored."""

    advice = "repair"

    def __init__(self, stream: str, command: str, changed: tuple[str, ...]) -> None:
        super().__init__(
            f"{command} on {shortened(stream)} changed {', '.join(changed)}. Nothing was stored; "
            "return an event and change state in apply() only."
        )
        self.stream, self.command, self.changed = stream, command, tuple(changed)


class CommandTimeout(EventRayError):
    """No answer within the command's timeout (seconds): whether it was committed is unknown."""

    advice = "send again"

    def __init__(self, stream: str, command: str, command_id: str, timeout_s: float) -> None:
        super().__init__(
            f"{command} on {shortened(stream)} had no answer within {timeout_s:g} s: its outcome is unknown. "
            f"Send it again with command_id={shortened(command_id)!r}; it cannot run twice."
        )
        self.stream, self.command, self.command_id, self.timeout_s = stream, command, command_id, timeout_s


class CommandIdReused(EventRayError):
    """The command id is committed in this stream for another command or other arguments."""

    advice = "give up"

    def __init__(self, stream: str, command_id: str, first_command: str, command: str) -> None:
        other = first_command if first_command != command else f"{first_command} with other arguments"
        super().__init__(
            f"command id {shortened(command_id)!r} of {command} on {shortened(stream)} already belongs to {other}. "
            "Nothing was stored; give each command an id of its own."
        )
        self.stream, self.command_id = stream, command_id
        self.first_command, self.command = first_command, command


class CommandPoisoned(EventRayError):
    """A command ended its process each time it ran; nothing was stored, and it is not sent any more.

    `crashes` counts those that it surely caused, running alone. The client that sent it knows, and nobody else: sent
    again, it would run, and crash, again.
    """

    advice = "repair"

    def __init__(self, stream: str, command_id: str, crashes: int) -> None:
        super().__init__(
            f"the command with id {shortened(command_id)!r} on {shortened(stream)} ended its process {crashes} times "
            "and is refused now. Fix the command, then send it under a new id."
        )
        self.stream, self.command_id, self.crashes = stream, command_id, crashes


class ConcurrencyConflict(EventRayError):
    """The stream is not at the version that the caller expected; nothing was stored."""

    advice = "send again"

    def __init__(self, stream: str, expected: int | None, actual: int) -> None:
        super().__init__(
            f"{shortened(stream)} is at version {actual}, not at {expected} as expected. Nothing was stored; "
            "look at the new events, decide again and send with the version you saw."
        )
        self.stream, self.expected, self.actual = stream, expected, actual


class EncodingError(EventRayError):
    """A value does not fit its annotation, or bytes do not: `where` names it, as in `Deposited.amount`."""

    advice = "give up"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where, self.reason = where, reason


class EventTooLarge(EventRayError):
    """An event or a batch is above its limit (bytes); nothing was stored."""

    advice = "give up"

    def __init__(self, where: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{shortened(where)} has {size_bytes} bytes, the limit is {limit_bytes}. Nothing was stored; "
            "keep large data elsewhere and store a reference, or raise the limit."
        )
        self.where, self.size_bytes, self.limit_bytes = where, size_bytes, limit_bytes


class InvalidId(EventRayError):
    """The id cannot name a stream."""

    advice = "give up"

    def __init__(self, id: str, reason: str) -> None:
        shown = id if isinstance(id, str) else repr(id)
        cut = repr(shown[:40]) + ("..." if len(shown) > 40 else "")
        super().__init__(f"the id {cut} is refused: {reason}. Use another id.")
        self.id, self.reason = id, reason


class Overloaded(EventRayError):
    """A bounded queue is full; nothing was accepted. `retry_after_s` is in seconds."""

    advice = "send again"

    def __init__(self, where: str, limit: int, unit: str, retry_after_s: float) -> None:
        super().__init__(
            f"{shortened(where)} already holds its limit of {limit} {unit}. Nothing was accepted; "
            f"send again in {retry_after_s:g} s."
        )
        self.where, self.limit, self.unit, self.retry_after_s = where, limit, unit, retry_after_s


class UnknownEvent(EventRayError):
    """A stored event has a type or a type version that no class of the app stands for."""

    advice = "repair"

    def __init__(
        self, type: str, version: int, stream: str = "", at_version: int = 0, shard: int = -1, position: int = 0
    ) -> None:
        place = f" (at {shortened(stream)}@{at_version}, position {position} of shard {shard})" if stream else ""
        super().__init__(
            f"no event class stands for {type!r} version {version}{place}. Deploy the release that knows it, "
            f"keep the stored name of a renamed class with name={type!r}, or register an @upcast."
        )
        self.type, self.version, self.stream, self.at_version = type, version, stream, at_version
        self.shard, self.position = shard, position


class UnknownName(EventRayError):
    """There is no such aggregate, projection, command, query or app. `kind` says which of them was looked for."""

    advice = "give up"

    def __init__(self, kind: str, name: str, known: tuple[str, ...] = ()) -> None:
        there = f"there are {', '.join(known)}" if known else "there is none"
        super().__init__(f"there is no {kind} {shortened(name)!r}: {there}.")
        self.kind, self.name, self.known = kind, name, tuple(known)


class StaleView(EventRayError):
    """A view did not reach the asked positions within the timeout (seconds).

    `behind` maps each late shard to the number of positions that are missing.
    """

    advice = "send again"

    def __init__(self, view: str, behind: Mapping[int, int], timeout_s: float) -> None:
        missing = ", ".join(f"shard {shard} by {count}" for shard, count in sorted(behind.items()))
        super().__init__(
            f"view {view} is behind after {timeout_s:g} s ({missing}). "
            'Ask again, with a longer timeout, or take what it has with options(stale="serve").'
        )
        self.view, self.behind, self.timeout_s = view, dict(behind), timeout_s


class ProjectionStopped(EventRayError):
    """A projection stopped following the log and cannot answer for later positions."""

    advice = "repair"

    def __init__(self, view: str, reason: str, shard: int = -1, position: int = 0) -> None:
        place = f" at position {position} of shard {shard}" if shard >= 0 else ""
        super().__init__(
            f"projection {view} stopped{place}: {reason}. Fix its apply() or the event, then start it again."
        )
        self.view, self.reason, self.shard, self.position = view, reason, shard, position


class ShardUnavailable(EventRayError):
    """A shard cannot serve now. What was in flight may or may not be committed: its command id settles it later.

    `lost`: its file, or the node that has it, is not there, so that nothing will answer before it is back.
    """

    advice = "send again"

    def __init__(self, shard: int, reason: str, lost: bool = False) -> None:
        super().__init__(
            f"shard {shard} is unavailable: {reason}. Send again with the same command id when it is back."
        )
        self.shard, self.reason, self.lost = shard, reason, lost


class ShardFenced(EventRayError):
    """Another writer opened the shard (its epoch is higher): this one must not write or answer any more."""

    advice = "send again"

    def __init__(self, shard: int, epoch: int, current: int) -> None:
        super().__init__(
            f"shard {shard} was taken over: this writer has epoch {epoch}, the file {current}. "
            "Send again with the same command id; the new writer answers."
        )
        self.shard, self.epoch, self.current = shard, epoch, current


class ActivationSuperseded(EventRayError):
    """Another activation of the stream has taken over; this one ends without running anything again."""

    advice = "send again"

    def __init__(self, stream: str, token: int) -> None:
        super().__init__(
            f"the activation of {shortened(stream)} with token {token} was superseded. "
            "Send again with the same command id; the new activation answers."
        )
        self.stream, self.token = stream, token


class StoreLocked(EventRayError):
    """Another run has the store open; nothing was touched."""

    advice = "repair"

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(f"{path} is in use by {holder}. Stop that process or open another store; nothing was touched.")
        self.path, self.holder = path, holder


class StoreMismatch(EventRayError):
    """The store is not the one that was asked for (app, shards, format, identity); nothing was touched."""

    advice = "repair"

    def __init__(
        self,
        path: str,
        what: str,
        expected: object,
        found: object,
        hint: str = "Open it with what it has, or give another path",
    ) -> None:
        super().__init__(
            f"{path} has another {what}: expected {expected!r}, found {found!r}. {hint}; nothing was touched."
        )
        self.path, self.what, self.expected, self.found, self.hint = path, what, expected, found, hint


class StoreFull(EventRayError):
    """The disk is full; nothing was half stored, and the store works again once there is room."""

    advice = "repair"

    def __init__(self, path: str) -> None:
        super().__init__(f"no room on the disk of {path}. Nothing was half stored; make room and send again.")
        self.path = path


class StoreCorrupted(EventRayError):
    """What the store reads is not what it wrote. `version` is the event's version in `stream`, when known."""

    advice = "repair"

    def __init__(self, path: str, reason: str, stream: str = "", version: int = 0) -> None:
        place = f" at {shortened(stream)}@{version}" if stream else ""
        super().__init__(
            f"{path} is corrupted{place}: {reason}. Nothing was deleted; verify it and restore from a backup."
        )
        self.path, self.reason, self.stream, self.version = path, reason, stream, version


class StoreUnavailable(EventRayError):
    """The store cannot be read or written: read-only, missing permission or an I/O error."""

    advice = "repair"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"{path} cannot be used: {reason}. Check the path, its permissions and its disk, then send again."
        )
        self.path, self.reason = path, reason


class RayUnavailable(EventRayError):
    """Ray is not installed, not reachable, or refuses us."""

    advice = "repair"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Ray is unavailable: {reason}. Start or install Ray, or run with local=True.")
        self.reason = reason


class RayUnprotected(EventRayError):
    """A Ray that asks for no token listens on an `address` that others may reach: they could run code there."""

    advice = "repair"

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the Ray at {address} asks for no token: whoever reaches it runs code there. Start it with "
            "RAY_AUTH_MODE=token; on a network that is all yours, `eventray serve --insecure` serves all the same."
        )
        self.address = address


class ExtraMissing(EventRayError):
    """A call that needs a `package` which comes with an extra of eventray, and is not installed."""

    advice = "repair"

    def __init__(self, call: str, package: str, extra: str) -> None:
        super().__init__(f"{call} needs {package}, which is not installed: pip install 'eventray[{extra}]'")
        self.call, self.package, self.extra = call, package, extra


class AppEnded(EventRayError):
    """The app was shut down, or this runtime of it; what was sent before has its outcome."""

    advice = "give up"

    def __init__(self, app: str) -> None:
        self.app = app
        super().__init__(f"app {app!r} has ended here: start it with eventray.run, or join it with eventray.connect.")
