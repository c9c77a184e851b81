"""That a side syncs each commit is seen, not assumed: by its settings, or by what its threads are doing."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = 2
TRIES = 100
_SYNCS = {"x86_64": {"74", "75"}, "aarch64": {"82", "83"}}  # the numbers of fsync and fdatasync
LOOK_EVERY_S = 0.0001


def require_full(synchronous: object) -> None:
    """Fail unless a connection syncs each commit, as a figure in these tables promises."""
    assert synchronous == FULL, f"PRAGMA synchronous is {synchronous}: the figure would be of another durability"


def require_syncs(pids: Collection[int], write: Callable[[], object]) -> None:
    """Write, again and again, until each process has been seen waiting for the disk; fail if one never is."""
    with _watching(pids) as unseen:
        for _ in range(TRIES):
            write()
            if not unseen:
                return
    raise AssertionError(
        f"processes {sorted(unseen)} were never seen in fsync: the figure would be of another durability"
    )


@contextmanager
def _watching(pids: Collection[int]) -> Iterator[set[int]]:
    """Give the processes that have not been seen in fsync or fdatasync yet."""
    syncs, unseen, over = _SYNCS[platform.machine()], set(pids), threading.Event()

    def look() -> None:
        while unseen and not over.wait(LOOK_EVERY_S):
            unseen.difference_update([pid for pid in unseen if _calls(pid) & syncs])

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield unseen
    finally:
        over.set()
        looking.join()


def _calls(pid: int) -> set[str]:
    """The system calls that the threads of a process are in."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            found.add((thread / "syscall").read_text().partition(" ")[0])
        except (ProcessLookupError, FileNotFoundError):  # it has ended
            continue
    return found
