"""Floods: what is too much is refused at once, everything is answered, and the engine goes on."""

from __future__ import annotations

import os
import threading
from decimal import Decimal
from pathlib import Path

import pytest

import eventray
from eventray import App, EventTooLarge, Overloaded, Receipt, Runtime
from tests.bank_app import Account, Balances
from tests.conftest import Start, wherever_they_live
from tests.waiting import wait_until

FLOOD = 12_000
EACH = 250  # what each of several senders sends, about
MORE_BYTES_MAX = 200 << 20


def resident_bytes(pids: set[int]) -> int:
    """What these processes hold in memory now."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_is_answered_whole_in_bounded_memory(start: Start, tmp_path: Path) -> None:
    runtime = start(aggregate_commands_max=2_000)
    alice = runtime.get(Account, "alice")
    alice.deposit.remote(Decimal(1)).result()
    status = runtime.status().result()
    pids = {os.getpid(), *(part.pid for part in status.shards), *(part.pid for part in status.activations)}
    pids |= {view.pid for view in status.views}
    before = most = resident_bytes(pids)
    gate = tmp_path / "gate"  # held closed until something was refused: an engine that keeps up refuses nothing
    responses = [alice.wait_for_file.remote(str(gate))]
    for n in range(FLOOD):
        responses.append(alice.deposit.remote(Decimal(1)))
        if n % 500 == 0:
            most = max(most, resident_bytes(pids))
    wait_until(lambda: any(response.done() for response in responses))
    gate.touch()
    errors = [response.exception() for response in responses]
    most = max(most, resident_bytes(pids))
    stored = errors.count(None)
    assert stored >= 2_000
    assert {type(error) for error in errors} == {type(None), Overloaded}
    assert all(isinstance(error, Overloaded) and error.retry_after_s > 0 for error in errors if error is not None)
    assert runtime.state(Account, "alice").result().balance == 1 + stored
    assert alice.deposit.remote(Decimal(1)).result().version == 2 + stored
    assert most - before < MORE_BYTES_MAX


@wherever_they_live
def test_calls_before_it_serves_are_bounded_too(app: App, tmp_path: Path, placement: str) -> None:
    runtime = eventray.run(app, data=tmp_path / "data", shards=1, local=placement == "local", client_commands_max=10)
    responses = [runtime.get(Account, f"a{n % 2}").deposit.remote(Decimal(1)) for n in range(100)]
    errors = [response.exception() for response in responses]
    assert errors.count(None) >= 10
    assert all(isinstance(error, Overloaded) for error in errors if error is not None)
    runtime.close()


def test_send_all_waits_for_room_and_keeps_the_order(start: Start) -> None:
    runtime = start(client_commands_max=300, aggregate_commands_max=50, mailbox_commands_max=40, commit_commands_max=20)
    gone = threading.Event()
    outcomes: dict[int, list[object]] = {}

    def send_numbered(sender: int) -> None:
        commands = (Account.deposit.to(f"a{n % 2}", Decimal(sender * 1_000 + n)) for n in range(1, EACH))
        outcomes[sender] = list(runtime.send_all(commands))

    def flood() -> None:
        while not gone.is_set():
            runtime.get(Account, "a0").open.remote("nobody").exception()

    senders = [threading.Thread(target=send_numbered, args=(sender,)) for sender in range(3)]
    flooders = [threading.Thread(target=flood) for _ in range(4)]
    for thread in (*senders, *flooders):
        thread.start()
    for thread in senders:
        thread.join()
    gone.set()
    for thread in flooders:
        thread.join()
    for sender, ended in outcomes.items():
        assert [outcome for outcome in ended if not isinstance(outcome, Receipt)] == []
        for id in (0, 1):
            amounts = [
                int(event.amount)
                for event, _ in runtime.history(Account, f"a{id}")
                if hasattr(event, "amount") and int(event.amount) // 1_000 == sender
            ]
            assert amounts == [sender * 1_000 + n for n in range(1, EACH) if n % 2 == id]


@wherever_they_live  # the room is that of the client
def test_send_all_waits_also_when_others_hold_all_room(start: Start, tmp_path: Path) -> None:
    runtime = start(client_commands_max=3)
    gate = tmp_path / "gate"
    held = [runtime.get(Account, f"a{n}").wait_for_file.remote(str(gate)) for n in range(3)]
    assert isinstance(runtime.get(Account, "b").deposit.remote(Decimal(1)).exception(), Overloaded)
    outcomes: list[object] = []
    sender = threading.Thread(
        target=lambda: outcomes.extend(runtime.send_all([Account.deposit.to("b", Decimal(n)) for n in (1, 2, 3)]))
    )
    sender.start()
    sender.join(timeout=0.2)
    assert sender.is_alive()
    gate.touch()
    sender.join()
    assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True] * 3
    assert [response.result().version for response in held] == [1] * 3


@wherever_they_live
def test_queries_that_wait_for_a_view_are_bounded(start: Start) -> None:
    runtime = start(view_queries_max=5)
    receipt = runtime.get(Account, "alice").deposit.remote(Decimal(1)).result()
    view = runtime.view(Balances)
    beyond = {receipt.shard: receipt.position + 1}
    waiting = [view.sum.options(after=beyond).remote() for _ in range(20)]
    wait_until(lambda: sum(response.done() for response in waiting) == 15)
    assert all(isinstance(response.exception(), Overloaded) for response in waiting if response.done())
    assert view.sum.options(after=receipt).remote().result() == 1
    runtime.get(Account, "alice").deposit.remote(Decimal(1)).result()
    assert sum(response.exception() is None for response in waiting) == 5


@wherever_they_live
def test_the_limits_of_events_reach_the_store(start: Start) -> None:
    runtime: Runtime = start(event_bytes_max=3 << 20)
    alice = runtime.get(Account, "alice")
    assert alice.write_large.remote(2 << 20).result().version == 1
    with pytest.raises(EventTooLarge, match=str(3 << 20)):
        alice.write_large.remote(3 << 20).result()
    with pytest.raises(ValueError, match="event_bytes_max"):
        start(event_bytes_max=5 << 20)
