"""Handles: what resolves on them and what is refused; responses and their deadlines."""

from __future__ import annotations

import asyncio
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eventray import CommandTimeout, Runtime
from eventray.runtime.remote import pickled
from tests.bank_app import Account, Balances


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


def test_a_slow_command_delays_only_its_own_instance(runtime: Runtime, name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = runtime.get(Account, name).wait_for_file.remote(str(gate))
    for n in range(20):
        runtime.get(Account, f"{name}-quick{n % 3}").deposit.remote(Decimal(1)).result()
    assert not slow.done()
    gate.touch()
    assert slow.result().version == 1


def test_after_a_timeout_the_outcome_is_learned_by_sending_again(runtime: Runtime, name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = runtime.get(Account, name).wait_for_file
    with pytest.raises(CommandTimeout, match="again") as timed_out:
        slow.options(command_id="once", timeout=0.05).remote(str(gate)).result()
    assert timed_out.value.command_id == "once"
    gate.touch()
    receipt = slow.options(command_id="once").remote(str(gate)).result()
    assert receipt.version == 1
    assert runtime.state(Account, name).result().version == 1


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
