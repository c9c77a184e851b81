"""Quota: how many items and bytes may be under way somewhere. What is above is refused at once."""

from __future__ import annotations

import threading
from collections import Counter

from eventray.domain.errors import Overloaded

RETRY_AFTER_S = 0.05


class Quota:
    """Counts what was admitted and has not left; used from any thread.

    It is full when it holds a limit, so that one item always fits, however large; and once it has refused an item it
    refuses all later ones until something leaves: no later item of an instance passes an earlier one.

    Args:
        where: what an `Overloaded` names.
    """

    def __init__(self, where: str, items_max: int, bytes_max: int) -> None:
        self._where = where
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._items = 0
        self._bytes = 0
        self._gone = self._gone_bytes = 0
        self.refused: Counter[str] = Counter()  # by whatever the user of this counts them by
        self._lock = threading.Lock()

    @property
    def items(self) -> int:
        """How many are under way."""
        return self._items - self._gone

    def admit(self, size: int) -> Overloaded | None:
        """Count an item of `size` bytes in; or the reason why not."""
        with self._lock:
            self._count_gone()
            if self._items >= self._items_max:
                return Overloaded(self._where, self._items_max, "commands and queries", RETRY_AFTER_S)
            if self._bytes >= self._bytes_max:
                return Overloaded(self._where, self._bytes_max, "bytes of arguments", RETRY_AFTER_S)
            self._items += 1
            self._bytes += size
            return None

    def admit_all(self, items: int, size: int) -> bool:
        """Count so many items of `size` bytes in, if none of them has to be refused; gives whether."""
        with self._lock:
            self._count_gone()
            fit = self._items + items <= self._items_max and self._bytes + size <= self._bytes_max
            if fit:
                self._items += items
                self._bytes += size
            return fit

    def let_go(self, size: int) -> None:
        """One item's `leave`, for the one thread that admits: counted with the next admission, to save a lock each."""
        self._gone += 1
        self._gone_bytes += size

    def _count_gone(self) -> None:
        if self._gone:
            self._items -= self._gone
            self._bytes -= self._gone_bytes
            self._gone = self._gone_bytes = 0

    def leave(self, items: int, size: int) -> None:
        """The end of so many items, of `size` bytes together."""
        with self._lock:
            self._items -= items
            self._bytes -= size
