"""History as data: typed columns, exact values, stretches of the log that join without a gap. In one process."""

from __future__ import annotations

import asyncio
import enum
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import eventray
from eventray import (
    Aggregate,
    App,
    EncodingError,
    Event,
    EventRayError,
    ExtraMissing,
    Packed,
    Runtime,
    StoreMismatch,
    UnknownName,
    command,
    upcast,
)
from eventray.data import heads_of
from eventray.runtime import dataset_reader
from eventray.store import EventStore, NewRecord, reshard
from tests.bank_app import Account, Deposited, Opened, Withdrawn, make_app

META = [
    ("meta_type", pa.string()),
    ("meta_stream", pa.string()),
    ("meta_aggregate", pa.string()),
    ("meta_id", pa.string()),
    ("meta_version", pa.int64()),
    ("meta_shard", pa.int32()),
    ("meta_position", pa.int64()),
    ("meta_recorded_at", pa.timestamp("us", "UTC")),
    ("meta_command_id", pa.string()),
    ("meta_metadata", pa.string()),
]


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    y: Decimal | None


@dataclass
class Tree:
    leaves: list[Tree]


@dataclass
class Nothing:
    pass


class Everything(Event):
    flag: bool
    whole: int
    real: float
    text: str
    raw: bytes
    money: Decimal
    day: date
    moment: datetime
    clock: time
    span: timedelta
    key: UUID
    color: Color
    level: Level
    word: Literal["a", "b"]
    maybe: int | None
    points: list[Point]
    tags: set[str]
    pair: tuple[int, str]
    prices: dict[str, Decimal | None]
    odd: dict[str | None, int]
    either: int | str
    tree: Tree
    nothing: Nothing


class Small(Event):
    whole: int | None


class Clash(Event):
    whole: str


class Taken(Event):
    meta_position: int


class Scene(Aggregate):
    @command
    def show(self, event_number: int) -> Everything | Small:
        return EVERYTHING if event_number == 0 else Small(event_number if event_number > 0 else None)

    @command
    def other(self) -> Clash | Taken | None:
        return None


EVERYTHING = Everything(
    flag=True,
    whole=2**60 + 1,
    real=0.1,
    text="ž\x00",
    raw=b"\x00\xff",
    money=Decimal("-12.50"),
    day=date(1993, 1, 31),
    moment=datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    clock=time(1, 2, 3, 4, tzinfo=UTC),
    span=timedelta(days=-1, microseconds=7),
    key=UUID(int=7),
    color=Color.RED,
    level=Level.LOW,
    word="b",
    maybe=None,
    points=[Point(1, Decimal("0.5")), Point(2, None)],
    tags={"t"},
    pair=(3, "c"),
    prices={"p": Decimal(1), "q": None},
    odd={None: 1},
    either="5",
    tree=Tree([Tree([])]),
    nothing=Nothing(),
)
MONEY = pa.decimal128(38, 18)
COLUMNS: dict[str, tuple[Any, Any]] = {  # the type of each and what comes back of EVERYTHING
    "flag": (pa.bool_(), True),
    "whole": (pa.int64(), 2**60 + 1),
    "real": (pa.float64(), 0.1),
    "text": (pa.string(), "ž\x00"),
    "raw": (pa.binary(), b"\x00\xff"),
    "money": (MONEY, Decimal("-12.5")),
    "day": (pa.date32(), date(1993, 1, 31)),
    "moment": (pa.timestamp("us", "UTC"), datetime(2026, 1, 1, 10, tzinfo=UTC)),
    "clock": (pa.string(), "01:02:03.000004+00:00"),
    "span": (pa.duration("us"), timedelta(days=-1, microseconds=7)),
    "key": (pa.string(), str(UUID(int=7))),
    "color": (pa.string(), "red"),
    "level": (pa.int64(), 1),
    "word": (pa.string(), "b"),
    "maybe": (pa.int64(), None),
    "points": (
        pa.list_(pa.struct([("x", pa.int64()), ("y", MONEY)])),
        [{"x": 1, "y": Decimal("0.5")}, {"x": 2, "y": None}],
    ),
    "tags": (pa.list_(pa.string()), ["t"]),
    "pair": (pa.struct([("0", pa.int64()), ("1", pa.string())]), {"0": 3, "1": "c"}),
    "prices": (pa.map_(pa.string(), MONEY), [("p", Decimal(1)), ("q", None)]),
    "odd": (pa.string(), '{"null": 1}'),
    "either": (pa.string(), '"5"'),
    "tree": (pa.string(), '{"leaves":[{"leaves":[]}]}'),
    "nothing": (pa.string(), "{}"),
}
scenes = App("scenes", aggregates=[Scene], placement={Scene: Packed()})


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Runtime]:
    with eventray.run(scenes, data=tmp_path / "data", shards=2, local=True) as runtime:
        yield runtime


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Runtime]:
    """Small pages, so that whatever is read comes in several."""
    with eventray.run(
        make_app("data", "packed"), data=tmp_path / "data", shards=3, local=True, read_page_events=3
    ) as runtime:
        yield runtime


