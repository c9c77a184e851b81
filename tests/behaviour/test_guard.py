"""Domain code sends nothing, to no instance, its own included: it raises at once, so nobody waits for ever."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import eventray
from eventray import Aggregate, App, CommandFailed, Dedicated, Event, Packed, Projection, Runtime, command, query
from eventray.runtime.remote import pickled


class Called(Event):
    pass


class CalledInApply(Event):
    handle: bytes


def call(handle: bytes) -> None:
    """What domain code must not do, by all means that it may have."""
    pickle.loads(handle).fine.remote().result()


class Caller(Aggregate):
    @command
    def call(self, handle: bytes) -> Called:
        call(handle)
        return Called()

    @command(blocking=True)
    def call_blocking(self, handle: bytes) -> Called:
        call(handle)
        return Called()

    @command
    def call_in_apply(self, handle: bytes) -> CalledInApply:
        return CalledInApply(handle)

    @command
    def fine(self) -> Called:
        return Called()

    def apply(self, event: Called | CalledInApply) -> None:
        if isinstance(event, CalledInApply):
            call(event.handle)


class Calls(Projection):
    seen: int = 0

    def apply(self, event: Called) -> None:
        self.seen += 1

    @query
    def call(self, handle: bytes) -> int:
        call(handle)
        return self.seen


@pytest.fixture(scope="module")
def callers(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    where = Dedicated(max_active=4) if placement == "dedicated" else Packed()
    app = App(f"guard-{placement}", aggregates=[Caller], projections=[Calls], placement={Caller: where})
    data = tmp_path_factory.mktemp("guard")
    with eventray.run(app, data=data, shards=1, local=placement == "local") as running:
        yield running


@pytest.mark.parametrize("name", ["call", "call_blocking", "call_in_apply"])
@pytest.mark.parametrize("callee", ["itself", "another"])
def test_a_command_that_calls_is_refused_at_once_and_its_instance_goes_on(
    callers: Runtime, name: str, callee: str
) -> None:
    id = uuid.uuid4().hex
    handle = pickled(callers.get(Caller, id if callee == "itself" else "another"))
    caller: Any = callers.get(Caller, id)
    with pytest.raises(CommandFailed, match=r"inside Caller.*are pure"):
        getattr(caller, name).remote(handle).result()
    assert caller.fine.remote().result().version == 1


def test_a_query_that_calls_is_refused_at_once(callers: Runtime) -> None:
    with pytest.raises(CommandFailed, match=r"inside Calls\.call: .*are pure"):
        callers.view(Calls).call.remote(pickled(callers.get(Caller, "another"))).result()
