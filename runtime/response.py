"""Response: what `.remote()` gives back at once, and what the engine's thread completes later."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar, cast

T = TypeVar("T")

_lock = threading.Lock()  # shared by all responses: held for a few instructions, so one is cheaper than many


class _Thread(threading.local):
    is_engine = False  # not a set of thread ids: those are given to other threads again
    burst: asyncio.AbstractEventLoop | None = None  # where awaits that ended together go on at this moment


_this_thread = _Thread()


def register_engine_thread() -> None:
    """Remember the calling thread as one that completes responses: waiting in it would wait for ever."""
    _this_thread.is_engine = True


# Awaits that ended together often send their next commands together, too. The engine is woken once for all of these,
# not at the first: else that one would travel alone, and the rest behind it.
_held_back: deque[Callable[[], None]] = deque()


def after_burst(wake: Callable[[], None]) -> None:
    """Call `wake` once the awaits that are going on together in this thread have taken their step; else at once."""
    burst = _this_thread.burst
    if burst is not None and asyncio._get_running_loop() is burst:
        _held_back.append(wake)
    else:
        wake()


def _end_burst() -> None:
    _this_thread.burst = None
    _let_go()


def _let_go() -> None:
    """Wake what was held back: the end of the burst, or somebody waits in a way that may keep its end from coming."""
    while _held_back:
        _held_back.popleft()()


class Response(Generic[T]):
    """The outcome of a call that is on its way.

    `await response`, `response.result(timeout=None)` or `response.future()`: from any thread and any event loop,
    as often as wanted. Cancelling an await, or Ctrl-C in `result`, stops the waiting only: the command goes on.
    """

    __slots__ = ("__weakref__", "_callbacks", "_done", "_error", "_value")

    def __init__(self) -> None:
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] | None = None

    def done(self) -> bool:
        """Whether the outcome is known."""
        if not self._done:
            _let_go()
        return self._done

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome, at most `timeout` seconds.

        Raises:
            TimeoutError: not known yet; only the waiting has stopped.
            RuntimeError: called where the engine itself runs, which would wait for ever.
            EventRayError: what the call ended with.
        """
        if not self._done:
            self._wait(timeout)
        return self._outcome()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait like `result`, and give the error that the call ended with, or None."""
        if not self._done:
            self._wait(timeout)
        return self._error

    def future(self) -> concurrent.futures.Future[T]:
        """The same outcome as a `concurrent.futures.Future`."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        _let_go()

        def finish() -> None:
            if not future.set_running_or_notify_cancel():
                return
            if self._error is not None:
                future.set_exception(self._error)
            else:
                future.set_result(cast(T, self._value))

        self.add_done_callback(finish)
        return future

    def __await__(self) -> Generator[object, None, T]:
        if not self._done:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            waker = _waker(loop)
            self.add_done_callback(lambda: waker.wake(future))
            yield from future
        return self._outcome()

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Run `callback` when the outcome is known (at once if it is), in the thread that completes it."""
        with _lock:
            if not self._done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def set_result(self, value: T) -> None:
        """Complete with a value (the engine's side); later completions are ignored."""
        self._complete(value, None)

    def set_exception(self, error: BaseException) -> None:
        """Complete with an error (the engine's side); later completions are ignored."""
        self._complete(None, error)

    def _complete(self, value: T | None, error: BaseException | None) -> None:
        with _lock:
            if self._done:
                return
            self._value, self._error, self._done = value, error, True
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()

    def _wait(self, timeout: float | None) -> None:
        if _this_thread.is_engine:
            raise RuntimeError("result() inside the engine's own thread would wait for ever: await the response")
        _let_go()
        known = threading.Event()
        self.add_done_callback(known.set)
        if not known.wait(timeout):
            raise TimeoutError(f"no outcome after {timeout} s; the call itself goes on")

    def _outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def __repr__(self) -> str:
        state = "pending" if not self._done else f"failed: {self._error!r}" if self._error else "done"
        return f"<Response {state}>"


class _Waker:
    """Wakes the awaits of one event loop, all that became known in one go with one call into it."""

    __slots__ = ("_loop", "_ready", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._ready: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    def wake(self, future: asyncio.Future[None]) -> None:
        self._ready.append(future)
        if self._scheduled:
            return
        self._scheduled = True
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._scheduled = False  # before the queue is read: whoever appends later schedules again
        woken = 0
        while self._ready:
            future = self._ready.popleft()
            if not future.done():
                future.set_result(None)
                woken += 1
        if woken > 1:
            _this_thread.burst = asyncio.get_running_loop()
            _this_thread.burst.call_soon(_end_burst)  # comes after the steps of all of them


_wakers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waker] = weakref.WeakKeyDictionary()


def _waker(loop: asyncio.AbstractEventLoop) -> _Waker:
    waker = _wakers.get(loop)
    if waker is None:
        waker = _wakers[loop] = _Waker(loop)
    return waker