def deposit(runtime: Runtime, first: int, last: int) -> None:
    for n in range(first, last + 1):
        account = runtime.get(Account, f"a{n % 7}")
        account.open.remote(f"owner {n % 7}").result()
        account.deposit.remote(Decimal(n)).result()


def places(table: Any) -> list[tuple[int, int]]:
    return list(zip(table["meta_shard"].to_pylist(), table["meta_position"].to_pylist(), strict=True))


def amounts(table: Any) -> list[Decimal]:
    return sorted(table["amount"].to_pylist())


def test_every_field_has_a_typed_column_with_its_value(scene: Runtime) -> None:
    sent = scene.get(Scene, "s/1").show.options(command_id="c-1", metadata={"user": "ann"}).remote(0).result()
    table = scene.to_arrow((Everything,))
    assert [(field.name, field.type) for field in table.schema] == [
        *((name, type) for name, (type, _) in COLUMNS.items()),
        *META,
    ]
    (row,) = table.to_pylist()
    assert {name: row[name] for name in COLUMNS} == {name: value for name, (_, value) in COLUMNS.items()}
    (told,) = scene.history(Scene, "s/1")
    assert {name: row[name] for name, _ in META} == {
        "meta_type": "Everything",
        "meta_stream": "Scene/s/1",
        "meta_aggregate": "Scene",
        "meta_id": "s/1",
        "meta_version": 1,
        "meta_shard": sent.shard,
        "meta_position": sent.position,
        "meta_recorded_at": told.meta.recorded_at,
        "meta_command_id": "c-1",
        "meta_metadata": '{"user":"ann"}',
    }


def test_parquet_and_pandas_keep_types_and_values(scene: Runtime, tmp_path: Path) -> None:
    for number in (0, -1, 5):
        scene.get(Scene, f"s{number}").show.remote(number).result()
    table = scene.to_arrow((Everything, Small))
    scene.to_parquet(tmp_path / "files", (Everything, Small))
    read = pq.read_table(tmp_path / "files")
    assert read.schema.equals(table.schema)
    assert read.equals(table)
    frame = scene.to_pandas((Everything, Small))
    assert {name: dtype.pyarrow_dtype for name, dtype in frame.dtypes.items()} == {
        field.name: field.type for field in table.schema
    }
    assert set(frame["whole"].dropna()) == {2**60 + 1, 5}  # not through a float, though one is missing
    assert sum(frame["money"].dropna()) == Decimal("-12.5")


def test_events_without_rows_give_a_table_with_all_columns(scene: Runtime, tmp_path: Path) -> None:
    table = scene.to_arrow((Small,))
    assert (table.num_rows, table.schema.names) == (0, ["whole", *(name for name, _ in META)])
    assert list(scene.to_pandas((Small,)).columns) == table.schema.names
    scene.to_parquet(tmp_path / "files", (Small,))
    assert pq.read_table(tmp_path / "files").schema.equals(table.schema)


def test_several_classes_are_one_table_ordered_by_shard_and_position(bank: Runtime) -> None:
    deposit(bank, 1, 20)
    table = bank.to_arrow((Opened, Deposited))
    assert places(table) == sorted(places(table))
    assert table.num_rows == 27
    for row in table.to_pylist():
        opened = row["meta_type"] == "Opened"
        assert (row["owner"] is not None, row["amount"] is not None) == (opened, not opened)
    assert bank.to_arrow((Deposited,)).num_rows == 20
    assert places(bank.to_arrow()) == places(table)
    assert bank.to_arrow((Withdrawn,)).num_rows == 0
    assert places(bank.to_arrow((Event,))) == places(table)


