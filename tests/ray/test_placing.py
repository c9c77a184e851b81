"""Dedicated activations: their starts, the room they take, how they leave it, and what is told of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import Aggregate, App, CommandTimeout, Dedicated, Event, Packed, Runtime, ShardUnavailable, command
from eventray.runtime.directory import actor_options
from eventray.runtime.status import AggregateStatus
from tests.bank_app import Account
from tests.waiting import wait_until

Run = Callable[..., Runtime]


class Said(Event):
    text: str


class Other(Aggregate):
    @command
    def say(self, text: str) -> Said:
        return Said(text)

    def apply(self, event: Said) -> None:
        pass


def app_of(name: str, placement: Dedicated | Packed) -> App:
    return App(name, aggregates=[Account, Other], placement={Account: placement, Other: Dedicated()})


@pytest.fixture
def run(ray_cluster: Any, tmp_path: Path) -> Iterator[Run]:
    """Starts an app with this placement of accounts; it ends with the test."""
    with ExitStack() as running:

        def start(placement: Dedicated | Packed, shards: int = 1) -> Runtime:
            app = app_of("placing", placement)
            return running.enter_context(eventray.run(app, data=tmp_path / "data", shards=shards))

        yield start


@pytest.fixture(scope="module")
def roomy(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """An app with room for all: tests share it, each with instances of its own."""
    with eventray.run(app_of("roomy", Dedicated()), data=tmp_path_factory.mktemp("roomy"), shards=1) as runtime:
        yield runtime


def of_class(runtime: Runtime, name: str = "Account") -> AggregateStatus:
    [found] = [one for one in runtime.status().result().aggregates if one.name == name]
    return found


def active(runtime: Runtime) -> list[str]:
    return sorted(one.stream for one in runtime.status().result().activations)


def test_those_asked_for_at_once_start_side_by_side(roomy: Runtime, name: str, tmp_path: Path) -> None:
    (tmp_path / "meeting").mkdir()
    ids = [f"{name}-{n}" for n in range(4)]
    for response in [roomy.get(Account, id).meet.remote(str(tmp_path / "meeting"), len(ids) - 1) for id in ids]:
        response.result()  # each ends only when all have begun


def test_who_waits_for_room_holds_up_no_other_class_and_is_told_what_for(run: Run, tmp_path: Path) -> None:
    runtime = run(Dedicated(max_active=2))
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    busy = [runtime.get(Account, id).meet.remote(str(meeting), 2) for id in ("a", "b")]
    wait_until(lambda: len(list(meeting.iterdir())) == 2)
    late = runtime.get(Account, "late").deposit
    with pytest.raises(ShardUnavailable, match=r"all 2 active instances of Account have work \(max_active=2"):
        late.options(timeout=10.0).remote(Decimal(1)).result()
    waits = late.remote(Decimal(1))
    assert runtime.get(Other, "x").say.remote("hello").result().version == 1
    assert [response.done() for response in (*busy, waits)] == [False] * 3
    assert active(runtime) == ["Account/a", "Account/b", "Other/x"]  # none with work was passivated
    (meeting / "me").touch()
    assert [response.result().version for response in (*busy, waits)] == [1, 1, 1]


def test_the_least_recently_used_leaves_first(run: Run) -> None:
    runtime = run(Dedicated(max_active=3))
    for id in ("a", "b", "c", "a"):
        runtime.get(Account, id).deposit.remote(Decimal(1)).result()
    runtime.get(Account, "d").deposit.remote(Decimal(1)).result()
    # On a very busy machine one that is slow to say that it left is not waited for: then the next one left, too.
    assert {"Account/a", "Account/d"} <= {*active(runtime)} <= {"Account/a", "Account/c", "Account/d"}
    assert runtime.get(Account, "b").deposit.remote(Decimal(1)).result().version == 2
    assert {"Account/b"} < {*active(runtime)} < {"Account/a", "Account/b", "Account/c", "Account/d"}
    counts = of_class(runtime)
    assert (counts.placement, counts.started) == ("Dedicated", 5)
    assert counts.active + counts.passivated == 5


def test_idle_ones_leave_after_their_timeout(run: Run) -> None:
    runtime = run(Dedicated(idle_timeout=0.2))
    runtime.get(Account, "a").deposit.remote(Decimal(1)).result()
    wait_until(lambda: not active(runtime))
    assert runtime.get(Account, "a").deposit.remote(Decimal(1)).result().version == 2
    assert of_class(runtime).passivated >= 1


@pytest.mark.parametrize(
    "placement",
    [Dedicated(max_active=2, idle_timeout=0.05), Packed(max_active=2, idle_timeout=0.001)],
    ids=["dedicated", "packed"],
)
def test_commands_that_meet_a_passivation_run_once_each(run: Run, placement: Dedicated | Packed) -> None:
    runtime = run(placement)
    instances, each = 5, 30
    failures: list[BaseException] = []

    def send(id: str) -> None:
        try:
            for n in range(each):
                runtime.get(Account, id).deposit.options(command_id=f"{id}-{n}").remote(Decimal(1)).result()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=send, args=(f"a{n}",)) for n in range(instances)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for n in range(instances):
        ids = [meta.command_id for _, meta in runtime.history(Account, f"a{n}")]
        assert ids == [f"a{n}-{k}" for k in range(each)]
    assert of_class(runtime).passivated >= instances - 2


def test_a_name_that_is_not_free_yet_is_waited_for(roomy: Runtime, name: str, ray_cluster: Any) -> None:
    class Leaving:
        async def here(self) -> bool:
            return True

    other = ray_cluster.remote(Leaving).options(**actor_options(f"Account/{name}", "roomy")).remote()
    assert ray_cluster.get(other.here.remote())
    response = roomy.get(Account, name).deposit.remote(Decimal(1))
    roomy.get(Other, name).say.remote("hello").result()
    assert not response.done()
    ray_cluster.kill(other)
    assert response.result().version == 1


def test_one_that_was_ended_for_good_is_made_anew(roomy: Runtime, name: str, ray_cluster: Any) -> None:
    roomy.get(Account, name).deposit.remote(Decimal(1)).result()
    ray_cluster.kill(ray_cluster.get_actor(f"Account/{name}", namespace="roomy"))
    assert roomy.get(Account, name).deposit.remote(Decimal(1)).result().version == 2


def test_a_crash_is_counted_as_a_restart(roomy: Runtime, name: str, tmp_path: Path) -> None:
    before = of_class(roomy)
    roomy.get(Account, name).die.remote(str(tmp_path / "marker"), times=2).result()
    after = of_class(roomy)
    assert (after.started, after.passivated, after.restarts) == (
        before.started + 1,
        before.passivated,
        (before.restarts or 0) + 2,
    )


def test_resources_that_no_node_offers_are_named_at_the_timeout(run: Run) -> None:
    runtime = run(Dedicated(resources={"tape": 2, "agent": 1}))
    response = runtime.get(Account, "a").deposit.options(timeout=5.0).remote(Decimal(1))
    with pytest.raises(ShardUnavailable, match=r"tape: 2, agent: 1\)\. There is: .*agent: 3"):
        response.result()
    counts = of_class(runtime)
    assert "tape: 2" in counts.warning


def test_resources_are_room(run: Run) -> None:
    runtime = run(Dedicated(resources={"agent": 2}))  # of 3: there is one at a time
    for id in ("a", "b"):
        runtime.get(Account, id).deposit.remote(Decimal(1)).result()
    assert active(runtime) == ["Account/b"]


def test_a_slow_dedicated_command_delays_no_other_instance_and_its_outcome_is_learned_by_its_id(
    roomy: Runtime, name: str, tmp_path: Path
) -> None:
    path, started = tmp_path / "go", tmp_path / "started"
    for id in (f"{name}-slow", f"{name}-quick"):
        roomy.get(Account, id).deposit.remote(Decimal(1)).result()
    slow = Account.compute_until.options(command_id="slow", timeout=3.0).to(f"{name}-slow", str(path), str(started))
    first = roomy.send(slow)
    wait_until(started.exists)
    assert roomy.get(Account, f"{name}-quick").deposit.remote(Decimal(1)).result().version == 2
    with pytest.raises(CommandTimeout) as timeout:
        first.result()
    assert timeout.value.command_id == "slow"
    states = {one.stream: one.state for one in roomy.status().result().activations if name in one.stream}
    assert states == {f"Account/{name}-slow": "silent", f"Account/{name}-quick": "active"}
    path.touch()
    wait_until(lambda: roomy.state(Account, f"{name}-slow").result().version == 2)
    again = Account.compute_until.options(command_id="slow").to(f"{name}-slow", str(path), str(started))
    receipt = roomy.send(again).result()
    assert (receipt.version, receipt.duplicate) == (2, True)


def test_an_undeclared_slow_packed_command_delays_no_other_shard(run: Run, tmp_path: Path) -> None:
    runtime = run(Packed(), shards=2)
    homes = {f"a{n}": runtime.get(Account, f"a{n}").deposit.remote(Decimal(1)).result().shard for n in range(20)}
    slow = next(id for id, shard in homes.items() if shard == 0)
    path, started = tmp_path / "go", tmp_path / "started"
    response = runtime.get(Account, slow).compute_until.remote(str(path), str(started))
    wait_until(started.exists)
    for id in [id for id, shard in homes.items() if shard == 1]:
        assert runtime.get(Account, id).deposit.remote(Decimal(1)).result().version == 2
    assert not response.done()
    path.touch()
    assert response.result().version == 2
