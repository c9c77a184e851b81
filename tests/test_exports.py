"""The public names, pinned: adding or removing one is a decision."""

from __future__ import annotations

import inspect

import pytest

import eventray
import eventray.data
import eventray.testing
from eventray.domain import errors

NAMES = [
    *(
        "Aggregate",
        "Answer",
        "App",
        "Command",
        "CommandOptions",
        "Comparison",
        "DeadLetter",
        "Dedicated",
        "Difference",
        "Event",
        "Meta",
        "Packed",
        "Projection",
    ),
    *("Rebuild", "Rebuilt", "Receipt", "Response", "Runtime", "command", "connect", "query", "run", "upcast"),
    *("AppEnded", "CommandFailed", "CommandIdReused", "CommandPoisoned", "CommandTimeout", "ConcurrencyConflict"),
    *("EncodingError", "EventRayError", "EventTooLarge", "ExtraMissing", "ImpureCommand", "InvalidId", "Overloaded"),
    *("ProjectionStopped", "RayUnavailable", "RayUnprotected", "Rejected", "ShardFenced", "ShardUnavailable"),
    *("StoreCorrupted", "StoreFull", "StoreLocked", "StoreMismatch", "StoreUnavailable", "UnknownEvent"),
    *("StaleView", "UnknownName"),
]


def test_the_public_names_are_these() -> None:
    assert sorted(eventray.__all__) == sorted(NAMES)
    assert eventray.testing.__all__ == ["given"]
    assert eventray.data.__all__ == ["heads_of"]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(eventray, name) is not None
    assert name in dir(eventray)


def test_every_error_but_the_internal_one_is_public() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.EventRayError)
    }
    assert defined - set(eventray.__all__) == {"ActivationSuperseded"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Acount'"):
        eventray.Acount  # noqa: B018
