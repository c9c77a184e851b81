"""EngineLoop: the thread and event loop of a runtime's client side, and the way into it from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

from eventray.domain.errors import AppEnded, EventRayError
from eventray.runtime.lanes import Job
from eventray.runtime.response import Response, after_burst, register_engine_thread
from eventray.runtime.router import Router

T = TypeVar("T")


class EngineLoop:
    """An event loop in a daemon thread of its own; jobs posted in a burst wake it once."""

    def __init__(self, name: str, router: Router) -> None:
        self._name = name
        self.loop = asyncio.new_event_loop()
        self._posted: deque[Job] = deque()
        self._woken = False
        self._router = router
        self._target: Callable[[Any], Hashable] | None = None
        self._refusal: BaseException | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._main, name=f"eventray-{name}", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        register_engine_thread()
        self.loop.run_forever()

    def post(self, job: Job) -> None:
        """Hand a job to the Router, from any thread; it waits until its target can be told.

        What the client's quota does not admit has ended in `Overloaded` when this returns.
        """
        if not self._router.admit(job):
            return
        self._posted.append(job)
        if not self._woken:
            after_burst(self._wake)

    def _wake(self) -> None:
        if self._woken:  # by another thread, or another post of the burst
            return
        self._woken = True
        try:
            self.loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop is closed
            self._woken = False
            while self._posted:
                self._posted.popleft().fail(self._refusal or AppEnded(self._name))

    def open(self, target: Callable[[Any], Hashable]) -> None:
        """Begin to hand over jobs (in the loop); `target` says where each goes."""
        self._target = target
        self._drain()

    def refuse(self, error: BaseException) -> None:
        """Fail what was posted and will be (in the loop)."""
        self._refusal = error
        self._drain()

    def spawn(self, work: Coroutine[Any, Any, T]) -> Response[T]:
        """Run a coroutine in the loop, from any thread."""
        response: Response[T] = Response()

        async def run() -> None:
            try:
                response.set_result(await work)
            except asyncio.CancelledError:
                response.set_exception(self._refusal or AppEnded(self._name))
                raise
            except Exception as error:
                response.set_exception(error)

        def start() -> None:
            task = self.loop.create_task(run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        try:
            self.loop.call_soon_threadsafe(start)
        except RuntimeError:  # the loop is closed
            work.close()
            response.set_exception(self._refusal or AppEnded(self._name))
        return response

    def close(self) -> None:
        """End the loop and its thread, from any other thread."""
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join()
        self.loop.close()

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()

        async def stop() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            self.loop.stop()

        self._stopper = self.loop.create_task(stop())

    def _drain(self) -> None:
        self._woken = False  # before the queue is read: whoever posts later wakes again
        if self._refusal is not None:
            while self._posted:
                self._end(self._posted.popleft(), self._refusal)
            return
        while self._posted and self._target is not None:
            job = self._posted.popleft()
            try:
                target = self._target(job)
            except EventRayError as error:
                self._end(job, error)
            else:
                self._router.put(target, job)
        self._router.flush()

    def _end(self, job: Job, error: BaseException) -> None:
        self._router.landed([job])
        job.fail(error)
