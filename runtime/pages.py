"""Pages: something long that is fetched page by page, for `for` and for `async for`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from eventray.runtime.response import Response

T = TypeVar("T")

Fetch = Callable[[int], Response[tuple[Sequence[T], int | None]]]


class Pages(Generic[T]):
    """Iterates in both ways over what `fetch(cursor)` gives: items, and the next cursor or None at the end."""

    def __init__(self, fetch: Fetch[T], start: int) -> None:
        self._fetch = fetch
        self._start = start

    def __iter__(self) -> Iterator[T]:
        cursor: int | None = self._start
        while cursor is not None:
            items, cursor = self._fetch(cursor).result()
            yield from items

    async def __aiter__(self) -> AsyncIterator[T]:
        cursor: int | None = self._start
        while cursor is not None:
            items, cursor = await self._fetch(cursor)
            for item in items:
                yield item
