"""What the codec carries, what it refuses, and what it says then."""

from __future__ import annotations

import collections
import dataclasses
import enum
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest

from eventray import EncodingError, Event
from eventray.store.codec import Codec, DecodingError
from tests.store.values import Color, Level, Point, Tree


class Deposited(Event):
    amount: Decimal
    note: str = ""


class Lines(Event):
    lines: list[Point]
    by_name: dict[str, Decimal] = {}


T = TypeVar("T")
UserId = NewType("UserId", str)


class Pair(NamedTuple):
    a: int


class Typed(TypedDict):
    a: int


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


@dataclasses.dataclass
class Computed:
    a: int
    b: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class WithInit:
    a: int
    b: dataclasses.InitVar[int] = 0


class Floats(enum.Enum):
    HALF = 0.5


class Text(str):
    pass


class Count(int):
    pass


class Amount(Decimal):
    pass


def test_a_dataclass_is_a_map_by_field_name() -> None:
    codec: Codec[Deposited] = Codec(Deposited, "Deposited")
    data = codec.encode(Deposited(Decimal("5.00")))
    assert msgpack.unpackb(data) == {"amount": "5.00", "note": ""}


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default() -> None:
    codec: Codec[Deposited] = Codec(Deposited, "Deposited")
    assert codec.decode(msgpack.packb({"amount": "5", "added_later": [1]})) == Deposited(Decimal(5))


@pytest.mark.parametrize(
    ("bad", "where", "reason"),
    [
        (Deposited("abc"), "Deposited.amount", "str where Decimal"),  # type: ignore[arg-type]
        (Deposited(5), "Deposited.amount", "int where Decimal"),  # type: ignore[arg-type]
        (Deposited(5.5), "Deposited.amount", "float where Decimal"),  # type: ignore[arg-type]
        (Deposited(Decimal(1), None), "Deposited.note", "None"),  # type: ignore[arg-type]
        (Deposited(Decimal(1), "\ud800"), "Deposited.note", "surrogate"),
        (Lines([Point(1), Point("x")]), "Lines.lines[1].x", "str where int"),  # type: ignore[arg-type]
        (Lines([], {"a": Decimal(1), "b": 2}), "Lines.by_name['b']", "int where Decimal"),  # type: ignore[dict-item]
        (Lines((Point(1),)), "Lines.lines", "tuple where list"),  # type: ignore[arg-type]
        (Lines([Point(2**64)]), "Lines.lines[0].x", "64"),
        (Lines([Point(-(2**63) - 1)]), "Lines.lines[0].x", "64"),
        (Lines([Point(True)]), "Lines.lines[0].x", "bool where int"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(bad: Event, where: str, reason: str) -> None:
    codec: Codec[Event] = Codec(type(bad), type(bad).__name__)
    with pytest.raises(EncodingError) as caught:
        codec.encode(bad)
    assert caught.value.where == where
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("annotation", "bad"),
    [
        (bool, 1),
        (int, 1.0),
        (int, True),
        (float, "1"),
        (float, True),
        (float, 2**60 + 1),
        (float, 10**400),
        (str, b"x"),
        (bytes, "x"),
        (bytes, bytearray(b"x")),
        (datetime, datetime(2026, 1, 1)),
        (datetime, date(2026, 1, 1)),
        (datetime, datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))),
        (datetime, datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))),
        (date, datetime(2026, 1, 1, tzinfo=UTC)),
        (time, time(1, tzinfo=ZoneInfo("Europe/Berlin"))),
        (time, time(1, tzinfo=timezone(timedelta(seconds=30)))),
        (UUID, "00000000-0000-0000-0000-000000000000"),
        (Color, "red"),
        (Color, Level.LOW),
        (Literal["a", 1], True),
        (Literal["a", 1], "b"),
        (int | None, "x"),
        (int | str, 1.5),
        (list[int], {1}),
        (set[int], frozenset({1})),
        (dict[str, int], {1: 1}),
        (dict[str, int], collections.defaultdict(int, a=1)),
        (tuple[int, str], (1,)),
        (tuple[int, str], [1, "a"]),
        (tuple[int, ...], Pair(1)),
        (Point, Deposited(Decimal(1))),
        (list[str], [lambda: None]),
    ],
)
def test_a_value_of_another_type_is_refused(annotation: Any, bad: object) -> None:
    codec: Codec[object] = Codec(annotation, "it")
    with pytest.raises(EncodingError) as caught:
        codec.encode(bad)
    assert caught.value.where.startswith("it")


@pytest.mark.parametrize(
    ("annotation", "given", "plain"),
    [
        (str, Text("x"), "x"),
        (int, Count(3), 3),
        (int, Level.LOW, 1),
        (float, 3, 3.0),
        (Decimal, Amount("1.50"), Decimal("1.50")),
        (str | None, Text("x"), "x"),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (dict[str, int], {Text("a"): Count(1)}, {"a": 1}),
        (Point, Point(Count(1), Text("x")), Point(1, "x")),
        (UserId, "u", "u"),
    ],
)
def test_a_subclass_of_a_scalar_comes_back_plain(annotation: Any, given: Any, plain: Any) -> None:
    codec: Codec[Any] = Codec(annotation, "it")
    back = codec.decode(codec.encode(given))
    assert back == plain
    assert type(back) is type(plain)
    assert repr(back) == repr(plain)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0])
def test_unusual_floats_come_back(value: float) -> None:
    codec: Codec[float] = Codec(float, "it")
    assert repr(codec.decode(codec.encode(value))) == repr(value)


