"""What may enter the store: checked before any I/O, so that one caller's mistake cannot fail another's commit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

from eventray.domain.errors import EventTooLarge, InvalidId
from eventray.store.limits import StoreLimits
from eventray.store.records import NewCommand
from eventray.store.spool import Spool

_INT_MAX = 2**63 - 1
_TYPE_VERSION_MAX = 2**31 - 1
_NAME_BYTES_MAX = 1024
_FINGERPRINT_BYTES_MAX = 64
_NAMES_KNOWN_MAX = 1_000
REASON_CHARS_MAX = 16_000


def check_expected(version: object) -> None:
    """Raise ValueError unless `version` is None or an int from 0 to 2**63 - 1."""
    if version is not None:
        check_version(version)


def check_version(version: object) -> None:
    """Raise ValueError unless `version` is an int from 0 to 2**63 - 1."""
    if type(version) is not int or not 0 <= version <= _INT_MAX:
        raise ValueError(f"a version is an int from 0 to 2**63 - 1, not {version!r}")


def check_until(until: object) -> None:
    """Raise ValueError unless `until` is None (to the end) or an int from 0 to 2**63 - 1."""
    if until is not None and (type(until) is not int or not 0 <= until <= _INT_MAX):
        raise ValueError(f"until is None or an int from 0 to 2**63 - 1, not {until!r}")


def check_range(after: object, until: object, limit: object) -> None:
    """Raise ValueError unless these can bound a read of any length; `limit` may be None (no limit) or 0 (nothing)."""
    if type(after) is not int or not 0 <= after <= _INT_MAX:
        raise ValueError(f"after is an int from 0 to 2**63 - 1, not {after!r}")
    check_until(until)
    if limit is not None and (type(limit) is not int or limit < 0):
        raise ValueError(f"limit is None or an int of at least 0, not {limit!r}")


def check_wait(seconds: object) -> None:
    """Raise ValueError unless `seconds` is a finite number of at least 0."""
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ValueError(f"wait is a number of seconds of at least 0, not {seconds!r}")


def check_moment(us: object) -> None:
    """Raise ValueError unless `us` is an int of 64 bits."""
    if type(us) is not int or not -_INT_MAX <= us <= _INT_MAX:
        raise ValueError(f"a time is an int of microseconds from -(2**63 - 1) to 2**63 - 1, not {us!r}")


def check_prefix(text: object) -> None:
    """Raise `InvalidId` unless `text` is a str that UTF-8 can store."""
    try:
        text.encode()  # type: ignore[attr-defined]
    except (AttributeError, UnicodeEncodeError):
        raise InvalidId(str(text), "a prefix of streams is a str without lone surrogates") from None


def check_page(after: int, limit: int, limits: StoreLimits) -> int:
    """Return `limit` cut to what a page may have; ValueError when it or `after` is no sensible number."""
    if type(after) is not int or not 0 <= after <= _INT_MAX:
        raise ValueError(f"after is an int from 0 to 2**63 - 1, not {after!r}")
    if type(limit) is not int or limit < 1:
        raise ValueError(f"limit is an int of at least 1, not {limit!r}")
    return min(limit, limits.page_records_max)


def check_command_id(id: object) -> None:
    """Raise `InvalidId` unless `id` is 1 to 1024 bytes of UTF-8."""
    if not isinstance(id, str):
        raise InvalidId(str(id), f"a command id is a str, not {type(id).__name__}")
    _check_text(id, "a command id")


def check_ids_differ(ids: Sequence[str]) -> None:
    """Raise ValueError when a batch has an id twice."""
    if len(set(ids)) < len(ids):
        twice = next(id for n, id in enumerate(ids) if id in ids[:n])
        raise ValueError(f"the command id {twice!r} is in this batch twice")


def _check_text(text: str, what: str) -> None:
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise InvalidId(text, f"{what} holds a lone surrogate, which UTF-8 cannot store") from None
    if not 1 <= size <= _NAME_BYTES_MAX:
        raise InvalidId(text, f"{what} has 1 to {_NAME_BYTES_MAX} bytes of UTF-8, not {size}")


def check_snapshot(stream: str, data: object, fingerprint: object, limits: StoreLimits) -> None:
    """Raise TypeError, or `EventTooLarge` above the limit."""
    if type(data) is not bytes or not isinstance(fingerprint, str):
        raise TypeError("a snapshot has data in bytes and a str as fingerprint")
    if len(data) > limits.snapshot_bytes_max:
        raise EventTooLarge(f"the snapshot of {stream}", len(data), limits.snapshot_bytes_max)


def check_dead_letter(consumer: object, positions: Sequence[int], reason: object = "", head: int = _INT_MAX) -> None:
    """Raise TypeError, ValueError or `InvalidId` for what could not be read back, or a position after `head`."""
    if not isinstance(consumer, str):
        raise TypeError(f"the consumer of a dead letter is a str, not {consumer!r}")
    _check_text(consumer, "the consumer of a dead letter")
    if not isinstance(reason, str) or len(reason) > REASON_CHARS_MAX:
        raise ValueError(f"the reason of a dead letter is a str of at most {REASON_CHARS_MAX} characters")
    for position in positions:
        if type(position) is not int or not 1 <= position <= head:
            raise ValueError(f"an event has a position from 1 to the end of its log, not {position!r}")


def check_checkpoint(name: object, positions: Mapping[int, int], data: object) -> None:
    """Raise TypeError or ValueError for what could not be read back as it is."""
    if not isinstance(name, str) or type(data) not in (bytes, Spool):
        raise TypeError(f"a checkpoint has a str as name and its state in bytes, not {name!r}, {type(data).__name__}")
    for shard, position in positions.items():
        if type(shard) is not int or shard < 0 or type(position) is not int or not 0 <= position <= _INT_MAX:
            raise ValueError(f"a checkpoint has positions from 0 by ints of shards, not {shard!r}: {position!r}")
    _check_text(name, "the name of a checkpoint")


def admitted(stream: str, commands: Sequence[NewCommand], limits: StoreLimits) -> tuple[int, int]:
    """Return the number of events and of bytes of a batch that may be stored.

    Raises `EventTooLarge`, `InvalidId`; TypeError or ValueError for what no record can be.
    """
    events = size = 0
    for id, records, name, fingerprint in commands:
        if id is not None:
            _check_command(id, name, fingerprint)
        for type_name, data, meta, type_version in records:
            if type(data) is not bytes or type(meta) is not bytes:
                raise TypeError(f"data and meta of a record are bytes ({type_name} for {stream})")
            own = len(data) + len(meta)
            if own > limits.event_bytes_max:
                raise EventTooLarge(f"the event {type_name} for {stream}", own, limits.event_bytes_max)
            size += own
            _check_type(type_name, type_version)
        events += len(records)
    if len(commands) > 1:
        check_ids_differ([command.command_id for command in commands if command.command_id is not None])
    if events > limits.batch_events_max:
        where = f"the batch for {stream}, which has {events} events where {limits.batch_events_max} are allowed,"
        raise EventTooLarge(where, size, limits.batch_bytes_max)
    if size > limits.batch_bytes_max:
        raise EventTooLarge(f"the batch for {stream}", size, limits.batch_bytes_max)
    return events, size


def _check_command(id: str, name: str, fingerprint: bytes) -> None:
    check_command_id(id)
    if name:
        _check_name(name)
    if type(fingerprint) is not bytes or len(fingerprint) > _FINGERPRINT_BYTES_MAX:
        raise ValueError(f"a fingerprint is at most {_FINGERPRINT_BYTES_MAX} bytes, not {fingerprint!r}")


# Of commands and types there are few, each of them many times.


@lru_cache(_NAMES_KNOWN_MAX)
def _check_name(name: str) -> None:
    _check_text(name, "a command's name")


@lru_cache(_NAMES_KNOWN_MAX, typed=True)
def _check_type(name: str, version: int) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the type of a record is a str, not {name!r}")
    _check_text(name, "the type of a record")
    if type(version) is not int or not 0 <= version <= _TYPE_VERSION_MAX:
        raise ValueError(f"the type version of {name} is an int from 0 to 2**31 - 1, not {version!r}")
