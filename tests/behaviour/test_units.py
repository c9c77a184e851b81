"""Views of several versions, partitions and replicas; the same on every transport."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

import eventray
from eventray import EventRayError, ProjectionStopped, Runtime, StaleView, UnknownName
from eventray.domain.messages import Heads
from tests.bank_app import Account
from tests.units_app import Doubled, Picky, Totals, make_app
from tests.waiting import wait_until

ACCOUNTS = [f"a{n}" for n in range(12)]
PARTITIONS, REPLICAS = 2, 2
Open = Callable[..., Runtime]


class Shared:
    """A runtime that tests share, and how many rounds of `deposit` it has seen."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.rounds = 0

    def deposit(self, rounds: int) -> Heads:
        self.rounds += rounds
        return deposit(self.runtime, rounds)


@contextmanager
def opening(directory: Path, *, local: bool) -> Iterator[Open]:
    app = make_app(f"units-{uuid.uuid4().hex[:8]}")
    with ExitStack() as running:

        def open_it(local: bool = local) -> Runtime:
            return running.enter_context(
                eventray.run(app, data=directory / "data", shards=2, local=local, read_page_events=10)
            )

        yield open_it


@pytest.fixture(scope="module", params=["local", "ray"])
def transport(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


@pytest.fixture
def open_app(transport: str, tmp_path: Path) -> Iterator[Open]:
    """Starts the app, again after an earlier one has ended; with `local=True` for a run that only prepares."""
    with opening(tmp_path, local=transport == "local") as open_it:
        yield open_it


@pytest.fixture(scope="module")
def one_app(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with opening(tmp_path_factory.mktemp("units"), local=transport == "local") as open_it:
        yield Shared(open_it())


@pytest.fixture
def shared(one_app: Shared) -> Iterator[Shared]:
    """The app as it began but for its deposits: the first version serves."""
    yield one_app
    one_app.runtime.switch(Totals, version=1).result()


@pytest.fixture
def own_runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The app in this process, for what does not depend on the transport."""
    with opening(tmp_path, local=True) as open_it:
        yield open_it()


def deposit(runtime: Runtime, rounds: int) -> Heads:
    """Deposit n into the nth account, so often."""
    commands = (Account.deposit.to(id, Decimal(n)) for _ in range(rounds) for n, id in enumerate(ACCOUNTS, 1))
    assert not [one for one in runtime.send_all(commands) if isinstance(one, EventRayError)]
    return runtime.heads().result()


def sums(rounds: int) -> dict[str, Decimal]:
    """An independent fold of `deposit`."""
    return {id: Decimal(n * rounds) for n, id in enumerate(ACCOUNTS, 1)}


def with_bug(amounts: dict[str, Decimal]) -> dict[str, Decimal]:
    return {id: amount * (2 if id in ("a3", "a5") else 1) for id, amount in amounts.items()}


def served(runtime: Runtime, version: int | None = None) -> dict[str, Decimal]:
    """What a view has when it has seen all."""
    of = runtime.view(Totals, version).of.options(after=runtime.heads().result())
    return {id: of.remote(id).result() for id in ACCOUNTS}


def test_the_oldest_version_serves_until_another_is_chosen_and_going_back_is_one_call(shared: Shared) -> None:
    runtime = shared.runtime
    shared.deposit(3)
    good, wrong = sums(shared.rounds), with_bug(sums(shared.rounds))
    assert served(runtime) == served(runtime, version=1) == good
    assert served(runtime, version=2) == wrong
    runtime.switch(Totals, version=2).result()
    assert served(runtime) == wrong
    assert served(runtime, version=1) == good  # follows on in the shadow
    heads = shared.deposit(1)
    runtime.switch("Totals", version=1).result()
    good = sums(shared.rounds)
    assert served(runtime) == good
    assert runtime.view(Doubled).sum.options(after=heads).remote().result() == sum(good.values())
    with pytest.raises(UnknownName, match="version of Totals"):
        runtime.switch(Totals, version=4).result()
    with pytest.raises(UnknownName):
        runtime.view(Totals, version=4).sum.remote().result()


def test_the_chosen_version_is_kept(open_app: Open) -> None:
    runtime = open_app(local=True)
    heads = deposit(runtime, 2)
    runtime.switch(Totals, version=2).result()
    assert served(runtime) == with_bug(sums(2))
    runtime.shutdown().result()
    again = open_app()
    assert again.view(Totals).sum.options(after=heads).remote().result() == sum(with_bug(sums(2)).values())
    units = again.status().result().views
    assert [unit.version for unit in units if unit.serves] == [2] * PARTITIONS * REPLICAS
    assert {unit.applied for unit in units if unit.serves} == {0}  # each went on from its own save


def test_a_comparison_names_what_differs_at_the_same_positions(own_runtime: Runtime) -> None:
    runtime = own_runtime
    heads = deposit(runtime, 2)
    assert runtime.view(Totals).sum.options(after=heads).remote().result() == sum(sums(2).values())
    found = runtime.compare(Totals, 1, 2).result()
    assert dict(found.positions) == heads
    assert {(one.where, one.old, one.new) for one in found.differences if one.where.startswith("total")} == {
        ("total['a3']", "Decimal('8')", "Decimal('16')"),
        ("total['a5']", "Decimal('12')", "Decimal('24')"),
    }
    wrong = sum(with_bug(sums(2)).values())
    assert ("sum()", repr(sum(sums(2).values())), repr(wrong)) in [(d.where, d.old, d.new) for d in found.differences]
    assert runtime.compare(Totals, 1, 3).result().count == 0
    assert runtime.compare("Totals").result().new == 3


def test_events_go_to_the_partition_of_their_key_and_queries_to_one_or_all(shared: Shared) -> None:
    runtime = shared.runtime
    done = shared.deposit(1)
    view = runtime.view(Doubled, version=2)
    held = view.held.options(after=done).remote().result()
    assert len(held) == PARTITIONS
    assert sorted(key for keys in held for key in keys) == sorted(ACCOUNTS)
    assert all(held)
    for id in ACCOUNTS:
        [home] = [keys for keys in held if id in keys]
        assert view.beside.options(after=done).remote(id).result() == home
    wrong = with_bug(sums(shared.rounds))
    assert (
        view.top.options(after=done).remote(5).result() == sorted(((v, k) for k, v in wrong.items()), reverse=True)[:5]
    )
    assert view.sum.options(after=done).remote().result() == sum(wrong.values())


def test_replicas_are_asked_in_turn(own_runtime: Runtime) -> None:
    runtime = own_runtime
    deposit(runtime, 1)
    view = runtime.view(Doubled, version=2)
    assert len({view.actor.remote("a1").result() for _ in range(6)}) == REPLICAS
    assert len({runtime.view(Totals).actor.remote("a1").result() for _ in range(6)}) == 1


def test_an_answer_says_up_to_where_its_view_had_seen_the_log(own_runtime: Runtime) -> None:
    runtime = own_runtime
    heads = deposit(runtime, 2)
    for version in (1, 2):
        answer = runtime.view(Totals, version).sum.options(after=heads).remote()
        answer.result()
        assert dict(answer.positions) == heads
    beyond = {shard: at + 1 for shard, at in heads.items()}
    late = runtime.view(Totals, version=2).sum.options(after=beyond, timeout=0.05)
    with pytest.raises(StaleView):
        late.remote().result()
    with pytest.raises(RuntimeError, match="positions"):
        _ = late.remote().positions
    stale = runtime.view(Totals, version=2).sum.options(after=beyond, timeout=0.05, stale="serve").remote()
    assert (stale.result(), dict(stale.positions)) == (sum(with_bug(sums(2)).values()), heads)


def test_a_query_is_answered_by_one_version_whole_while_they_change(shared: Shared) -> None:
    runtime = shared.runtime
    shared.deposit(1)
    expected = sums(shared.rounds)
    good, wrong = sum(expected.values()), sum(with_bug(expected).values())
    assert (served(runtime), served(runtime, version=2)) == (expected, with_bug(expected))
    ended, answers = threading.Event(), list[object]()

    def ask() -> None:
        while not ended.is_set():
            answers.append(runtime.view(Totals).sum.remote().result())

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for version in (2, 1, 2, 1, 2):
        runtime.switch(Totals, version).result()
        seen = len(answers)
        wait_until(lambda seen=seen: len(answers) > seen + 8)  # type: ignore[misc]
    ended.set()
    for asker in askers:
        asker.join()
    assert set(answers) == {good, wrong}
    assert answers[-1] == wrong


def test_a_version_that_has_stopped_does_not_take_over(own_runtime: Runtime, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    runtime = own_runtime
    deposit(runtime, 1)
    runtime.get(Account, "a1").open.remote(str(fault)).result()
    with pytest.raises(ProjectionStopped, match="fault is there"):
        runtime.switch(Totals, version=3).result()
    assert served(runtime) == sums(1)
    with pytest.raises(ProjectionStopped):
        runtime.compare(Totals, 1, 3).result()
    fault.unlink()
    runtime.rebuild(Picky).result()
    runtime.switch(Totals, version=3).result()
    assert served(runtime) == sums(1)
    assert [unit.version for unit in runtime.status().result().views if unit.serves] == [3]


def test_partitions_and_replicas_are_rebuilt(shared: Shared) -> None:
    runtime = shared.runtime
    heads = shared.deposit(3)
    done = runtime.rebuild(Doubled).result()
    assert done.events == PARTITIONS * sum(heads.values())
    shared.deposit(1)
    good = sums(shared.rounds)
    for _ in range(REPLICAS):
        assert served(runtime, version=2) == with_bug(good)
    assert served(runtime) == good
