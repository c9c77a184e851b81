"""An app checks its classes when it is built, and travels to other processes with them."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventray import Aggregate, App, Dedicated, Event, Meta, Packed, Projection, command, query
from tests.domain.bank import Account, Balances, Deposited, Opened


def test_an_app_knows_its_classes_by_stored_name() -> None:
    app = App("bank", aggregates=[Account], projections=[Balances])
    assert (app.name, list(app.aggregates), list(app.projections)) == ("bank", ["Account"], ["Balances"])
    assert app.events.names == {"Opened", "Deposited"}
    assert app.placement_of("Account") == Dedicated()
    assert App("bank", aggregates=[Account], placement={Account: Packed()}).placement_of("Account") == Packed()


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a/b", "ä", "..", "a\n", None, 3])
def test_an_app_name_that_cannot_be_a_namespace_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="app name"):
        App(name)


def test_local_classes_defined_after_their_use_are_resolved_when_the_app_is_built() -> None:
    class Cart(Aggregate):
        lines: list[Line] = []

        @command
        def add(self, line: Line) -> Added:
            return Added(line)

        def apply(self, event: Added) -> None:
            self.lines.append(event.line)

    class Added(Event):
        line: Line

    @dataclasses.dataclass(frozen=True)
    class Line:
        price: Price

    @dataclasses.dataclass(frozen=True)
    class Price:
        cents: int

    model = App("shop", aggregates=[Cart]).aggregates["Cart"]
    cart = model.new("c")
    model.apply(cart, model.events.decode(*model.events.encode(Added(Line(Price(5))))))
    assert model.state_of(cart) == {"lines": [Line(Price(5))]}
    assert Cart.__annotations__ == {"lines": list[Line]}


def test_a_name_that_is_nowhere_is_named_with_class_and_field() -> None:
    class Lost(Aggregate):
        what: Nowhere = None  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match=r"Lost\.what.*Nowhere"):
        App("a", aggregates=[Lost])


def refused(match: str, *classes: type[Any], error: type[Exception] = TypeError) -> None:
    aggregates = [cls for cls in classes if issubclass(cls, Aggregate)]
    projections = [cls for cls in classes if issubclass(cls, Projection)]
    with pytest.raises(error, match=match):
        App("a", aggregates=aggregates, projections=projections)


def test_a_field_that_cannot_be_stored_is_refused() -> None:
    class Bad(Aggregate):
        handler: Any = None

    class Basket(Event):
        things: list[object]

    class Shop(Aggregate):
        def apply(self, event: Basket) -> None: ...

    class View(Projection):
        things: dict[str, Iterator[int]] = {}

        def apply(self, event: Opened) -> None: ...

    refused(r"Bad\.handler: .*cannot be stored", Bad)
    refused(r"Basket\.things: object cannot be stored", Shop)
    refused(r"View\.things", View)


def test_state_without_a_default_or_with_one_that_does_not_fit_is_refused() -> None:
    class Missing(Aggregate):
        owner: str

    class Wrong(Aggregate):
        balance: Decimal = 0  # type: ignore[assignment]

    class Made(Aggregate):
        names: list[str] = dataclasses.field(default_factory=lambda: [1])  # type: ignore[list-item]

    refused(r"Missing\.owner has no default", Missing)
    refused(r"Wrong\.balance: the default does not fit", Wrong)
    refused(r"Made\.names\[0\]: the default does not fit", Made)


def test_two_events_with_one_name_and_version_are_refused_and_two_versions_are_not() -> None:
    class One(Event, name="same"):
        pass

    class Two(Event, name="same"):
        pass

    class Newer(Event, name="same", version=2):
        pass

    class Clash(Aggregate):
        def apply(self, event: One | Two) -> None: ...

    class Both(Aggregate):
        def apply(self, event: One | Newer) -> None: ...

    refused("One and .*Two are both stored as 'same' version 1", Clash)
    assert len(App("a", aggregates=[Both]).events.classes) == 2


def test_reserved_names_are_refused() -> None:
    class HasId(Aggregate):
        id: str = ""

    class HasVersion(Aggregate):
        @command
        def version(self) -> None: ...  # type: ignore[override]

    class HasApply(Aggregate):
        apply: str = ""

    class HasProperty(Aggregate):
        @property
        def id(self) -> str:  # type: ignore[override]
            return ""

    for cls, name in ((HasId, "id"), (HasVersion, "version"), (HasApply, "apply"), (HasProperty, "id")):
        refused(rf"{cls.__name__}\.{name}", cls)
    for name in ("key", "merge", "id", "version"):
        body = {"__annotations__": {name: int}, name: 0, "apply": Balances.__dict__["apply"]}
        refused(rf"View\.{name}", type("View", (Projection,), body))


def test_a_view_may_have_a_method_merge_and_nothing_else_of_that_name() -> None:
    apply = Balances.__dict__["apply"]

    def merge(self: Projection, other: Projection) -> None: ...
    async def later(self: Projection, other: Projection) -> None: ...

    model = App(
        "bank", aggregates=[Account], projections=[type("View", (Projection,), {"apply": apply, "merge": merge})]
    )
    assert model.projections["View"].merge is merge
    assert App("bank", aggregates=[Account], projections=[Balances]).projections["Balances"].merge is None
    for wrong in (later, property(lambda self: merge), lambda self: None, query(merge), 3):
        refused(r"View\.merge", type("View", (Projection,), {"apply": apply, "merge": wrong}))


@pytest.mark.parametrize("name", ["view", "process", "directory", "tail", "shard-0001", "a/b"])
def test_an_aggregate_named_like_an_actor_of_the_engine_is_refused(name: str) -> None:
    refused("Named", type("Named", (Aggregate,), {}, name=name), error=ValueError)


def test_commands_and_queries_that_are_async_or_generators_are_refused() -> None:
    class Async(Aggregate):
        @command  # type: ignore[type-var]
        async def go(self) -> Opened:
            return Opened("a")

    class Generator(Aggregate):
        @command  # type: ignore[type-var]
        def go(self) -> Iterator[Opened]:
            yield Opened("a")

    class AsyncGenerator(Aggregate):
        @command  # type: ignore[type-var]
        async def go(self) -> AsyncIterator[Opened]:
            yield Opened("a")

    class AsyncApply(Aggregate):
        async def apply(self, event: Opened) -> None: ...

    class View(Projection):
        def apply(self, event: Opened) -> None: ...

        @query
        async def go(self) -> int:
            return 1

    for cls in (Async, Generator, AsyncGenerator, View):
        refused(rf"{cls.__name__}\.go", cls)
    refused(r"AsyncApply\.apply", AsyncApply)


def test_methods_that_do_not_say_their_types_are_refused() -> None:
    class NoParameter(Aggregate):
        @command
        def go(self, amount) -> Opened:  # type: ignore[no-untyped-def]
            return Opened("a")

    class Variadic(Aggregate):
        @command
        def go(self, *amounts: int) -> Opened:
            return Opened("a")

    class WrongReturn(Aggregate):
        @command  # type: ignore[type-var]
        def go(self) -> int:
            return 1

    class WrongDefault(Aggregate):
        @command
        def go(self, amount: int = "1") -> None: ...  # type: ignore[assignment]

    class BareApply(Aggregate):
        def apply(self, event) -> None: ...  # type: ignore[no-untyped-def]

    class WideApply(Aggregate):
        def apply(self, event: Opened, meta: Meta) -> None: ...

    class OtherApply(Aggregate):
        def apply(self, event: Opened | int) -> None: ...

    class NoAnswer(Projection):
        def apply(self, event: Opened) -> None: ...

        @query
        def go(self):  # type: ignore[no-untyped-def]
            return 1

    class NoApply(Projection):
        pass

    refused(r"NoParameter\.go\.amount", NoParameter)
    refused(r"Variadic\.go\.amounts", Variadic)
    refused(r"WrongReturn\.go", WrongReturn)
    refused(r"WrongDefault\.go\.amount: the default does not fit", WrongDefault)
    refused(r"BareApply\.apply\.event", BareApply)
    refused(r"WideApply\.apply", WideApply)
    refused(r"OtherApply\.apply\.event", OtherApply)
    refused(r"NoAnswer\.go has no return annotation", NoAnswer)
    refused("NoApply has no apply", NoApply)


def test_classes_of_another_kind_or_with_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="not a class derived from Aggregate"):
        App("a", aggregates=[Balances])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not a class derived from Projection"):
        App("a", projections=[Projection])
    refused("both named 'Account'", Account, type("Account", (Aggregate,), {}))


def test_a_placement_is_of_an_aggregate_of_the_app() -> None:
    class Other(Aggregate):
        pass

    with pytest.raises(TypeError, match="not among the aggregates"):
        App("a", aggregates=[Account], placement={Other: Packed()})
    with pytest.raises(TypeError, match="Account: 'packed' must be"):
        App("a", aggregates=[Account], placement={Account: "packed"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "bad",
    [
        {"num_cpus": -1},
        {"idle_timeout": 0},
        {"max_active": 0},
        {"max_active": 2.5},
        {"max_active": True},
        {"num_gpus": "1"},
        {"num_gpus": 1.5},
        {"resources": {"licence": -1}},
        {"resources": {"GPU": 1}},
    ],
)
def test_a_placement_with_an_option_that_cannot_be_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Dedicated(**bad)
    if bad.keys() <= {"idle_timeout", "max_active"}:
        with pytest.raises(ValueError, match=next(iter(bad))):
            Packed(**bad)


def test_an_app_of_importable_classes_pickles() -> None:
    app = App("bank", aggregates=[Account], projections=[Balances], placement={Account: Packed(max_active=7)})
    twin: App = pickle.loads(pickle.dumps(app))
    assert twin.placement_of("Account") == Packed(max_active=7)
    assert twin.aggregates["Account"].cls is Account
    assert twin.events.classes == (Deposited, Opened)


SENDER = '''
{future}
import dataclasses, enum, sys
from decimal import Decimal
from pathlib import Path
from uuid import UUID
import ray.cloudpickle
from eventray import Aggregate, App, Event, Meta, Packed, Projection, command, query, upcast

class Currency(enum.Enum):
    EUR = "eur"

@dataclasses.dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: Currency = Currency.EUR

class Ledger(Event):
    """Base of what happens to accounts."""

class Deposited(Ledger, name="deposited", version=2):
    money: Money
    tags: list[str] = []

@upcast(Deposited, from_version=1)
def to_money(fields: dict) -> dict:
    return {{"money": {{"amount": fields["amount"]}}}}

class Account(Aggregate, snapshot_every=9):
    balance: Decimal = Decimal(0)
    seen: set[str] = set()
    owner: str | None = None

    @command
    def deposit(self, money: Money, note: str = "none") -> list[Deposited]:
        return [Deposited(money, [note])]

    def apply(self, event: Ledger) -> None:
        match event:
            case Deposited(Money(amount), tags):
                self.balance += amount
                self.seen |= set(tags)

class Totals(Projection):
    total: dict[str, Decimal] = {{}}

    def apply(self, event: Event, meta: Meta) -> None:
        if isinstance(event, Deposited):
            self.total[meta.id] = self.total.get(meta.id, Decimal(0)) + event.money.amount

    @query
    def of(self, id: str) -> Decimal:
        return self.total[id]

class Next(Totals, name="Totals", version=2):
    """What it has in common with its base must arrive, too."""

class Correction(Deposited, name="correction", version=2):
    """Wanted only as one of those that derive from a base."""

app = App("bank", aggregates=[Account], projections=[Totals, Next], placement={{Account: Packed()}})
model = app.aggregates["Account"]
event = Deposited(Money(Decimal("1.50")))
bytes_ = ray.cloudpickle.dumps((app, event, Account(balance=Decimal(3)), model.events.encode(event), model.fingerprint))
Path(sys.argv[1]).write_bytes(bytes_)
'''

RECEIVER = """
import dataclasses, sys
from decimal import Decimal
from pathlib import Path
import msgpack, ray.cloudpickle
from eventray import Meta, Packed

