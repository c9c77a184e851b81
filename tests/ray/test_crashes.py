"""Processes killed with SIGKILL while commands run: every command ends in a receipt, and the sums are right."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import CommandPoisoned, Receipt, Runtime
from eventray.runtime.blame import CRASHES_MAX, LOSSES_TOGETHER_MAX
from tests.bank_app import Account, Balances, make_app
from tests.waiting import wait_until

APP = "crashes"
COMMANDS, INSTANCES = 3_000, 3


@pytest.fixture(params=["packed", "dedicated"])
def runtime(request: pytest.FixtureRequest, ray_cluster: Any, tmp_path: Path) -> Iterator[Runtime]:
    with eventray.run(make_app(APP, request.param), data=tmp_path / "data", shards=2) as running:
        yield running


def pid_of_shard(runtime: Runtime) -> int:
    return runtime.status().result().shards[0].pid


def pid_of_view(runtime: Runtime) -> int:
    return runtime.status().result().views[0].pid


def pid_of_directory(runtime: Runtime) -> int:
    from ray.util.state import list_actors

    [actor] = list_actors(filters=[("name", "=", "directory"), ("ray_namespace", "=", APP), ("state", "=", "ALIVE")])
    assert actor.pid is not None
    return actor.pid


def pid_of_activation(runtime: Runtime) -> int:
    known = [one.pid for one in runtime.status().result().activations if one.pid]
    return known[0] if known else pid_of_shard(runtime)


@pytest.mark.parametrize(
    ("runtime", "victim"),
    [
        *(("packed", victim) for victim in (pid_of_shard, pid_of_view, pid_of_directory)),
        *(("dedicated", victim) for victim in (pid_of_shard, pid_of_activation)),
    ],
    indirect=["runtime"],
)
def test_a_killed_process_changes_nothing(runtime: Runtime, victim: Callable[[Runtime], int]) -> None:
    for n in range(INSTANCES):
        runtime.get(Account, f"a{n}").deposit.remote(Decimal(1)).result()

    def commands() -> Iterator[eventray.Command]:
        for n in range(COMMANDS):
            if n == COMMANDS // 2:
                os.kill(victim(runtime), signal.SIGKILL)
            yield Account.deposit.options(command_id=f"tx-{n}").to(f"a{n % INSTANCES}", Decimal(1))

    outcomes = list(runtime.send_all(commands()))
    assert [outcome for outcome in outcomes if not isinstance(outcome, Receipt)] == []
    total = sum(runtime.state(Account, f"a{n}").result().balance for n in range(INSTANCES))
    assert total == COMMANDS + INSTANCES
    view = runtime.view(Balances)
    assert view.sum.options(after=runtime.heads().result()).remote().result() == COMMANDS + INSTANCES
    wait_until(lambda: {shard.state for shard in runtime.status().result().shards} == {"serving"})


def test_a_directory_killed_together_with_a_shard_answers_it_before_anybody_else(runtime: Runtime) -> None:
    alice = runtime.get(Account, "alice")
    alice.deposit.remote(Decimal(1)).result()
    victims = [pid_of_directory(runtime), *(shard.pid for shard in runtime.status().result().shards)]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert alice.deposit.remote(Decimal(1)).result().version == 2
    assert runtime.state(Account, "alice").result().balance == 2


def test_commands_keep_their_order_across_a_crash(runtime: Runtime) -> None:
    alice = runtime.get(Account, "alice")
    alice.deposit.remote(Decimal(1)).result()
    responses = [alice.deposit.remote(Decimal(n)) for n in range(2, 1_001)]
    os.kill(pid_of_activation(runtime), signal.SIGKILL)
    responses += [alice.deposit.remote(Decimal(n)) for n in range(1_001, 2_001)]
    for response in responses:
        response.result()
    amounts = [int(event.amount) for event, _ in runtime.history(Account, "alice")]  # type: ignore[attr-defined]
    assert amounts == list(range(1, 2_001))


def test_a_command_that_kills_its_process_is_run_again_and_refused_if_it_always_does(
    runtime: Runtime, tmp_path: Path
) -> None:
    assert runtime.get(Account, "alice").die.remote(str(tmp_path / "once")).result().version == 1
    marker = tmp_path / "always"
    poisoned = Account.die.options(command_id="poison").to("alice", str(marker), times=1_000)
    innocent = [Account.deposit.to(f"a{n % INSTANCES}", Decimal(1)) for n in range(50)]
    after = [Account.deposit.to("alice", Decimal(n)) for n in (1, 2)]
    outcomes = list(runtime.send_all([*innocent[:25], poisoned, *innocent[25:], *after]))
    refused = outcomes.pop(25)
    assert isinstance(refused, CommandPoisoned)
    assert (refused.stream, refused.command_id, refused.crashes) == ("Account/alice", "poison", CRASHES_MAX)
    assert [outcome for outcome in outcomes if not isinstance(outcome, Receipt)] == []
    assert len(marker.read_text()) == LOSSES_TOGETHER_MAX + CRASHES_MAX
    amounts = [int(event.amount) for event, _ in runtime.history(Account, "alice")]  # type: ignore[attr-defined]
    assert amounts == [1, 1, 2]
