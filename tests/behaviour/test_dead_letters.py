"""Events that a view cannot apply: left behind and tried again, or the end of it; the same on every transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import ProjectionStopped, Receipt, Runtime, UnknownName
from tests.bank_app import Account
from tests.parking_app import Strict, Totals, make_app

Open = Callable[..., Runtime]
in_this_process = pytest.mark.parametrize("open_app", ["local"], indirect=True)  # on Ray: test_cli_views


@pytest.fixture(params=["local", "ray"])
def open_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Starts the app, again after an earlier one has ended; with `local=True` for a run that matters less."""
    on_ray = request.param == "ray"
    if on_ray:
        request.getfixturevalue("ray_cluster")
    app = make_app(f"parking-{request.param}")
    with ExitStack() as running:

        def open_it(local: bool = not on_ray) -> Runtime:
            return running.enter_context(eventray.run(app, data=tmp_path / "data", shards=1, local=local))

        yield open_it


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    """While it is there the opening of an account with this owner cannot be applied."""
    path = tmp_path / "fault"
    path.touch()
    return path


def deposit(runtime: Runtime, count: int) -> None:
    for n in range(count):
        runtime.get(Account, f"a{n % 5}").deposit.remote(Decimal(1)).result()


def open_for(runtime: Runtime, fault: Path) -> Receipt:
    return runtime.get(Account, "a0").open.remote(str(fault)).result()


def seen(runtime: Runtime) -> Any:
    return runtime.view(Totals).seen.options(after=runtime.heads().result()).remote().result()


def test_an_event_that_cannot_be_applied_is_left_behind_whole_and_the_view_goes_on(open_app: Open, fault: Path) -> None:
    runtime = open_app()
    deposit(runtime, 20)
    bad = open_for(runtime, fault)
    deposit(runtime, 20)
    assert seen(runtime) == ([], 40)
    [letter] = runtime.dead_letters(Totals).list().result()
    assert (letter.view, letter.id, letter.event_id) == ("Totals", f"{bad.shard}:{bad.position}", "Account/a0@5")
    assert letter.type == "Opened"
    assert f"ValueError('{fault} is there')" in letter.reason
    assert "raise ValueError" in letter.reason
    # both views have tried: this one once and twice again, the strict one once
    assert len(Path(f"{fault}.attempts").read_text()) == 1 + 2 + 1
    totals, strict = runtime.status().result().views
    assert (totals.state, totals.parked, strict.state, strict.parked) == ("following", 1, "stopped", 0)
    with pytest.raises(ProjectionStopped, match="is there"):
        runtime.view(Strict).seen.options(after=bad).remote().result()


def test_what_was_left_behind_is_applied_once_when_it_is_tried_again(open_app: Open, fault: Path) -> None:
    runtime = open_app()
    open_for(runtime, fault)
    assert seen(runtime) == ([], 0)
    [letter] = runtime.dead_letters(Totals).list().result()
    [(id, reason)] = runtime.dead_letters(Totals).retry().result().items()
    assert id == letter.id
    assert "is there" in reason
    assert seen(runtime) == ([], 0)
    fault.unlink()
    assert runtime.dead_letters(Totals).retry([letter]).result() == {letter.id: ""}
    assert seen(runtime) == ([str(fault)], 0)
    assert runtime.dead_letters(Totals).list().result() == []
    with pytest.raises(UnknownName):
        runtime.dead_letters(Totals).retry([letter.id]).result()
    runtime.shutdown().result()
    runtime = open_app(local=True)
    assert seen(runtime) == ([str(fault)], 0)


def test_dead_letters_outlive_the_app_and_are_not_met_again(open_app: Open, fault: Path) -> None:
    runtime = open_app(local=True)
    open_for(runtime, fault)
    deposit(runtime, 5)
    assert seen(runtime) == ([], 5)
    runtime.shutdown().result()
    attempts = len(Path(f"{fault}.attempts").read_text())
    runtime = open_app()
    deposit(runtime, 5)
    assert seen(runtime) == ([], 10)
    assert len(runtime.dead_letters(Totals).list().result()) == 1
    assert runtime.status().result().views[0].parked == 1
    with pytest.raises(ProjectionStopped):  # this one has stopped again, at the same event
        runtime.view(Strict).seen.options(after=runtime.heads().result()).remote().result()
    assert len(Path(f"{fault}.attempts").read_text()) == attempts + 1


def test_a_stopped_view_goes_on_when_the_app_starts_with_an_apply_that_works(open_app: Open, fault: Path) -> None:
    runtime = open_app(local=True)
    deposit(runtime, 5)
    open_for(runtime, fault)
    heads = runtime.heads().result()
    with pytest.raises(ProjectionStopped):
        runtime.view(Strict).seen.options(after=heads).remote().result()
    runtime.shutdown().result()
    fault.unlink()
    runtime = open_app()
    answer: Any = runtime.view(Strict).seen.options(after=heads).remote().result()
    assert answer == ([str(fault)], 5)


@in_this_process
def test_a_dropped_letter_is_listed_no_more(open_app: Open, fault: Path) -> None:
    runtime = open_app()
    open_for(runtime, fault)
    assert seen(runtime) == ([], 0)
    [letter] = runtime.dead_letters("Totals").list().result()
    assert runtime.dead_letters(Totals).drop().result() == {letter.id: ""}
    assert runtime.dead_letters(Totals).list().result() == []
    assert runtime.status().result().views[0].parked == 0
    deposit(runtime, 5)
    assert seen(runtime) == ([], 5)


@in_this_process
def test_wrong_names_are_refused(open_app: Open) -> None:
    runtime = open_app()
    with pytest.raises(UnknownName, match="Totals"):
        runtime.dead_letters("Total").list().result()
    with pytest.raises(UnknownName):
        runtime.dead_letters(Totals).retry(["0:17"]).result()
    with pytest.raises(ValueError, match="0:17"):
        runtime.dead_letters(Totals).retry(["17"]).result()
