"""The change of a view's version when something fails or dies in the middle of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventray import App
from eventray.domain.errors import EventRayError, StoreUnavailable
from eventray.runtime.channel import TargetLost, ViewMoved
from eventray.runtime.serving import Serving
from eventray.runtime.status import ViewStatus
from eventray.runtime.units import Unit
from eventray.store.memory import MemoryCheckpoints
from tests.units_app import Doubled, Totals, make_app

APP = make_app("serving")
HEADS = {0: 7}
FIRST, THIRD = Unit("Totals", 1), Unit("Totals", 3)


class Units:
    """What the units were told; one of them may fail at a call."""

    def __init__(self, fails_at: tuple[Unit, str, Any] | None = None) -> None:
        self.told: list[tuple[Unit, str]] = []
        self.reached: list[tuple[Unit, Any]] = []
        self._fails_at = fails_at

    async def manage(self, unit: Unit, method: str, *args: Any) -> Any:
        await asyncio.sleep(0)
        if (unit, method, *args) == self._fails_at:
            raise EventRayError("lost")
        if method == "reach":
            self.reached.append((unit, *args))
        else:
            self.told.append((unit, method))
        return {0: 9} if method == "retire" else None


async def serving(checkpoints: MemoryCheckpoints) -> Serving:
    found = Serving(APP, checkpoints)
    await found.load()
    return found


async def test_the_new_version_has_all_that_the_old_one_has_shown() -> None:
    units, versions = Units(), await serving(MemoryCheckpoints())
    await versions.switch("Totals", 3, HEADS, units.manage)
    assert units.reached == [(THIRD, {0: 7}), (THIRD, {0: 9})]
    assert units.told == [(FIRST, "retire"), (THIRD, "serve")]
    with pytest.raises(ViewMoved) as moved:
        versions.require(FIRST)
    assert moved.value.version == 3


@pytest.mark.parametrize("fails_at", [(THIRD, "reach", {0: 7}), (FIRST, "retire"), (THIRD, "reach", {0: 9})])
async def test_the_old_version_serves_on_when_the_change_fails(fails_at: Any) -> None:
    checkpoints = MemoryCheckpoints()
    units, versions = Units(fails_at), await serving(checkpoints)
    with pytest.raises(EventRayError, match="lost"):
        await versions.switch("Totals", 3, HEADS, units.manage)
    assert units.told[-1:] in ([], [(FIRST, "serve")])
    assert (versions.serves(FIRST), versions.serves(THIRD)) == (True, False)
    assert (await serving(checkpoints)).versions == {"Totals": 1}


async def test_the_old_version_serves_on_when_the_change_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("views.db", "for a test")

    units, checkpoints = Units(), MemoryCheckpoints()
    versions = await serving(checkpoints)
    monkeypatch.setattr(checkpoints, "save", fail)
    with pytest.raises(StoreUnavailable):
        await versions.switch("Totals", 3, HEADS, units.manage)
    assert units.told == [(FIRST, "retire"), (FIRST, "serve")]


async def test_a_unit_that_its_teller_left_in_doubt_is_told_again() -> None:
    units, versions = Units(), await serving(MemoryCheckpoints())
    for unit, serves in ((FIRST, False), (FIRST, True), (THIRD, True), (THIRD, False)):
        status = ViewStatus(unit.view, "following", {}, version=unit.version, serves=serves)
        await versions.reconcile(unit, status, units.manage)
    assert units.told == [(FIRST, "serve"), (THIRD, "retire")]


async def test_nobody_is_asked_while_the_version_changes() -> None:
    checkpoints = MemoryCheckpoints()
    versions, seen = await serving(checkpoints), list[bool]()

    async def manage(unit: Unit, method: str, *args: Any) -> Any:
        if method == "retire":
            with pytest.raises(TargetLost):
                versions.require(FIRST)
            seen.append(versions.serves(FIRST) or versions.serves(THIRD))
            await versions.reconcile(FIRST, ViewStatus("Totals", "following", {}, serves=True), units.manage)
        return {0: 9}

    units = Units()
    await versions.switch("Totals", 3, HEADS, manage)
    assert (seen, units.told) == ([False], [])
    assert (await serving(checkpoints)).versions == {"Totals": 3}


async def test_a_version_that_the_app_has_no_more_serves_no_more() -> None:
    checkpoints = MemoryCheckpoints()
    await (await serving(checkpoints)).switch("Totals", 3, HEADS, Units().manage)
    older = Serving(App("serving", projections=[Totals, Doubled]), checkpoints)
    await older.load()
    assert older.versions == {"Totals": 1}
