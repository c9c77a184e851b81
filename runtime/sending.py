"""SendAll: sends many commands and gives what each came to, in order, keeping a bounded number on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from eventray.domain.errors import EventRayError
from eventray.domain.messages import Command, Receipt
from eventray.runtime.response import Response


class _Runtime(Protocol):
    def send(self, command: Command) -> Response[Receipt]: ...


class SendAll:
    """One pass over `commands`; `for` or `async for` over it sends them and gives a Receipt or an EventRayError each.

    A command that cannot be sent at all (wrong arguments) raises its error at its place.
    """

    def __init__(self, runtime: _Runtime, commands: Iterable[Command], window: int, progress: bool) -> None:
        self._runtime = runtime
        self._commands = commands
        self._window = window
        self._progress = progress

    def __iter__(self) -> Iterator[Receipt | EventRayError]:
        with self._bar() as step:
            on_the_way: deque[Response[Receipt]] = deque()
            for command in self._commands:
                on_the_way.append(self._runtime.send(command))
                if len(on_the_way) >= self._window:
                    yield _outcome(on_the_way.popleft())
                    step()
            while on_the_way:
                yield _outcome(on_the_way.popleft())
                step()

    async def __aiter__(self) -> AsyncIterator[Receipt | EventRayError]:
        with self._bar() as step:
            on_the_way: deque[Response[Receipt]] = deque()
            for command in self._commands:
                on_the_way.append(self._runtime.send(command))
                if len(on_the_way) >= self._window:
                    yield await _outcome_async(on_the_way.popleft())
                    step()
            while on_the_way:
                yield await _outcome_async(on_the_way.popleft())
                step()

    def _bar(self) -> AbstractContextManager[Any]:
        if not self._progress:
            return nullcontext(lambda: None)
        total = len(self._commands) if isinstance(self._commands, Sized) else None
        return _Bar(total)


def _outcome(response: Response[Receipt]) -> Receipt | EventRayError:
    try:
        return response.result()
    except EventRayError as error:
        return error


async def _outcome_async(response: Response[Receipt]) -> Receipt | EventRayError:
    try:
        return await response
    except EventRayError as error:
        return error


class _Bar:
    """A progress bar on the error stream."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("commands"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Any:
        self._progress.start()
        return lambda: self._progress.advance(self._task)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
