"""Calls to actors that neither arrive nor fail, as Ray loses one now and then: they end, and are made again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError

from eventray.runtime import remote, transport_ray
from eventray.runtime.channel import TargetLost
from eventray.runtime.config import POLL_MOST_S, Config
from eventray.runtime.remote import LOST_S, call, call_patiently, call_to_the_end, is_gone
from eventray.runtime.transport_ray import RayTransport


class Method:
    """An actor's method: loses its first calls, and answers the others."""

    def __init__(self, lost: float) -> None:
        self._lost = lost
        self.calls: list[tuple[Any, ...]] = []
        self.called_often = asyncio.Event()

    def remote(self, *args: Any) -> asyncio.Future[tuple[bool, Any]]:
        self.calls.append(args)
        if len(self.calls) == 5:
            self.called_often.set()
        answer: asyncio.Future[tuple[bool, Any]] = asyncio.get_running_loop().create_future()
        if len(self.calls) > self._lost:
            answer.set_result((True, "answer"))
        return answer


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LOST_S", 0.01)
    monkeypatch.setattr(transport_ray, "RENEW_LEASE_S", 0.01)


async def test_a_lost_call_counts_as_a_lost_target() -> None:
    with pytest.raises(TargetLost, match="no answer"):
        await call(Method(lost=1))


async def test_a_lost_call_that_may_run_twice_is_made_again() -> None:
    method = Method(lost=2)
    assert await call_patiently(method) == "answer"
    assert len(method.calls) == 3


async def test_what_may_take_long_is_waited_for_as_long_as_the_actor_lives() -> None:
    class Slow(Method):
        def remote(self, *args: Any) -> asyncio.Future[tuple[bool, Any]]:
            answer = super().remote(*args)

            def come() -> None:
                if not answer.done():
                    answer.set_result((True, "late"))

            asyncio.get_running_loop().call_later(5 * remote.LOST_S, come)
            return answer

    assert await call_to_the_end(Slow(lost=1)) == "late"
    with pytest.raises(TargetLost):
        await call(Slow(lost=1))


def test_no_call_is_meant_to_take_as_long_as_one_that_is_lost() -> None:
    assert LOST_S > POLL_MOST_S
    with pytest.raises(ValueError, match="poll_s"):
        Config(poll_s=POLL_MOST_S + 1)


async def test_the_lease_is_renewed_also_when_the_call_that_holds_it_is_lost() -> None:
    class Directory:
        hold = Method(lost=float("inf"))
        lease = Method(lost=1)

    transport = RayTransport.joining("app", Config())
    transport._directory = Directory()
    holding = asyncio.create_task(transport._hold_lease())
    await Directory.lease.called_often.wait()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    held = [args[0][0] for args in Directory.lease.calls]
    assert held[-1] is held[-2]


@pytest.mark.parametrize(
    ("error", "gone"), [(ValueError("no such actor"), True), (GetTimeoutError("the GCS does not answer"), False)]
)
def test_a_ray_that_is_too_busy_to_say_does_not_mean_that_an_app_has_ended(
    monkeypatch: pytest.MonkeyPatch, error: Exception, gone: bool
) -> None:
    def get_actor(name: str, namespace: str) -> None:
        raise error

    monkeypatch.setattr(ray, "get_actor", get_actor)
    assert is_gone("directory", "app") is gone
