"""Response: one outcome, asked for in any way, from any thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from eventray.runtime.jobs import CommandIds
from eventray.runtime.response import Response, register_engine_thread


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
