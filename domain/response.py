"""What `.remote()` returns, as a type: the engine has its own class for it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Response(Protocol[T]):
    """The outcome of a call that is on its way: `await` it, or ask for its `result()`."""

    def __await__(self) -> Generator[Any, None, T]: ...

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome, at most `timeout` seconds.

        Raises:
            TimeoutError: not known yet; only the waiting has stopped.
            EventRayError: what the call ended with.
        """
        ...

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait like `result`, and give the error that the call ended with, or None."""
        ...

    def done(self) -> bool:
        """Whether the outcome is known."""
        ...

    def future(self) -> Future[T]:
        """The same outcome as a `concurrent.futures.Future`."""
        ...


class Answer(Response[T], Protocol[T]):
    """The outcome of a query that is on its way."""

    @property
    def positions(self) -> Mapping[int, int]:
        """Up to which position of each shard its view had applied the log; of several partitions the least.

        Raises:
            RuntimeError: the answer is not there yet, or it is an error.
        """
        ...