def test_increments_join_to_the_whole_without_a_gap_or_a_double(bank: Runtime) -> None:
    heads, parts = None, []
    for first in range(1, 50, 7):
        deposit(bank, first, first + 6)
        until = bank.heads().result()
        deposit(bank, first + 100, first + 101)  # what comes meanwhile is left to the next one
        part = bank.to_arrow((Deposited,), after=heads, at=until)
        assert heads_of(part) == until
        heads = heads_of(part)
        parts.append(part)
    parts.append(bank.to_arrow((Deposited,), after=heads))
    whole = bank.to_arrow((Deposited,))
    joined = [place for part in parts for place in places(part)]
    assert sorted(joined) == places(whole)
    assert len(joined) == len(set(joined)) == 63
    assert bank.to_arrow(after=heads_of(whole)).num_rows == 0
    assert heads_of(bank.to_arrow(after=heads_of(whole), at=until)) == heads_of(whole)  # it never goes back


def test_a_moment_gives_what_was_recorded_by_then(bank: Runtime) -> None:
    deposit(bank, 1, 15)
    whole = bank.to_arrow()
    times = sorted(whole["meta_recorded_at"].to_pylist())
    tick = timedelta(microseconds=1)
    for moment in (times[0] - tick, times[0], times[8], times[8] - tick, times[-1], times[-1] + tick):
        then = bank.to_arrow(at=moment)
        assert then["meta_recorded_at"].to_pylist() == [
            at for at in whole["meta_recorded_at"].to_pylist() if at <= moment
        ]
        rest = bank.to_arrow(after=heads_of(then))
        assert sorted(places(then) + places(rest)) == places(whole)


def test_a_receipt_is_a_place_to_go_on_from(bank: Runtime) -> None:
    deposit(bank, 1, 8)
    account = bank.get(Account, "a1")
    receipt = account.deposit.remote(Decimal(100)).result()
    account.deposit.remote(Decimal(101)).result()
    later = bank.to_arrow((Deposited,), after=receipt)
    assert [row["amount"] for row in later.to_pylist() if row["meta_shard"] == receipt.shard] == [Decimal(101)]


