"""History and time travel; the same on every transport."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from eventray import Runtime
from tests.bank_app import Account, Deposited
from tests.conftest import Start, wherever_they_live

pytestmark = wherever_they_live


def test_history_tells_every_event_in_order_across_pages(start: Start, name: str) -> None:
    runtime = start(read_page_events=7)
    alice = runtime.get(Account, name)
    for n in range(1, 31):
        alice.deposit.remote(Decimal(n)).result()
    history = runtime.history(Account, name)
    assert [(meta.version, event) for event, meta in history] == [(n, Deposited(Decimal(n))) for n in range(1, 31)]
    times = [meta.recorded_at for _, meta in history]
    assert times == sorted(set(times))


def test_history_of_an_instance_without_events_is_empty(runtime: Runtime, name: str) -> None:
    assert list(runtime.history(Account, name)) == []


def test_the_state_at_every_version_is_the_sum_up_to_it(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    for n in range(1, 51):  # over two snapshots
        alice.deposit.remote(Decimal(n)).result()
    for version in (0, 1, 19, 20, 21, 40, 49, 50):
        state = runtime.state(Account, name, at=version).result()
        assert (state.id, state.version, state.balance) == (name, version, Decimal(sum(range(version + 1))))
    assert runtime.state(Account, name).result().version == 50


def test_the_state_at_a_moment(runtime: Runtime, name: str) -> None:
    alice = runtime.get(Account, name)
    for n in range(1, 6):
        alice.deposit.remote(Decimal(n)).result()
    third = list(runtime.history(Account, name))[2].meta.recorded_at
    assert runtime.state(Account, name, at=third).result().version == 3
    assert runtime.state(Account, name, at=third - timedelta(microseconds=1)).result().version == 2
    assert runtime.state(Account, name, at=third - timedelta(days=1)).result() == Account()


@pytest.mark.parametrize("at", [-1, 2, True, datetime(2030, 1, 1)])
def test_a_version_or_moment_that_cannot_be_is_a_value_error(runtime: Runtime, name: str, at: int | datetime) -> None:
    runtime.get(Account, name).deposit.remote(Decimal(1)).result()
    with pytest.raises(ValueError, match=r"at=|no version"):
        runtime.state(Account, name, at=at).result()
