"""One holder per file: an advisory lock that names its holder and is free as soon as that process is gone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from eventray.domain.errors import StoreLocked
from eventray.store.failures import translated
from eventray.store.moving import shard_file

_POLL_S = 0.005
_TAKE_OVER_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock; `started` tells it from a later one with the same pid."""

    run: str
    host: str
    boot: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"run {self.run} (process {self.pid} on {self.host})"


def boot_id() -> str:
    """Return what tells this boot of the machine from others, empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def started_at(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty when it is gone or the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # the name before it may hold spaces and parentheses


def this_process(run: str) -> Holder:
    """Return this process as a holder."""
    return Holder(run, socket.gethostname(), boot_id(), os.getpid(), started_at(os.getpid()))


class FileLock:
    """An exclusive lock on a file of its own, which is never deleted (a deleted one could be locked twice)."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path, run: str, *, timeout_s: float = _TAKE_OVER_TIMEOUT_S) -> FileLock:
        """Take the lock for `run`. Blocks: call it in a thread.

        Held by another run: `StoreLocked`, at once. Held by the same run on this host: that process is a leftover
        (frozen, or cut off from Ray), is killed, and the lock is ours once it is gone (`StoreLocked` after
        `timeout_s` seconds).
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise translated(error, path) from error
        try:
            _wait(fd, path, this_process(run), time.monotonic() + timeout_s)
            raw = json.dumps(asdict(this_process(run))).encode()
            os.ftruncate(fd, 0)
            os.pwrite(fd, raw, 0)
        except OSError as error:
            os.close(fd)
            raise translated(error, path) from error
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    def release(self) -> None:
        """Let the lock go; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextlib.contextmanager
def whole_store(directory: Path, shards: int, run: str) -> Iterator[None]:
    """Hold for `run` what anyone who opens a store of so many shards would need; `StoreLocked`. Blocks as `acquire`."""
    names = ["views.lock", *(shard_file(index, "lock") for index in range(shards))]
    with contextlib.ExitStack() as held:
        for name in names:
            held.callback(FileLock.acquire(directory / name, run).release)
        yield


def holder_of(path: Path) -> str:
    """Return who holds the lock of that file at this moment, without touching it; empty: nobody."""
    try:
        inode = f":{path.stat().st_ino}"
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if not any(fields[1] == "FLOCK" and fields[5].endswith(inode) for fields in held if "->" not in fields):
            return ""
        return str(Holder(**json.loads(path.read_bytes())))
    except OSError:
        return ""
    except (ValueError, TypeError):
        return "a process that has not said its name"


def _wait(fd: int, path: Path, us: Holder, deadline: float) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = _holder(fd, us)
        late = time.monotonic() > deadline
        if holder is not None and (late or not _is_leftover(holder, us)):
            raise StoreLocked(str(path), str(holder))
        if late:
            raise StoreLocked(str(path), "a process that has not said its name")
        if holder is not None:
            _kill(holder)
        time.sleep(_POLL_S)


def _holder(fd: int, us: Holder) -> Holder | None:
    # None while a new holder is between locking and writing its name (empty, or a dead one's): the caller looks again.
    try:
        holder = Holder(**json.loads(os.pread(fd, 4096, 0)))
    except (ValueError, TypeError):
        return None
    here = holder.started and (holder.host, holder.boot) == (us.host, us.boot)
    return None if here and started_at(holder.pid) != holder.started else holder


def _is_leftover(holder: Holder, us: Holder) -> bool:
    same_place = (holder.run, holder.host, holder.boot) == (us.run, us.host, us.boot)
    return same_place and holder.pid != us.pid and bool(holder.boot) and bool(holder.started)


def _kill(holder: Holder) -> None:
    # A pidfd pins the process, so that a pid that is used again between check and kill cannot be hit.
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(holder.pid)
        try:
            if started_at(holder.pid) == holder.started:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
