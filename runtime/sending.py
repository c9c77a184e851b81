"""SendAll: sends many commands and gives what each came to, in order, keeping a bounded number on the way."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from eventray.domain.errors import EventRayError, Overloaded
from eventray.domain.messages import Command, Receipt
from eventray.runtime.config import Config
from eventray.runtime.response import Response

Send = Callable[[Command], Response[Receipt]]

WINDOW_FIRST = 64
PARTS_OF_TIMEOUT = 8  # what is sent waits about this part of a command's timeout behind what is on the way


class SendAll:
    """One pass over `commands`; `for` or `async for` over it sends them and gives a Receipt or an EventRayError each.

    It paces itself: none ends in `Overloaded`, and slow commands do not wait for each other until they time out. A
    command that cannot be sent at all (wrong arguments) raises its error at its place.
    """

    def __init__(self, send: Send, commands: Iterable[Command], config: Config, progress: bool) -> None:
        self._send = send
        self._commands = commands
        self._config = config
        self._progress = progress

    def __iter__(self) -> Iterator[Receipt | EventRayError]:
        with self._bar() as step:
            sending = _Pass(self._send, self._commands, self._config)
            for wait in sending:
                if isinstance(wait, float):
                    time.sleep(wait)
                else:
                    outcome = _outcome(wait)
                    sending.answered()
                    yield outcome
                    step()

    async def __aiter__(self) -> AsyncIterator[Receipt | EventRayError]:
        with self._bar() as step:
            sending = _Pass(self._send, self._commands, self._config)
            for wait in sending:
                if isinstance(wait, float):
                    await asyncio.sleep(wait)
                else:
                    outcome = await _outcome_async(wait)
                    sending.answered()
                    yield outcome
                    step()

    def _bar(self) -> AbstractContextManager[Any]:
        if not self._progress:
            return nullcontext(lambda: None)
        total = len(self._commands) if isinstance(self._commands, Sized) else None
        return _Bar(total)


class _Pass:
    """Sends the commands, and says what to wait for: the oldest one on the way, or seconds."""

    def __init__(self, send: Send, commands: Iterable[Command], config: Config) -> None:
        self._send = send
        self._commands = commands
        self._most = config.send_all_commands_max
        self._patience_s = config.command_timeout_s / PARTS_OF_TIMEOUT
        self._window = min(WINDOW_FIRST, self._most)
        self._on_the_way: deque[tuple[Response[Receipt], float]] = deque()
        self._sent_at = 0.0
        self._was_done = False

    def __iter__(self) -> Iterator[Response[Receipt] | float]:
        for command in self._commands:
            while (refusal := self._put(command)) is not None:
                if self._on_the_way:  # room for it comes with theirs
                    yield self._oldest()
                else:
                    yield refusal.retry_after_s
            while len(self._on_the_way) >= self._window:
                yield self._oldest()
        while self._on_the_way:
            yield self._oldest()

    def answered(self) -> None:
        """The oldest has its answer: one more on the way for each quick one doubles the window in a turn of it."""
        took_s = 0.0 if self._was_done else time.monotonic() - self._sent_at  # done long ago: only its reader is slow
        if took_s > self._patience_s:
            self._window = max(1, self._window - 1)
        elif took_s < self._patience_s / 2:
            self._window = min(self._most, self._window + 1)

    def _put(self, command: Command) -> Overloaded | None:
        """Send one; the reason when the client's quota does not admit it (nothing later refuses what is patient)."""
        response = self._send(command)
        if response.done() and isinstance(error := response.exception(), Overloaded):
            return error
        self._on_the_way.append((response, time.monotonic()))
        return None

    def _oldest(self) -> Response[Receipt]:
        response, self._sent_at = self._on_the_way.popleft()
        self._was_done = response.done()
        return response


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
