"""Upcasters are registered on an event class, one per version, without a gap."""

from __future__ import annotations

from typing import Any

import pytest

from eventray import Event, upcast
from eventray.domain.upcast import upcasters_of


def same(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


def test_upcasters_are_kept_by_version() -> None:
    class Paid(Event, version=3):
        amount: int = 0

    assert upcast(Paid, from_version=2)(same) is same
    upcast(Paid, from_version=1)(same)
    assert list(upcasters_of(Paid)) == [1, 2]


def test_two_upcasters_for_one_version_are_refused() -> None:
    class Paid(Event, version=2):
        pass

    upcast(Paid, from_version=1)(same)
    with pytest.raises(TypeError, match="there is one already"):
        upcast(Paid, from_version=1)(same)


def test_a_gap_in_the_chain_is_refused_with_the_missing_version() -> None:
    class Paid(Event, version=4):
        pass

    upcast(Paid, from_version=1)(same)
    upcast(Paid, from_version=3)(same)
    with pytest.raises(TypeError, match="Paid: no @upcast from version 2"):
        upcasters_of(Paid)


@pytest.mark.parametrize("version", [0, 2, 3, True, "1"])
def test_a_version_that_is_not_older_is_refused(version: Any) -> None:
    class Paid(Event, version=2):
        pass

    with pytest.raises(ValueError, match="Paid"):
        upcast(Paid, from_version=version)


def test_upcasters_of_a_base_are_not_those_of_a_derived_event() -> None:
    class Base(Event, version=2):
        pass

    class Derived(Base, version=2):
        pass

    upcast(Base, from_version=1)(same)
    assert upcasters_of(Derived) == {}


def test_upcasting_what_is_no_event_is_refused() -> None:
    with pytest.raises(TypeError, match="Event"):
        upcast(int, from_version=1)  # type: ignore[arg-type]
