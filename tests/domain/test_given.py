"""given / when / then says what does not hold, and only that."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from eventray import Aggregate, EncodingError, Event, ImpureCommand, Meta, Projection, Rejected, command
from eventray.testing import given
from tests.domain.bank import Account, Balances, Deposited, Opened


def test_a_command_that_returns_the_expected_events_passes() -> None:
    done = given(Account, [Opened("Alice")]).when(Account.deposit, Decimal(5), times=2)
    done.then(Deposited(Decimal(5)), Deposited(Decimal(5))).then_state(balance=Decimal(10), owner="Alice")
    assert done.aggregate.version == 3


def test_other_events_fail_and_show_both_sides() -> None:
    done = given(Account).when(Account.deposit, Decimal(5))
    with pytest.raises(AssertionError, match=r"expected Decimal\('6'\), got Decimal\('5'\)"):
        done.then(Deposited(Decimal(6)))
    with pytest.raises(AssertionError, match="no events"):
        done.then_nothing()
    with pytest.raises(AssertionError, match=r"Account\.deposit\(Decimal\('5'\)\)"):
        done.then_rejected()
    with pytest.raises(AssertionError, match="balance"):
        done.then_state(balance=Decimal(1))


def test_a_refusal_is_matched_by_type_or_text() -> None:
    refused = given(Account, [Opened("Alice")], id="x").when(Account.open, "Bob")
    refused.then_rejected().then_rejected("x belongs to Alice").then_rejected(Rejected, match="Alice")
    with pytest.raises(AssertionError, match="belongs to Carol"):
        refused.then_rejected("belongs to Carol")
    with pytest.raises(AssertionError, match="rejected"):
        refused.then_nothing()


def test_nothing_to_do_is_no_event() -> None:
    given(Account, [Opened("Alice")]).when(Account.open, "Alice").then_nothing()


def test_a_command_that_changes_state_is_named_with_what_it_changed() -> None:
    with pytest.raises(ImpureCommand) as caught:
        given(Account, id="a").when(Account.cheat)
    assert (caught.value.stream, caught.value.command) == ("Account/a", "cheat")
    assert caught.value.changed == ("balance", "notes")


def test_a_bug_in_a_command_is_not_a_refusal() -> None:
    with pytest.raises(TypeError):
        given(Account).when(Account.deposit, None)  # type: ignore[arg-type]


def test_an_event_that_could_not_be_stored_fails_the_test() -> None:
    with pytest.raises(EncodingError, match=r"Deposited\.amount"):
        given(Account).when(Account.deposit, 5.5)  # type: ignore[arg-type]
    with pytest.raises(EncodingError, match=r"Opened\.owner"):
        given(Account, [Opened(3)])  # type: ignore[arg-type]


def test_a_view_sees_events_with_their_meta() -> None:
    log = [(Opened("Alice"), "alice"), (Deposited(Decimal(5)), "Account/alice"), (Deposited(Decimal(7)), {"id": "bob"})]
    view = given(Balances, log)
    view.query(Balances.top, 1).then([("bob", Decimal(7))])
    view.then_state(total={"alice": Decimal(5), "bob": Decimal(7)})
    with pytest.raises(AssertionError, match=r"Balances\.top\(1\)"):
        view.query(Balances.top, 1).then([])
    with pytest.raises(AssertionError, match="total"):
        view.then_state(total={})


def test_a_view_may_be_given_whole_metas() -> None:
    meta = Meta(aggregate="Account", id="zoe", version=4, recorded_at=datetime(2026, 1, 1, tzinfo=UTC))
    given(Balances, [(Deposited(Decimal(1)), meta)]).then_state(total={"zoe": Decimal(1)})


def test_a_view_s_events_are_numbered_in_their_stream_and_in_the_log() -> None:
    class Numbers(Projection):
        seen: list[tuple[str, int, int]] = []

        def apply(self, event: Opened, meta: Meta) -> None:
            self.seen.append((meta.id, meta.version, meta.position))

    log = [(Opened("x"), "a"), (Opened("x"), "b"), (Opened("x"), "a"), (Opened("x"), {"id": "b", "version": 9})]
    given(Numbers, log).then_state(seen=[("a", 1, 1), ("b", 1, 2), ("a", 2, 3), ("b", 9, 4)])
    with pytest.raises(TypeError, match="beside an event"):
        given(Numbers, [(Opened("x"), 5)])


def test_parts_of_a_view_that_are_merged_are_compared_with_the_whole() -> None:
    class Sums(Balances):
        def merge(self, other: Sums) -> None:
            self.total |= other.total

    class Forgetful(Balances):
        def merge(self, other: Forgetful) -> None:
            self.total = other.total

    log = [(Opened("Alice"), "alice"), (Deposited(Decimal(5)), "alice"), (Opened("Bob"), "bob")]
    given(Sums, log).then_merges().then_state(total={"alice": Decimal(5), "bob": Decimal(0)})
    given(Sums).then_merges()
    with pytest.raises(AssertionError, match="total after the parts"):
        given(Forgetful, log).then_merges()
    with pytest.raises(TypeError, match="Balances has no merge"):
        given(Balances, log).then_merges()


def test_events_that_a_class_does_not_apply_only_count() -> None:
    class Noted(Event):
        pass

    class Quiet(Aggregate):
        count: int = 0

        @command
        def note(self) -> Noted:
            return Noted()

        def apply(self, event: Opened) -> None:
            self.count += 1

    done = given(Quiet, [Opened("a"), Noted()]).when(Quiet.note).then(Noted()).then_state(count=1)
    assert done.aggregate.version == 3


def test_given_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="Aggregate or Projection"):
        given(int)  # type: ignore[type-var]
