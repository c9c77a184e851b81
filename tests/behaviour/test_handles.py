"""Handles: what resolves on them and what is refused; responses and their deadlines."""

from __future__ import annotations

import asyncio
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventray import Runtime
from eventray.runtime.remote import pickled
from tests.bank_app import Account, Balances
from tests.conftest import wherever_they_live

pytestmark = wherever_they_live


def test_only_commands_and_the_id_resolve_on_a_handle(runtime: Runtime, name: str) -> None:
    alice: Any = runtime.get(Account, name)
    assert alice.id == name
    with pytest.raises(AttributeError, match=r"runtime\.state"):
        _ = alice.balance
    with pytest.raises(AttributeError, match="commands only"):
        alice.balance = 5
    with pytest.raises(TypeError, match="remote"):
        alice.deposit(Decimal(1))
    view: Any = runtime.view(Balances)
    with pytest.raises(AttributeError, match="query"):
        _ = view.total


def test_handles_compare_hash_and_pickle_by_stream(runtime: Runtime, name: str) -> None:
    alice, again, bob = (runtime.get(Account, id) for id in (name, name, f"{name}-bob"))
    assert alice == again
    assert alice != bob
    assert len({alice, again, bob}) == 2
    copy = pickle.loads(pickled(alice))
    assert copy == alice
    assert copy.deposit.remote(Decimal(1)).result().version == 1


def test_a_result_that_is_not_waited_for_still_comes(runtime: Runtime, name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    response = runtime.get(Account, name).wait_for_file.remote(str(gate))
    with pytest.raises(TimeoutError):
        response.result(timeout=0.01)
    gate.touch()
    assert response.result().version == 1
    assert response.future().result().version == 1


async def test_cancelling_an_await_does_not_cancel_the_command(runtime: Runtime, name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    response = runtime.get(Account, name).wait_for_file.remote(str(gate))

    async def wait() -> None:
        await response

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.touch()
    assert (await response).version == 1
