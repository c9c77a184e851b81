"""Response: one outcome, asked for in any way, from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from eventray.runtime.jobs import CommandIds
from eventray.runtime.response import Response, after_burst, register_engine_thread


async def test_many_awaits_and_results_see_one_outcome() -> None:
    response: Response[int] = Response()
    awaits = [asyncio.ensure_future(asyncio.wait_for(_wait(response), 30)) for _ in range(20)]
    future = response.future()
    await asyncio.sleep(0)
    thread = threading.Thread(target=response.set_result, args=(5,))
    thread.start()
    assert await asyncio.gather(*awaits) == [5] * 20
    assert (response.result(), future.result(), response.done()) == (5, 5, True)
    thread.join()


async def test_awaits_that_go_on_together_wake_an_engine_once_all_have_taken_their_step() -> None:
    answered: Response[int] = Response()
    steps: list[str] = []

    async def caller(name: str) -> None:
        await answered
        after_burst(lambda: steps.append("wakes"))
        steps.append(name)

    callers = [asyncio.ensure_future(caller(name)) for name in "abc"]
    await asyncio.sleep(0)
    answered.set_result(1)
    await asyncio.gather(*callers)
    await asyncio.sleep(0)
    assert steps == ["a", "b", "c", "wakes", "wakes", "wakes"]
    after_burst(lambda: steps.append("at once"))
    assert steps[-1] == "at once"


@pytest.mark.parametrize("wait", [lambda r: r.result(0.0), lambda r: r.exception(0.0), Response.done, Response.future])
async def test_a_step_that_waits_for_what_it_sends_is_not_held_back(wait: Callable[[Response[int]], Any]) -> None:
    answered: Response[int] = Response()
    sent: Response[int] = Response()

    async def caller(*, waits: bool) -> None:
        await answered
        if waits:
            after_burst(lambda: sent.set_result(5))  # an engine that is woken
            wait(sent)
            assert sent.result(0.0) == 5

    callers = [asyncio.ensure_future(caller(waits=waits)) for waits in (True, False)]
    await asyncio.sleep(0)
    answered.set_result(1)
    await asyncio.gather(*callers)


async def _wait(response: Response[int]) -> int:
    return await response


def test_the_first_completion_counts() -> None:
    response: Response[int] = Response()
    response.set_exception(KeyError("first"))
    response.set_result(1)
    with pytest.raises(KeyError):
        response.result()
    assert isinstance(response.exception(), KeyError)


def test_command_ids_are_uuids_of_version_7_that_rise() -> None:
    import uuid

    ids = CommandIds()
    made = [ids.make() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {uuid.UUID(id).version for id in made[:100]} == {7}
    assert {uuid.UUID(id).variant for id in made[:100]} == {uuid.RFC_4122}


def test_a_thread_that_follows_one_of_an_engine_may_wait() -> None:
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            Response[int]().result(timeout=0.001)
        except (RuntimeError, TimeoutError) as error:
            caught.append(error)

    for work in [register_engine_thread, wait] * 5:  # the system gives the number of a thread that ended to the next
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [type(error) for error in caught] == [TimeoutError] * 5


def test_a_thread_of_an_engine_is_refused_to_wait() -> None:
    caught: list[BaseException] = []

    def wait() -> None:
        register_engine_thread()
        try:
            Response[int]().result(timeout=0.001)
        except (RuntimeError, TimeoutError) as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert [type(error) for error in caught] == [RuntimeError]
