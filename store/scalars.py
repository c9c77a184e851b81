"""Scalars that can be stored: how a value is tested in the fast path, and made plain in the careful one."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

from eventray.domain.errors import EncodingError, shortened

INT_MIN, INT_MAX = -(2**63), 2**64 - 1
_MINUTE = timedelta(minutes=1)


def refuse(value: object, where: str, annotated: str) -> NoReturn:
    """Raise the EncodingError of a value that does not fit its annotation."""
    name = type(value).__name__
    article = "an" if name[0] in "aeiouAEIO" else "a"
    raise EncodingError(where, f"{_shown(value)} is {article} {name} where {annotated} is annotated")


def _shown(value: object) -> str:
    try:
        return shortened(repr(value))
    except Exception:  # a broken or endless repr must not hide what is wrong
        return "the value"


def _str(value: Any, where: str) -> str:
    if not isinstance(value, str):
        refuse(value, where, "str")
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise EncodingError(where, f"{_shown(plain)} has a lone surrogate, which is not valid Unicode") from error
    return plain


def _int(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(value, where, "int")
    plain = int.__int__(value)
    if not INT_MIN <= plain <= INT_MAX:
        raise EncodingError(where, f"an int of {plain.bit_length()} bits: 64 are the limit; use a Decimal or a str")
    return plain


def _float(value: Any, where: str) -> float:
    if isinstance(value, float):
        return float.__float__(value)
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(value, where, "float")
    try:
        plain = float(value)
    except OverflowError:
        plain = float("inf")
    if plain != value:
        raise EncodingError(where, f"the int {_shown(value)} has no exact float; annotate int, or give a float")
    return plain


def _bool(value: Any, where: str) -> bool:
    return value if isinstance(value, bool) else refuse(value, where, "bool")


def _none(value: Any, where: str) -> None:
    return None if value is None else refuse(value, where, "None")


def _bytes(value: Any, where: str) -> bytes:
    return bytes(memoryview(value)) if isinstance(value, bytes) else refuse(value, where, "bytes")


def _decimal(value: Any, where: str) -> Decimal:
    return Decimal(value) if isinstance(value, Decimal) else refuse(value, where, "Decimal")


def _uuid(value: Any, where: str) -> UUID:
    return UUID(int=value.int) if isinstance(value, UUID) else refuse(value, where, "UUID")


def _date(value: Any, where: str) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        refuse(value, where, "date")
    return date(value.year, value.month, value.day)


def _timedelta(value: Any, where: str) -> timedelta:
    if not isinstance(value, timedelta):
        refuse(value, where, "timedelta")
    _whole_microseconds(value, where)
    return timedelta(value.days, value.seconds, value.microseconds)


def _datetime(value: Any, where: str) -> datetime:
    if not isinstance(value, datetime):
        refuse(value, where, "datetime")
    if value.utcoffset() is None:
        raise EncodingError(where, f"{_shown(value)} is naive; give it a time zone, as in datetime.now(UTC)")
    _whole_microseconds(value, where)
    try:
        utc = value.astimezone(UTC)
    except OverflowError as error:
        raise EncodingError(where, f"{_shown(value)} lies outside the years 1 to 9999 in UTC") from error
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)


def _whole_microseconds(value: object, where: str) -> None:
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):
        raise EncodingError(where, f"{_shown(value)} has nanoseconds, which would be lost; round it to microseconds")


def _time(value: Any, where: str) -> time:
    if not isinstance(value, time):
        refuse(value, where, "time")
    zone, offset = None, value.utcoffset()
    if offset is not None and not offset % _MINUTE:
        zone = timezone(offset)
    elif value.tzinfo is not None:
        raise EncodingError(where, f"{_shown(value)}: the time zone of a time must be a fixed offset of whole minutes")
    return time(value.hour, value.minute, value.second, value.microsecond, zone)


def is_aware(value: datetime) -> bool:
    """Whether a datetime has an offset. (One outside of UTC's years raises when it is packed.)"""
    return value.utcoffset() is not None


PLAIN: dict[type, Callable[[Any, str], Any]] = {
    str: _str,
    int: _int,
    float: _float,
    bool: _bool,
    type(None): _none,
    bytes: _bytes,
    Decimal: _decimal,
    UUID: _uuid,
    date: _date,
    datetime: _datetime,
    time: _time,
    timedelta: _timedelta,
}
"""Scalar types, each with what makes a value plain or raises EncodingError(where, why)."""

EXTRA_TEST: dict[type, str] = {
    datetime: "({v}.tzinfo is {utc} or {is_aware}({v}))",
    time: "{v}.tzinfo is None",
}
"""What the fast path tests beside the exact type."""


def enum_values_problem(kind: type[enum.Enum]) -> str | None:
    """Why the members of an Enum cannot be stored by their values, or None."""
    values = [member.value for member in kind.__members__.values()]
    if not values:
        return "it has no members"
    if all(type(value) is str for value in values):
        try:
            "".join(values).encode()
        except UnicodeEncodeError:
            return "a member's value has a lone surrogate"
        return None
    if all(type(value) is int for value in values):
        return None if min(values) >= INT_MIN and max(values) <= INT_MAX else "a member's value is above 64 bits"
    return "its members' values must be all str or all int"