def test_a_parquet_folder_goes_on_where_it_ended(bank: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "files"
    for first in (1, 11, 21):
        deposit(bank, first, first + 9)
        heads = bank.to_parquet(path, (Deposited,))
        assert heads_of(path) == heads == bank.heads().result()
        again = bank.to_parquet(path, (Deposited,))  # nothing is new
        assert again == heads
        assert amounts(pq.read_table(path)) == [Decimal(n) for n in range(1, first + 10)]
    assert places(pq.read_table(path)) != []
    assert len(pandas.read_parquet(path)) == 30


def test_a_parquet_folder_has_whole_files_only(bank: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_reader, "BLOCK_ROWS", 1)
    path = tmp_path / "files"
    deposit(bank, 1, 10)
    bank.get(Account, "a1").deposit.remote(Decimal("1E-30")).result()
    with pytest.raises(EncodingError, match=r"Deposited.amount \(at Account/a1@4\)"):
        bank.to_parquet(path, (Deposited,))
    assert [file.suffix for file in path.iterdir() if file.suffix != ".parquet"] == []
    shard = bank.to_arrow((Deposited,), decimals="text").filter(pa.compute.field("meta_id") == "a1")["meta_shard"][0]
    assert [file.name for file in path.glob(f"shard-{shard.as_py():04}-*")] == []


def test_a_folder_of_something_else_is_refused(bank: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "files"
    bank.to_parquet(path, (Deposited,))
    with pytest.raises(ValueError, match="other events or columns"):
        bank.to_parquet(path, (Opened,))
    with pytest.raises(ValueError, match="other events or columns"):
        bank.to_parquet(path, (Deposited,), decimals="text")
    pq.write_table(pa.table({"a": [1]}), path / "mine.parquet")
    with pytest.raises(ValueError, match=r"mine.parquet was not written by to_parquet"):
        bank.to_parquet(path, (Deposited,))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no export"):
        heads_of(tmp_path / "empty")
    with pytest.raises(ValueError, match="does not say"):
        heads_of(pa.table({"a": [1]}))


def test_positions_of_another_generation_are_refused(tmp_path: Path) -> None:
    app = make_app("data", "packed")
    with eventray.run(app, data=tmp_path / "data", shards=1, local=True) as runtime:
        deposit(runtime, 1, 3)
        frame = runtime.to_pandas()
        heads = heads_of(frame)
        runtime.to_parquet(tmp_path / "files")
    reshard(tmp_path / "data", shards=2)
    with eventray.run(app, data=tmp_path / "data", local=True) as runtime:
        for options in ({"after": heads}, {"at": heads}):
            with pytest.raises(StoreMismatch, match="generation"):
                runtime.to_arrow(**options)  # type: ignore[arg-type]
        with pytest.raises(StoreMismatch, match="generation"):
            runtime.to_parquet(tmp_path / "files")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"after": {0: 1}}, ValueError, "position 1 of shard 0 is not there: it ends at 0"),
        ({"after": {9: 0}}, ValueError, "shard 9 is not there: shards are 0 to 2"),
        ({"after": {0: -1}}, ValueError, "position -1"),
        ({"at": {0: 0, 2: 0}}, ValueError, "no position for shard 1"),
        ({"at": datetime(2026, 1, 1)}, ValueError, "naive"),
        ({"at": 5}, TypeError, "a datetime, or positions per shard"),
        ({"decimals": (2, 3)}, ValueError, "decimals"),
        ({"decimals": "float"}, ValueError, "decimals"),
        ({"events": (int,)}, TypeError, r"to_arrow\(events=...\): <class 'int'>"),
        ({"events": (Small,)}, UnknownName, "Small"),
    ],
)
def test_what_makes_no_sense_is_refused(
    bank: Runtime, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bank.to_arrow(**options)


def test_two_types_under_one_name_are_refused_naming_both(scene: Runtime) -> None:
    with pytest.raises(TypeError, match=r"Clash.whole is a column of string, Everything.whole one of int64"):
        scene.to_arrow((Everything, Clash))
    with pytest.raises(TypeError, match=r"Taken.meta_position"):
        scene.to_arrow((Taken,))
    assert scene.to_arrow((Everything, Small)).schema.field("whole").type == pa.int64()


def test_a_value_that_does_not_fit_names_its_event_and_text_holds_it(bank: Runtime) -> None:
    deposit(bank, 1, 4)
    bank.get(Account, "a1").deposit.remote(Decimal("0.123")).result()
    with pytest.raises(EncodingError, match=r"Deposited.amount \(at Account/a1@3\).*decimals="):
        bank.to_arrow((Deposited,), decimals=(12, 2))
    assert bank.to_arrow((Deposited,), decimals=(12, 3)).schema.field("amount").type == pa.decimal128(12, 3)
    assert bank.to_arrow((Deposited,), decimals=(60, 3)).schema.field("amount").type == pa.decimal256(60, 3)
    assert "0.123" in bank.to_arrow((Deposited,), decimals="text")["amount"].to_pylist()


def test_older_versions_come_upcast(tmp_path: Path) -> None:
    class Paid(Event, version=2):
        amount: Decimal
        currency: str

    class Till(Aggregate):
        @command
        def pay(self, amount: Decimal) -> Paid:
            return Paid(amount, "CZK")

    @upcast(Paid, from_version=1)
    def add_currency(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "currency": "EUR"}

    app = App("tills", aggregates=[Till], placement={Till: Packed()})

    async def write_as_it_was() -> None:
        async with await EventStore.open(tmp_path, app="tills", shards=1) as store:
            old = NewRecord("Paid", b"\x81\xa6amount\xa45.50", b"", 1)
            await store.append("Till/t", [old], expected_version=0, command_id=None)

    asyncio.run(write_as_it_was())
    with eventray.run(app, data=tmp_path, local=True) as runtime:
        runtime.get(Till, "t").pay.remote(Decimal(7)).result()
        rows = runtime.to_arrow((Paid,)).to_pylist()
    assert [(row["amount"], row["currency"], row["meta_version"]) for row in rows] == [
        (Decimal("5.5"), "EUR", 1),
        (Decimal(7), "CZK", 2),
    ]


def test_a_block_is_given_on_when_it_is_full(bank: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    deposit(bank, 1, 40)
    monkeypatch.setattr(dataset_reader, "BLOCK_ROWS", 4)
    blocks = bank.to_arrow((Deposited,))["amount"].chunks
    assert max(map(len, blocks)) <= 4 + 3  # a full block, and at most one page that filled it
    assert sum(map(len, blocks)) == 40


def test_a_package_that_is_missing_is_named_with_its_extra(bank: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExtraMissing, match=r"to_pandas\(\) needs pandas.*pip install 'eventray\[data\]'"):
        bank.to_pandas()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (bank.to_arrow, bank.to_dataset):
        with pytest.raises(ExtraMissing, match="needs pyarrow"):
            call()


def test_a_dataset_of_a_local_app_is_refused(bank: Runtime) -> None:
    with pytest.raises(EventRayError, match="local=True"):
        bank.to_dataset((Deposited,))


def test_who_does_not_ask_for_tables_loads_none_of_the_packages() -> None:
    code = (
        "import eventray.data, eventray.runtime.session, sys; print({'pyarrow', 'pandas', 'ray'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
