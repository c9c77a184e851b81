"""A view applies a page: as far as it goes, each event once, and what stopped it is named."""

from __future__ import annotations

from eventray import Event, Meta, Projection
from eventray.runtime.model import projection_model
from eventray.runtime.viewstate import ViewState
from eventray.store import Record, ShardPage
from eventray.store.codec import Codec


class Deposited(Event):
    amount: int


class Sum(Projection):
    total: int = 0
    seen: list[str] = []

    def apply(self, event: Deposited, meta: Meta) -> None:
        self.total += event.amount
        self.seen.append(f"{meta.event_id} {meta.command_id} {meta.metadata.get('user')}")


CODEC: Codec[Deposited] = Codec(Deposited, "Deposited")
MODEL = projection_model(Sum, [Deposited])
USER = b"\x81\xa4user\xa1u"


def record(position: int, data: bytes | None = None, version: int = 1) -> Record:
    body = CODEC.encode(Deposited(position)) if data is None else data
    return Record("A/a", position, "Deposited", body, USER, 0, position, position, f"tx-{position}", version)


def applied(view: ViewState) -> Sum:
    assert isinstance(view.view, Sum)
    return view.view


def test_a_page_is_applied_with_what_is_known_of_its_events() -> None:
    view = ViewState(MODEL, [0])
    assert view.apply_page(0, ShardPage([record(1), record(2)], 5)) is None
    assert applied(view).seen == ["A/a@1 tx-1 u", "A/a@2 tx-2 u"]
    assert (view.positions, view.applied) == ({0: 5}, 2)


def test_what_was_applied_or_left_behind_is_not_applied_again() -> None:
    view = ViewState(MODEL, [0])
    view.apply_page(0, ShardPage([record(1)], 1))
    view.parked[0].add(3)
    assert view.apply_page(0, ShardPage([record(1), record(2), record(3), record(4)], 4)) is None
    assert applied(view).total == 1 + 2 + 4


def test_an_event_that_cannot_be_decoded_stops_the_page_in_its_turn_and_says_why() -> None:
    view = ViewState(MODEL, [0])
    failure = view.apply_page(0, ShardPage([record(1), record(2, b"\xc1"), record(3)], 3))
    assert failure is not None
    assert failure.record == record(2, b"\xc1")
    assert "Deposited A/a@2 in shard 0" in failure.reason
    assert "the stored bytes do not decode" in failure.reason
    assert (applied(view).total, view.positions, view.applied) == (1, {0: 1}, 1)


def test_an_event_of_an_unknown_version_stops_the_page_in_its_turn_and_says_so() -> None:
    view = ViewState(MODEL, [0])
    failure = view.apply_page(0, ShardPage([record(1), record(2, version=9)], 2))
    assert failure is not None
    assert "UnknownEvent" in failure.reason
    assert (applied(view).total, view.positions) == (1, {0: 1})