@pytest.mark.parametrize("text", ["NaN", "sNaN12", "-Infinity", "-0", "1E+400", "0.10"])
def test_unusual_decimals_come_back(text: str) -> None:
    codec: Codec[Decimal] = Codec(Decimal, "it")
    assert str(codec.decode(codec.encode(Decimal(text)))) == text


def test_a_moment_comes_back_as_the_same_instant_in_utc() -> None:
    codec: Codec[datetime] = Codec(datetime, "it")
    for fold in (0, 1):  # an hour that a clock shows twice
        there = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
        back = codec.decode(codec.encode(there))
        assert (back.tzinfo, back.timestamp()) == (UTC, there.timestamp())
    for edge in (datetime.min, datetime.max):
        assert codec.decode(codec.encode(edge.replace(tzinfo=UTC))) == edge.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        object,
        list,
        dict,
        tuple,
        list[Any],
        Sequence[int],
        Mapping[str, int],
        Callable[[], int],
        T,
        Box[int],
        Box,
        Pair,
        Typed,
        Floats,
        Computed,
        WithInit,
        complex,
        bytearray,
        collections.Counter[str],
        dict[tuple[int, int], str],
        dict[Point, int],
        str | Decimal,
        str | bytes,
        datetime | Decimal | str,
        list[int] | set[int],
        Point | Deposited,
        Point | dict[str, int],
        Color | Literal["x"],
        Literal[b"x"],
        Literal[Color.RED],
        type,
        "Deposited",
    ],
)
def test_an_annotation_that_cannot_be_carried_exactly_is_refused_with_its_place(annotation: Any) -> None:
    with pytest.raises(TypeError, match=r"Basket\.it|Box\.content|Computed\.b|WithInit\.b"):
        Codec(annotation, "Basket.it")


def test_a_default_that_does_not_fit_is_refused() -> None:
    @dataclasses.dataclass
    class Wrong:
        count: int = None  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"Wrong\.count: the default does not fit"):
        Codec(Wrong, "Wrong")


def chain(levels: int) -> Tree:
    tree = Tree(Decimal(0))
    for _ in range(levels - 1):
        tree = Tree(Decimal(0), [tree])
    return tree


def test_a_recursive_value_comes_back_and_too_deep_or_endless_ones_are_refused() -> None:
    codec: Codec[Tree] = Codec(Tree, "Tree")
    assert codec.decode(codec.encode(chain(40))) == chain(40)
    for levels in (60, 500, 5000):
        with pytest.raises(EncodingError, match="nested deeper"):
            codec.encode(chain(levels))
    endless = Tree(Decimal(0))
    endless.children.append(endless)
    with pytest.raises(EncodingError, match="contains itself"):
        codec.encode(endless)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x93", *map(msgpack.packb, ({}, {"amount": "x"}, {"amount": []}, [1], None))]
)
def test_bytes_that_hold_no_value_are_a_decoding_error(data: bytes) -> None:
    with pytest.raises(DecodingError) as caught:
        Codec(Deposited, "Deposited").decode(data)
    assert caught.value.where == "Deposited"


def test_canonical_bytes_do_not_depend_on_order() -> None:
    for annotation, one, other in [
        (dict[str, int], {"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (dict[int | None, set[str]], {1: {"x"}, None: set()}, {None: set(), 1: {"x"}}),
        (set[Color], {Color.RED, Color.BLUE}, {Color.BLUE, Color.RED}),
        (frozenset[str | None], frozenset(["a", None]), frozenset([None, "a"])),
        (set[frozenset[int]], {frozenset({1, 2}), frozenset({3})}, {frozenset({3}), frozenset({2, 1})}),
        (float, 3, 3.0),
        (datetime, datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 1, 1, tzinfo=UTC)),
    ]:
        codec: Codec[Any] = Codec(annotation, "it", canonical=True)
        assert codec.encode(one) == codec.encode(other)
        assert codec.decode(codec.encode(one)) == one


class Loose(str):
    """A key that is no other key's equal, until it is stored as plain text."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def test_two_keys_that_would_become_one_are_refused() -> None:
    codec: Codec[dict[str, int]] = Codec(dict[str, int], "it")
    with pytest.raises(EncodingError, match="two of its keys become one"):
        codec.encode({Loose("a"): 1, Loose("a"): 2})


def test_canonical_bytes_are_equal_in_every_process() -> None:
    """The order of a set of strings changes with each process's hash seed; the bytes must not."""
    code = (
        "from eventray.store.codec import Codec\n"
        "print(Codec(dict[str, set[str | None]], 'it', canonical=True)"
        ".encode({k: {None, *'abcdefgh'} for k in 'xy'}).hex())\n"
        "print(Codec(set[frozenset[str]], 'it', canonical=True)"
        ".encode({frozenset(k) for k in ('ab', 'cd', 'ef', 'gh', 'ij', 'kl')}).hex())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(runs) == 1


def test_a_codec_survives_pickling() -> None:
    codec: Codec[Point] = pickle.loads(pickle.dumps(Codec(Point, "Point")))
    assert codec.decode(codec.encode(Point(1))) == Point(1)


def test_nothing_is_left_on_the_classes_that_would_not_pickle() -> None:
    Codec(Lines, "Lines")
    for kind in (Lines, Point, Color):
        assert not [name for name in vars(kind) if "msgspec" in name]


def test_the_shape_changes_with_fields_types_and_members() -> None:
    def shape(*fields: tuple[str, Any]) -> str:
        return Codec(dataclasses.make_dataclass("State", fields), "State").shape

    shapes = [
        shape(("a", int)),
        shape(("a", str)),
        shape(("b", int)),
        shape(("a", int), ("b", int)),
        shape(("a", Color)),
    ]
    assert len(set(shapes)) == len(shapes)
    assert shape(("a", int), ("b", str)) == shape(("b", str), ("a", int))
