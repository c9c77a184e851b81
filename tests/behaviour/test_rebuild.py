"""Views that are made anew, and as they were; the same on every transport."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import EventRayError, ProjectionStopped, Runtime, StoreMismatch, UnknownName
from eventray.domain.messages import Heads
from tests.bank_app import Account, Deposited
from tests.parking_app import Strict, Totals
from tests.rebuild_app import Latest, Summed, make_app
from tests.waiting import wait_until

ACCOUNTS = [f"a{n}" for n in range(7)]

in_this_process = pytest.mark.parametrize("app_runtime", ["local"], indirect=True)


@pytest.fixture(params=["local", "ray"])
def app_runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    """A runtime of the test's own."""
    local = request.param == "local"
    if not local:
        request.getfixturevalue("ray_cluster")
    app = make_app(f"rebuild-{uuid.uuid4().hex[:8]}")
    with eventray.run(app, data=tmp_path / "data", shards=2, local=local, read_page_events=10) as runtime:
        yield runtime


@pytest.fixture
def owner(tmp_path: Path) -> Path:
    """The owner of an account, by which tests make its opening fail or wait."""
    return tmp_path / "owner"


def deposit(runtime: Runtime, first: int, last: int) -> None:
    commands = (Account.deposit.to(ACCOUNTS[n % len(ACCOUNTS)], Decimal(n)) for n in range(first, last + 1))
    assert not [one for one in runtime.send_all(commands) if isinstance(one, EventRayError)]


def sums(last: int, first: int = 1) -> dict[str, Decimal]:
    """An independent fold of `deposit`."""
    found: dict[str, Decimal] = {}
    for n in range(first, last + 1):
        id = ACCOUNTS[n % len(ACCOUNTS)]
        found[id] = found.get(id, Decimal(0)) + n
    return found


def served(runtime: Runtime) -> dict[str, Decimal]:
    """What the view has when it has seen all."""
    heads = runtime.heads().result()
    of = runtime.view(Summed).of.options(after=heads)
    return {id: of.remote(id).result() for id in ACCOUNTS}


def test_a_view_made_anew_equals_the_one_that_followed_also_while_commands_run(
    app_runtime: Runtime, owner: Path
) -> None:
    runtime = app_runtime
    deposit(runtime, 1, 100)
    owner.touch()
    runtime.get(Account, "broken").open.remote(str(owner)).result()
    deposit(runtime, 101, 200)
    assert served(runtime) == sums(200)
    rebuilds = [runtime.rebuild(Summed), runtime.rebuild(Latest)]
    deposit(runtime, 201, 300)
    for rebuild, view in zip(rebuilds, ("Summed", "Latest"), strict=True):
        done = rebuild.result()
        assert (done.view, done.events) == (view, rebuild.progress.total)
        assert rebuild.progress.events == rebuild.progress.total >= 201
        assert done.rate > 0
    deposit(runtime, 301, 400)
    assert served(runtime) == sums(400)
    heads = runtime.heads().result()
    amounts = runtime.view(Latest).all.options(after=heads).remote().result()
    assert sorted(amounts) == list(range(1, 401))
    [letter] = runtime.dead_letters(Summed).list().result()
    assert letter.event_id == "Account/broken@1"
    owner.unlink()
    runtime.rebuild("Summed").result()
    assert runtime.dead_letters(Summed).list().result() == []
    seen: Any = runtime.view(Summed).seen.remote().result()
    assert seen == ([str(owner)], sum(range(1, 401)))


