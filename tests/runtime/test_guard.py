"""Domain code sends nothing: `.remote()` inside a command, an apply or a query raises at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import Aggregate, App, CommandFailed, Event, Packed, Projection, Runtime, command, query

HANDLES: dict[str, Any] = {}


class Called(Event):
    pass


class Caller(Aggregate):
    @command
    def call(self) -> Called:
        HANDLES["other"].call.remote()
        return Called()

    @command(blocking=True)
    def call_blocking(self) -> Called:
        HANDLES["other"].call.remote()
        return Called()

    @command
    def fine(self) -> Called:
        return Called()

    def apply(self, event: Called) -> None:
        pass


class Calls(Projection):
    seen: int = 0

    def apply(self, event: Called) -> None:
        self.seen += 1

    @query
    def call(self) -> int:
        HANDLES["other"].call.remote()
        return self.seen


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    app = App("guard", aggregates=[Caller], projections=[Calls], placement={Caller: Packed()})
    with eventray.run(app, data=tmp_path, local=True) as running:
        HANDLES["other"] = running.get(Caller, "other")
        yield running


@pytest.mark.parametrize("name", ["call", "call_blocking"])
def test_a_command_cannot_send(runtime: Runtime, name: str) -> None:
    with pytest.raises(CommandFailed, match=r"Caller\.call\.remote\(\) inside Caller"):
        getattr(runtime.get(Caller, "a"), name).remote().result()
    assert runtime.get(Caller, "a").fine.remote().result().version == 1


def test_a_query_cannot_send(runtime: Runtime) -> None:
    with pytest.raises(CommandFailed, match=r"inside Calls\.call"):
        runtime.view(Calls).call.remote().result()