data = Path(sys.argv[1]).read_bytes()
for _ in range(2):  # a worker unpickles the same classes more than once
    app, event, account, stored, fingerprint = ray.cloudpickle.loads(data)
model = app.aggregates["Account"]
assert model.fingerprint == fingerprint
assert app.placement_of("Account") == Packed() and model.snapshot_every == 9
assert model.events.encode(event) == stored and model.events.decode(*stored) == event
assert [str(unit) for unit in app.units] == ["Totals", "Totals@2"]
names = {kind.__name__: (kind.__event_name__, kind.__event_version__) for kind in app.events.classes}
assert names == {"Ledger": ("Ledger", 1), "Deposited": ("deposited", 2), "Correction": ("correction", 2)}
old = model.events.decode("deposited", 1, msgpack.packb({"amount": "2"}))
assert old.money.amount == Decimal(2) and old.money.currency.value == "eur"
one, other = model.new("a"), model.new("b")
deposit = model.commands["deposit"]
for made in deposit.call(one, deposit.decode(deposit.encode((event.money,), {}))):
    model.apply(one, model.events.decode(*model.events.encode(made)))
assert model.state_of(one) == {"balance": Decimal("1.50"), "seen": {"none"}, "owner": None} and one.version == 1
assert other.seen == set() and model.decode_state(model.encode_state(one), "a", 1) == one
assert account.balance == 3 and type(account) is model.cls
assert type(event)(event.money) == event and type(event)(event.money).tags is not event.tags
view = app.projections["Totals"]
for kind in (type(event), model.cls, view.cls):
    bare = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    assert bare == {"money", "tags", "seen", "total"} & {f.name for f in dataclasses.fields(kind)}
try:
    type(event)()
except TypeError as error:
    assert "money" in str(error)
else:
    raise AssertionError("a required field has become optional")
seen = view.new()
view.apply(seen, event, Meta("Account/a"))
assert view.queries["of"].call(seen, {"id": "a"}) == Decimal("1.50")
ray.cloudpickle.loads(ray.cloudpickle.dumps(app))
print("arrived")
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_an_app_of_a_script_s_own_classes_arrives_whole_in_another_process(future: str, tmp_path: Path) -> None:
    script, box = tmp_path / "script.py", tmp_path / "app.bin"
    script.write_text(SENDER.format(future=future))
    subprocess.run([sys.executable, str(script), str(box)], check=True)
    done = subprocess.run([sys.executable, "-c", RECEIVER, str(box)], capture_output=True, text=True, check=False)
    assert done.stdout == "arrived\n", done.stderr
