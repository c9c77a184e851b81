"""Annotations with strategies for values that fit them, for property tests of the codec."""

from __future__ import annotations

import dataclasses
import enum
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, Optional
from uuid import UUID

from hypothesis import strategies as st


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2**40


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    label: str = ""


@dataclasses.dataclass
class Tree:
    value: Decimal
    children: list[Tree] = dataclasses.field(default_factory=list)


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False)
DECIMALS = st.decimals(allow_nan=False)
MOMENTS = st.datetimes(
    min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31), timezones=st.one_of(st.just(UTC), OFFSETS)
)
TIMES = st.times(timezones=st.one_of(st.none(), OFFSETS))

SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()),
    (bool, st.booleans()),
    (int, INTS),
    (float, FLOATS),
    (str, TEXT),
    (bytes, st.binary(max_size=20)),
    (Decimal, DECIMALS),
    (datetime, MOMENTS),
    (date, st.dates()),
    (time, TIMES),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Rights, st.sampled_from([Rights(0), Rights.READ, Rights.READ | Rights.WRITE])),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    (Literal[True, "yes"], st.sampled_from([True, "yes"])),
]

UNIONS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int | str | None, st.one_of(INTS, TEXT, st.none())),
    (int | float, st.one_of(INTS, FLOATS)),
    (float | Decimal, st.one_of(FLOATS, DECIMALS)),
    (int | Decimal | bool, st.one_of(INTS, DECIMALS, st.booleans())),
    (Color | int, st.one_of(st.sampled_from(Color), INTS)),
    (datetime | float | None, st.one_of(MOMENTS, FLOATS, st.none())),
    (Point | list[int] | str, st.one_of(st.builds(Point, INTS, TEXT), st.lists(INTS, max_size=3), TEXT)),
]

TREES = st.recursive(
    st.builds(Tree, DECIMALS), lambda inner: st.builds(Tree, DECIMALS, st.lists(inner, max_size=3)), max_leaves=6
)


def _containers(inner: tuple[Any, st.SearchStrategy[Any]]) -> list[tuple[Any, st.SearchStrategy[Any]]]:
    kind: Any
    kind, values = inner
    return [
        (list[kind], st.lists(values, max_size=4)),
        (tuple[kind, ...], st.lists(values, max_size=4).map(tuple)),
        (tuple[kind, str], st.tuples(values, TEXT)),
        (dict[str, kind], st.dictionaries(TEXT, values, max_size=4)),
    ]


def _keyed(inner: tuple[Any, st.SearchStrategy[Any]]) -> list[tuple[Any, st.SearchStrategy[Any]]]:
    kind: Any
    kind, values = inner
    return [
        (set[kind], st.sets(values, max_size=4)),
        (frozenset[kind], st.frozensets(values, max_size=4)),
        (dict[kind, int], st.dictionaries(values, INTS, max_size=4)),
    ]


PLAIN = [*SCALARS, *UNIONS, (Point, st.builds(Point, INTS, TEXT)), (Tree, TREES)]
FLAT = [*PLAIN, *(made for scalar in SCALARS for made in (*_containers(scalar), *_keyed(scalar)))]
ANNOTATED = [
    *FLAT,
    *(made for plain in [*UNIONS, (Point, st.builds(Point, INTS, TEXT))] for made in _containers(plain)),
    *(made for flat in _containers((Color, st.sampled_from(Color))) for made in _containers(flat)),
    (Optional[dict[UUID, list[Decimal]]], st.none() | st.dictionaries(st.uuids(), st.lists(DECIMALS, max_size=3))),  # noqa: UP045
    (set[tuple[int, str]], st.sets(st.tuples(INTS, TEXT), max_size=4)),
]


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left == right and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (set, frozenset)):
        return left == right and sorted(map(repr, map(type, left))) == sorted(map(repr, map(type, right)))
    if dataclasses.is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(left))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, Decimal):
        return str(left) == str(right)
    return bool(left == right)