def test_the_old_view_serves_while_a_new_one_is_made_and_after_that_was_cancelled(
    app_runtime: Runtime, owner: Path
) -> None:
    runtime, gate, reached = app_runtime, Path(f"{owner}.gate"), Path(f"{owner}.reached")
    deposit(runtime, 1, 50)
    runtime.get(Account, "slow").open.remote(str(owner)).result()
    assert served(runtime) == sums(50)
    gate.touch()
    rebuild = runtime.rebuild(Summed)
    wait_until(reached.exists)
    deposit(runtime, 51, 100)
    assert served(runtime) == sums(100)
    assert not rebuild.done()
    rebuild.cancel()
    if runtime.status().result().local:
        gate.unlink()  # a thread ends with its page, a task at once
    assert isinstance(rebuild.exception(), EventRayError)
    assert "cancelled" in str(rebuild.exception())
    deposit(runtime, 101, 150)
    assert served(runtime) == sums(150)
    gate.unlink(missing_ok=True)
    runtime.rebuild(Summed).result()
    assert served(runtime) == sums(150)


@in_this_process
def test_a_stopped_view_follows_again_once_it_can_be_made_anew(app_runtime: Runtime, owner: Path) -> None:
    runtime = app_runtime
    owner.touch()
    deposit(runtime, 1, 20)
    runtime.get(Account, "broken").open.remote(str(owner)).result()
    seen = runtime.view(Strict).seen
    with pytest.raises(ProjectionStopped):
        seen.options(after=runtime.heads().result()).remote().result()
    with pytest.raises(ProjectionStopped, match="is there"):
        runtime.rebuild(Strict).result()
    assert runtime.status().result().views[2].state == "stopped"
    owner.unlink()
    runtime.rebuild(Strict).result()
    deposit(runtime, 21, 30)
    answer: Any = seen.options(after=runtime.heads().result()).remote().result()
    assert answer == ([str(owner)], sum(range(1, 31)))


def test_a_view_at_a_moment_is_what_an_independent_fold_gives(app_runtime: Runtime) -> None:
    runtime = app_runtime
    moments: list[tuple[Any, int]] = []
    for n in range(0, 60, 20):
        deposit(runtime, n + 1, n + 20)
        heads = runtime.heads().result()
        moment = max(meta.recorded_at for id in ACCOUNTS for _, meta in runtime.history(Account, id))
        moments += [(heads, n + 20), (dict(heads), n + 20), (moment, n + 20)]
    for at, last in moments:
        with runtime.view_at(Summed, at=at) as view:
            assert (view.total, view.of("a1")) == (sums(last), sums(last)["a1"])
        with runtime.view_at(Latest, at=at) as latest:
            assert sorted(latest.all()) == list(range(1, last + 1))
    log = [(meta, event) for id in ACCOUNTS for event, meta in runtime.history(Account, id)]
    for meta, _ in sorted(log, key=lambda entry: entry[0].recorded_at)[::13]:
        with runtime.view_at(Summed, at=meta.recorded_at) as view:
            then: dict[str, Decimal] = {}
            for other, event in log:
                if other.recorded_at <= meta.recorded_at:
                    assert isinstance(event, Deposited)
                    then[other.id] = then.get(other.id, Decimal(0)) + event.amount
            assert view.total == then
    with runtime.view_at(Summed, at=datetime.now(UTC) - timedelta(days=1)) as view:
        assert view == Summed()


@in_this_process
async def test_a_view_at_a_moment_is_there_for_async_with_too(app_runtime: Runtime) -> None:
    deposit(app_runtime, 1, 20)
    async with app_runtime.view_at(Summed, at=await app_runtime.heads()) as view:
        assert view.total == sums(20)


@in_this_process
def test_what_cannot_be_is_refused(app_runtime: Runtime) -> None:
    runtime = app_runtime
    deposit(runtime, 1, 3)
    heads = runtime.heads().result()
    with pytest.raises(UnknownName, match="Summed"):
        runtime.rebuild("Sum").result()
    with pytest.raises(UnknownName):
        runtime.view_at(Totals, at=heads)
    refused: list[tuple[Any, type[Exception]]] = [
        (datetime(2026, 1, 1), ValueError),
        ({0: 99}, ValueError),
        ({9: 0}, ValueError),
        ({0: -1}, ValueError),
        (3, TypeError),
        (Heads(heads, heads.generation + 1), StoreMismatch),
    ]
    for at, error in refused:
        with pytest.raises(error), runtime.view_at(Summed, at=at):
            pass
