"""A shim between SQLite and the disk: sees every write, truncation, sync, creation and deletion, and may refuse it.

It is a VFS of the very SQLite that `sqlite3` uses, made with ctypes: a copy of the default one whose `xOpen` gives each
file a copy of its methods with ours in it. It is the default VFS only within `watched()`.
"""

from __future__ import annotations

import _sqlite3
import contextlib
import ctypes
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["open", "write", "truncate", "sync", "delete"]

OK = 0
FULL = sqlite3.SQLITE_FULL
IOERR_WRITE = sqlite3.SQLITE_IOERR_WRITE
IOERR_FSYNC = sqlite3.SQLITE_IOERR_FSYNC
CANTOPEN = sqlite3.SQLITE_CANTOPEN
_OPEN_KINDS = 0x100 | 0x800 | 0x80000  # main database, its rollback journal, its WAL


class Op(NamedTuple):
    """One operation on one file.

    `size` is the new length of a truncation; `new`: this opening creates the file; `synced`: and so is the deletion.
    """

    kind: Kind
    path: str
    offset: int = 0
    data: bytes = b""
    size: int = 0
    new: bool = False
    synced: bool = False
    thread: int = 0

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return Path(self.path).name


class Watcher:
    """What looks on: `before` may return another result than OK, which SQLite gets instead of the operation."""

    def before(self, op: Op) -> int:
        """Called before an operation."""
        return OK

    def after(self, op: Op) -> None:
        """Called after an operation that succeeded."""


_OPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_CLOSE = ctypes.CFUNCTYPE(c_int, c_void_p)
_WRITE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_SYNC = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)


class _Methods(ctypes.Structure):
    _fields_ = [
        ("version", c_int),
        ("close", _CLOSE),
        ("read", c_void_p),
        ("write", _WRITE),
        ("truncate", _TRUNCATE),
        ("sync", _SYNC),
        ("others", c_void_p * 13),
    ]


class _File(ctypes.Structure):
    _fields_ = [("methods", POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", c_int),
        ("file_bytes", c_int),
        ("path_bytes_max", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _OPEN),
        ("delete", _DELETE),
        ("others", c_void_p * 14),
    ]


class _Shim:
    """The VFS itself. One for the process, never freed: a connection may outlive the test that opened it."""

    def __init__(self) -> None:
        self.watcher = Watcher()
        self._library = ctypes.CDLL(_sqlite3.__file__)
        self._library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._library.sqlite3_vfs_find.argtypes = [c_char_p]
        self._library.sqlite3_vfs_register.argtypes = [POINTER(_Vfs), c_int]
        self._library.sqlite3_vfs_unregister.argtypes = [POINTER(_Vfs)]
        self._real = self._library.sqlite3_vfs_find(None).contents
        self._vfs = _Vfs.from_buffer_copy(self._real)
        self._vfs.name = b"watched"
        self._vfs.open = _OPEN(self._open)
        self._vfs.delete = _DELETE(self._delete)
        self._patched: dict[int, _Methods] = {}
        self._files: dict[int, tuple[str, _Methods]] = {}

    def register(self) -> None:
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)

    def unregister(self) -> None:
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def _do(self, op: Op, real: Callable[[], int]) -> int:
        op = op._replace(thread=threading.get_ident())
        watcher = self.watcher
        result = watcher.before(op)
        if result == OK:
            result = real()
            if result == OK:
                watcher.after(op)
        return result

    def _open(self, vfs: int, name: int | None, file: int, flags: int, flags_out: int | None) -> int:
        def real() -> int:
            result = self._real.open(vfs, name, file, flags, flags_out)
            if result == OK and path:
                self._watch(path, file)
            return int(result)

        path = ctypes.string_at(name).decode() if name and flags & _OPEN_KINDS else ""
        if not path:
            return real()
        return self._do(Op("open", path, new=not Path(path).exists()), real)

    def _watch(self, path: str, file: int) -> None:
        methods = _File.from_address(file).methods
        address = ctypes.addressof(methods.contents)
        if address not in self._patched:
            patched = _Methods.from_buffer_copy(methods.contents)
            patched.close = _CLOSE(self._close)
            patched.write = _WRITE(self._write)
            patched.truncate = _TRUNCATE(self._truncate)
            patched.sync = _SYNC(self._sync)
            self._patched[address] = patched
        self._files[file] = path, methods.contents
        _File.from_address(file).methods = ctypes.pointer(self._patched[address])

    def _delete(self, vfs: int, name: bytes, sync_directory: int) -> int:
        op = Op("delete", name.decode(), synced=bool(sync_directory))
        return self._do(op, lambda: int(self._real.delete(vfs, name, sync_directory)))

    def _close(self, file: int) -> int:
        _, methods = self._files.pop(file)
        return int(methods.close(file))

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        path, methods = self._files[file]
        op = Op("write", path, offset, ctypes.string_at(data, size))
        return self._do(op, lambda: int(methods.write(file, data, size, offset)))

    def _truncate(self, file: int, size: int) -> int:
        path, methods = self._files[file]
        return self._do(Op("truncate", path, size=size), lambda: int(methods.truncate(file, size)))

    def _sync(self, file: int, flags: int) -> int:
        path, methods = self._files[file]
        return self._do(Op("sync", path), lambda: int(methods.sync(file, flags)))


def _made() -> _Shim | None:
    try:
        return _Shim()
    except AttributeError:
        return None


_shim = _made()
AVAILABLE = _shim is not None
WHY_NOT = "this Python does not export the functions of its SQLite"


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` look on at all files that SQLite opens from now on, one watcher at a time."""
    assert _shim is not None, WHY_NOT
    _shim.watcher = watcher
    _shim.register()
    try:
        yield
    finally:
        _shim.unregister()
        _shim.watcher = Watcher()


class Fault(Watcher):
    """Once started, the `nth` operation of this kind on a file of this name, and all up to `times`, get `result`."""

    def __init__(self, kind: Kind, name: str, result: int) -> None:
        self._kind, self._name, self._result = kind, name, result
        self._skip = self._left = 0
        self.hits = 0

    def start(self, *, nth: int = 1, times: int = 1) -> None:
        self._skip, self._left = nth - 1, times

    def stop(self) -> None:
        self._left = 0

    def before(self, op: Op) -> int:
        if not self._left or op.kind != self._kind or self._name not in ("", op.name):
            return OK
        if self._skip:
            self._skip -= 1
            return OK
        self._left -= 1
        self.hits += 1
        return self._result


class Flaky(Fault):
    """Once started, the first such operation gets `result`, and then by chance one in `nth`."""

    def start(self, *, nth: int = 1, times: int = 1) -> None:
        self._chance, self._nth = random.Random(nth), nth
        super().start()

    def before(self, op: Op) -> int:
        if self._left and self.hits and self._chance.random() * self._nth > 1:
            return OK
        result = super().before(op)
        if result != OK:
            super().start()
        return result
