"""Commands that take long delay their own instance alone; and what is told of the activations, on every transport."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from eventray import CommandTimeout, Runtime
from tests.bank_app import Account
from tests.conftest import Start


def test_commands_that_block_delay_no_other_instance(
    runtime: Runtime, name: str, placement: str, tmp_path: Path
) -> None:
    count = 3 if placement == "dedicated" else 20  # there is room for 4
    path = tmp_path / "go"
    blocked = [runtime.get(Account, f"{name}-{n}").wait_for_file.remote(str(path)) for n in range(count)]
    behind = runtime.get(Account, f"{name}-0").deposit.remote(Decimal(1))
    for n in range(1, 6):
        assert runtime.get(Account, f"{name}-quick").deposit.remote(Decimal(1)).result().version == n
    assert not any(response.done() for response in (*blocked, behind))
    path.touch()
    assert [response.result().version for response in (*blocked, behind)] == [1] * count + [2]


def test_the_outcome_of_a_command_that_timed_out_is_learned_by_its_id(
    runtime: Runtime, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "go"
    slow = runtime.get(Account, name).wait_for_file
    runtime.get(Account, name).deposit.remote(Decimal(1)).result()
    with pytest.raises(CommandTimeout, match="again") as timeout:
        slow.options(command_id="slow-1", timeout=0.5).remote(str(path)).result()
    assert timeout.value.command_id == "slow-1"
    path.touch()
    receipt = slow.options(command_id="slow-1").remote(str(path)).result()
    assert (receipt.version, receipt.duplicate) == (2, True)
    assert runtime.state(Account, name).result().balance == 2


def test_status_counts_the_activations_of_each_class(start: Start, placement: str) -> None:
    runtime = start()
    for id in ("a", "b", "a"):
        runtime.get(Account, id).deposit.remote(Decimal(1)).result()
    [found] = runtime.status().result().aggregates
    dedicated = placement == "dedicated"
    assert (found.name, found.placement) == ("Account", "Dedicated" if dedicated else "Packed")
    assert (found.active, found.started, found.passivated) == (2, 2, 0)
    assert found.restarts == (0 if dedicated else None)
