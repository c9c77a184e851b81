"""Files and directories on disk: replaced whole, synced, locked for a moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that, whatever happens, the old or the new content is there; OSError when neither can be done."""
    temporary = path.with_suffix(".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file's content, or a directory's list of names, on disk before this returns; OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_back(fd: int) -> None:
    """Begin to put what was written to a file on disk, and let it go from memory: a `sync` has little left to do then.

    The kernel may be told so on Linux only; elsewhere this does nothing.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def manifest_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of whoever changes a store's manifest. It is held for milliseconds, so waiting is right."""
    fd = os.open(directory / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make a private directory with those that it lies in, none of which a power cut takes away again; OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in missing[1:]:
        sync(folder.absolute().parent)


def make_empty_directory(path: Path) -> None:
    """Make a private directory, or take one that is there and empty; FileExistsError when it holds anything."""
    make_directory(path)
    sync(path.absolute().parent)
    if next(path.iterdir(), None) is not None:
        raise FileExistsError(f"{path} is not empty: give a new or an empty directory")
