"""What the engine sees of a class: events, commands, state and queries, to and from bytes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgpack
import pytest

from eventray import Aggregate, App, EncodingError, Event, Meta, Projection, UnknownEvent, command, query, upcast
from eventray.runtime.model import AggregateModel, EventSet, aggregate_model, projection_model
from tests.domain.bank import Account, Balances, Deposited, Opened

MODEL = aggregate_model(Account)


def test_an_event_goes_to_bytes_and_back_by_its_stored_name() -> None:
    assert MODEL.events.names == {"Opened", "Deposited"}
    name, version, data = MODEL.events.encode(Deposited(Decimal("5.00")))
    assert (name, version, msgpack.unpackb(data)) == ("Deposited", 1, {"amount": "5.00"})
    assert MODEL.events.decode(name, version, data) == Deposited(Decimal("5.00"))


def test_an_event_of_another_app_is_refused_naming_it_and_the_known_ones() -> None:
    class Stranger(Event):
        pass

    with pytest.raises(TypeError, match=r"Stranger is not among the events.*Deposited, Opened"):
        MODEL.events.encode(Stranger())


@pytest.mark.parametrize(("name", "version"), [("Closed", 1), ("Deposited", 2), ("Deposited", 0)])
def test_an_unknown_name_or_version_is_an_unknown_event(name: str, version: int) -> None:
    with pytest.raises(UnknownEvent) as caught:
        MODEL.events.decode(name, version, b"\x80")
    assert (caught.value.type, caught.value.version) == (name, version)


def test_bytes_that_do_not_decode_are_an_encoding_error_naming_the_event() -> None:
    with pytest.raises(EncodingError, match="Deposited version 1"):
        MODEL.events.decode("Deposited", 1, msgpack.packb({"amount": []}))


class Paid(Event, name="paid", version=3):
    amount: Decimal
    currency: str
    tags: set[str] = set()


@upcast(Paid, from_version=1)
def add_currency(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "currency": "EUR"}


@upcast(Paid, from_version=2)
def rename_amount(fields: dict[str, Any]) -> dict[str, Any]:
    return {"amount": Decimal(fields.pop("cents")) / 100, **fields}


def test_older_versions_pass_all_upcasters_from_their_own_on() -> None:
    events = EventSet([Paid])
    assert events.decode("paid", 1, msgpack.packb({"cents": 1250})) == Paid(Decimal("12.5"), "EUR")
    assert events.decode("paid", 2, msgpack.packb({"cents": 5, "currency": "USD"})) == Paid(Decimal("0.05"), "USD")
    assert events.decode("paid", 3, msgpack.packb({"amount": "1", "currency": "USD"})) == Paid(Decimal(1), "USD")


def test_an_upcaster_that_raises_or_returns_no_dict_is_named_with_its_version() -> None:
    class Sent(Event, version=3):
        pass

    upcast(Sent, from_version=1)(lambda fields: fields["missing"])
    upcast(Sent, from_version=2)(lambda fields: None)  # type: ignore[type-var]
    events = EventSet([Sent])
    with pytest.raises(EncodingError, match="Sent version 1: the upcaster from version 1 raised KeyError"):
        events.decode("Sent", 1, b"\x80")
    with pytest.raises(EncodingError, match="the upcaster from version 2 returned None"):
        events.decode("Sent", 2, b"\x80")


def test_a_class_of_the_very_version_wins_over_upcasting() -> None:
    class PaidOnce(Event, name="paid", version=2):
        cents: int

    assert EventSet([Paid, PaidOnce]).decode("paid", 2, msgpack.packb({"cents": 5})) == PaidOnce(5)


def test_a_command_gets_its_arguments_with_defaults_applied() -> None:
    deposit = MODEL.commands["deposit"]
    assert deposit.decode(deposit.encode((Decimal(5),), {})) == {"amount": Decimal(5), "times": 1}
    assert msgpack.unpackb(deposit.encode((), {"times": 2, "amount": Decimal(5)})) == {"amount": "5", "times": 2}
    assert deposit.encode((Decimal(5),), {"times": 1}) == deposit.encode((), {"amount": Decimal(5)})
    assert (deposit.blocking, MODEL.commands["audit"].blocking) == (False, True)


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "missing 1 required positional argument: 'amount'"),
        ((Decimal(1), 2), {}, "takes 2 positional arguments but 3"),
        ((Decimal(1),), {"amounts": 1}, "unexpected keyword argument 'amounts'"),
    ],
)
def test_wrong_arguments_are_a_type_error_in_python_s_words(args: Any, kwargs: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says) as caught:
        MODEL.commands["deposit"].encode(args, kwargs)
    assert "Account.deposit()" in str(caught.value)


def test_a_wrong_value_is_an_encoding_error_naming_the_parameter() -> None:
    with pytest.raises(EncodingError) as caught:
        MODEL.commands["deposit"].encode(("x",), {})
    assert caught.value.where == "Account.deposit.amount"


def test_positional_only_parameters_and_mutable_defaults_work() -> None:
    class Counted(Event):
        total: int

    class Counter(Aggregate):
        @command
        def count(self, first: int, /, more: list[int] = [], *, last: int = 0) -> Counted:  # noqa: B006
            more.append(last)
            return Counted(first + sum(more))

    model = aggregate_model(Counter)
    count = model.commands["count"]
    for _ in range(2):
        assert count.call(model.new("a"), count.decode(count.encode((1,), {"last": 2}))) == [Counted(3)]


def test_what_a_command_returns_becomes_a_list() -> None:
    def returned(value: object) -> list[Event]:
        class Returning(Aggregate):
            @command
            def run(self) -> Opened | None:
                return value  # type: ignore[return-value]

        model = aggregate_model(Returning)
        return model.commands["run"].call(model.new("a"), {})

    one = Opened("a")
    assert returned(None) == []
    assert returned(one) == returned([one]) == returned((one,)) == [one]
    for wrong in (5, "x", [one, None], {one}, False):
        with pytest.raises(TypeError, match=r"Returning\.run returned"):
            returned(wrong)


def test_only_annotated_events_are_applied_and_all_are_counted() -> None:
    class Noted(Event):
        pass

    class Quiet(Aggregate):
        seen: list[str] = []

        @command
        def note(self) -> list[Noted | Opened]:
            return [Noted(), Opened("a")]

        def apply(self, event: Opened) -> None:
            self.seen.append(event.owner)

    model = aggregate_model(Quiet)
    quiet = model.new("q")
    for event in model.commands["note"].call(quiet, {}):
        model.apply(quiet, event)
    assert (model.state_of(quiet), quiet.version, quiet.id) == ({"seen": ["a"]}, 2, "q")


def test_an_aggregate_without_apply_only_records() -> None:
    class Recorder(Aggregate):
        @command
        def record(self) -> Opened:
            return Opened("a")

    model = aggregate_model(Recorder)
    instance = model.new("r")
    model.apply(instance, Opened("a"))
    assert instance.version == 1
    assert model.events.names == {"Opened"}


def test_a_failing_apply_does_not_count() -> None:
    class Fragile(Aggregate):
        def apply(self, event: Opened) -> None:
            raise ZeroDivisionError

    model = aggregate_model(Fragile)
    instance = model.new("f")
    with pytest.raises(ZeroDivisionError):
        model.apply(instance, Opened("a"))
    assert instance.version == 0


def test_a_base_class_in_an_annotation_stands_for_all_events_derived_from_it() -> None:
    class Ledger(Event):
        pass

    class Credit(Ledger):
        amount: int = 0

    class Debit(Credit):
        """Named nowhere but by its bases."""

    class Book(Aggregate):
        entries: int = 0

        @command
        def credit(self) -> Credit:
            return Credit(1)

        def apply(self, event: Ledger) -> None:
            self.entries += 1

    class Everything(Projection):
        count: int = 0

        def apply(self, event: Event) -> None:
            self.count += 1

    app = App("all", aggregates=[Book, Account], projections=[Everything])
    book = app.aggregates["Book"].new("b")
    for event in (Credit(1), Debit(2)):
        app.aggregates["Book"].apply(book, app.events.decode(*app.events.encode(event)))
    assert app.aggregates["Book"].state_of(book) == {"entries": 2}
    assert app.projections["Everything"].events.names == {"Ledger", "Credit", "Debit", "Opened", "Deposited"}


def test_state_goes_to_bytes_and_back_with_id_and_version_given() -> None:
    account = MODEL.new("alice")
    for event in (Opened("Alice"), Deposited(Decimal(5))):
        MODEL.apply(account, event)
    data = MODEL.encode_state(account)
    assert msgpack.unpackb(data) == {"owner": "Alice", "balance": "5", "notes": []}
    back = MODEL.decode_state(data, "alice", 2)
    assert (back, back.id, back.version) == (account, "alice", 2)
    assert (MODEL.new("x"), MODEL.snapshot_every) == (Account(), 500)


def test_state_that_does_not_fit_or_does_not_decode_is_an_encoding_error() -> None:
    with pytest.raises(EncodingError, match=r"Account\.balance"):
        MODEL.encode_state(Account(balance=1.5))  # type: ignore[arg-type]
    with pytest.raises(EncodingError, match="Account"):
        MODEL.decode_state(b"\xc1", "a", 1)


def test_the_fingerprint_changes_with_the_state_s_fields_and_its_version() -> None:
    def model(annotation: Any, name: str = "count", version: int = 1) -> AggregateModel:
        body = {"__annotations__": {name: annotation}, name: annotation()}
        return aggregate_model(type("Same", (Aggregate,), body, state_version=version))

    assert model(int).fingerprint == model(int).fingerprint
    others = [model(int), model(str), model(int, "sum"), model(int, version=2)]
    assert len({one.fingerprint for one in others}) == 4


def test_a_model_is_made_once_per_class() -> None:
    assert aggregate_model(Account) is MODEL


def test_a_view_applies_what_it_wants_and_answers_queries() -> None:
    model = projection_model(Balances, frozenset())
    view = model.new()
    model.apply(view, Deposited(Decimal(5)), Meta("Account/a"))
    model.apply(view, Paid(Decimal(1), "EUR"), Meta("Account/a"))
    top = model.queries["top"]
    answer = top.call(view, top.decode(top.encode((), {"n": 3})))
    assert top.decode_result(top.encode_result(answer)) == [("a", Decimal(5))]
    assert model.decode_state(model.encode_state(view)) == view
    with pytest.raises(EncodingError, match=r"Balances\.top\(\)\[0\]"):
        top.encode_result([("a", 5)])
    with pytest.raises(EncodingError):
        top.decode_result(b"\x01")


def test_a_view_is_spared_the_events_that_it_does_not_name() -> None:
    class Counting(Projection):
        count: int = 0

        def apply(self, event: Opened, meta: Meta) -> None:
            self.count += 1

    model = projection_model(Counting, frozenset({Deposited}))
    view = model.new()
    for event in (Opened("a"), Deposited(Decimal(1))):
        model.apply(view, event, Meta("Account/a"))
    assert (model.events.names, view) == (frozenset({"Opened"}), Counting(count=1))


def test_equal_arguments_give_equal_bytes() -> None:
    class Tagged(Aggregate):
        @command
        def tag(self, tags: set[str | None], by: dict[str, int]) -> None: ...

    tag = aggregate_model(Tagged).commands["tag"]
    one = tag.encode(({"a", None, "b"}, {"x": 1, "y": 2}), {})
    assert one == tag.encode((), {"by": {"y": 2, "x": 1}, "tags": {"b", "a", None}})


def test_raising_a_view_s_version_changes_its_fingerprint() -> None:
    def model(version: int) -> str:
        body = {"__annotations__": {"n": int}, "n": 0, "apply": Balances.__dict__["apply"]}
        return projection_model(type("View", (Projection,), body, version=version), frozenset()).fingerprint

    assert model(1) == model(1) != model(2)


def test_a_query_that_returns_none_may_say_so() -> None:
    class View(Projection):
        def apply(self, event: Opened) -> None: ...

        @query
        def nothing(self) -> None:
            return None

    nothing = projection_model(View, frozenset()).queries["nothing"]
    assert nothing.decode_result(nothing.encode_result(None)) is None
