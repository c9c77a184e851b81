"""Power cuts: what a run wrote and synced is recorded, and from that the disks that a cut may have left are built.

The model is that of a disk that promises what it must and nothing else. What was written before the last completed
sync of its file is there. Each later write is there, lost, or torn between sectors, whatever became of the others; a
file that was made, renamed, deleted or cut may be as before until its folder (or, for a cut, the file) is synced.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from tests.store import vfs
from tests.store.workload import Told

SECTOR_BYTES = 512
Fate = Literal["lost", "kept", "in order", "any"]
Kind = Literal["make", "write", "cut", "sync", "failed", "remove", "rename", "sync folder", "begun", "told"]


class Event(NamedTuple):
    """One thing that happened. Files are numbers, so that a name may be given to one after another."""

    kind: Kind
    file: int = 0
    name: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""
    facts: tuple[Any, ...] = ()


class Recorder(vfs.Watcher):
    """Records what SQLite (as its VFS) and what eventray itself (through `os`) do below `root`, and what is told.

    `fault` may refuse operations of SQLite; after a refused sync nothing written before it is ever certain.
    """

    def __init__(self, root: Path, fault: vfs.Watcher | None = None) -> None:
        self.events: list[Event] = []
        self._root = root
        self._fault = fault or vfs.Watcher()
        self._files: dict[str, int] = {}
        self._made = 0
        self._fresh: set[int] = set()
        self._descriptors: dict[int, str] = {}
        for path in sorted(root.rglob("*")):
            if name := self._name(path):
                self._make(name)
                if path.is_file():
                    self._add("write", name, data=path.read_bytes())
                    self._add("sync", name)
                self.events.append(Event("sync folder", name=str(Path(name).parent)))
        self.events.append(Event("begun"))  # what is before was on the disk already

    def tell(self, *facts: Any) -> None:
        self.events.append(Event("told", facts=facts))

    def _name(self, path: str | Path) -> str:
        path = Path(path)
        known = path.is_relative_to(self._root) and path.suffix != ".lock"
        return str(path.relative_to(self._root)) if known else ""

    def _make(self, name: str) -> int:
        self._made += 1
        self._files[name] = self._made
        self.events.append(Event("make", self._made, name))
        return self._made

    def _add(self, kind: Kind, name: str, **facts: Any) -> None:
        self.events.append(Event(kind, self._files[name], name, **facts))

    # SQLite

    def before(self, op: vfs.Op) -> int:
        result = self._fault.before(op)
        name = self._name(op.path)
        if result == vfs.OK and op.kind == "open" and op.new and name:
            self._fresh.add(self._make(name))
        if result != vfs.OK and op.kind == "sync":
            self._add("failed", name)
        return result

    def after(self, op: vfs.Op) -> None:
        name = self._name(op.path)
        if not name:
            return
        if op.kind == "write":
            self._add("write", name, offset=op.offset, data=op.data)
        elif op.kind == "truncate":
            self._add("cut", name, offset=op.size)
        elif op.kind == "sync":
            self._add("sync", name)
            if self._files[name] in self._fresh:  # SQLite syncs the folder with a new journal or WAL
                self._fresh.remove(self._files[name])
                self.events.append(Event("sync folder", name=str(Path(name).parent)))
        elif op.kind == "delete":
            self._remove(name)
            if op.synced:
                self.events.append(Event("sync folder", name=str(Path(name).parent)))

    def _remove(self, name: str) -> None:
        self._add("remove", name)
        del self._files[name]

    # eventray itself

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Record all that happens within."""
        with pytest.MonkeyPatch.context() as patch, vfs.watched(self):
            for name, watched in self._watched_calls().items():
                patch.setattr(os, name, watched)
            yield

    def _watched_calls(self) -> dict[str, Callable[..., Any]]:
        opens, closes, writes, syncs = os.open, os.close, os.pwrite, os.fsync
        replaces, unlinks, makes = os.replace, os.unlink, os.mkdir

        def open_(path: Any, flags: int, *args: Any, **options: Any) -> int:
            name = self._name(path)
            new = name and not Path(path).exists()
            fd = opens(path, flags, *args, **options)
            if new:
                self._make(name)
            if name:
                self._descriptors[fd] = name
            return fd

        def close(fd: int) -> None:
            self._descriptors.pop(fd, None)
            closes(fd)

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            if fd in self._descriptors:
                self._add("write", self._descriptors[fd], offset=offset, data=data)
            return writes(fd, data, offset)

        def fsync(fd: int) -> None:
            syncs(fd)
            name = self._descriptors.get(fd, "")
            if (self._root / name).is_dir():
                self.events.append(Event("sync folder", name=name))
            elif name:
                self._catch_up(name)
                self._add("sync", name)

        def replace(source: Path, target: Path) -> None:
            self._catch_up(self._name(source))
            replaces(source, target)
            old, new = self._name(source), self._name(target)
            self._files[new] = self._files.pop(old)
            self._add("rename", new, other=old)

        def unlink(path: Path, **options: Any) -> None:
            unlinks(path, **options)
            if self._name(path) in self._files:
                self._remove(self._name(path))

        def mkdir(path: Path, *args: Any, **options: Any) -> None:
            makes(path, *args, **options)
            if self._name(path):
                self._make(self._name(path))

        return {
            "open": open_,
            "close": close,
            "pwrite": pwrite,
            "fsync": fsync,
            "replace": replace,
            "unlink": unlink,
            "mkdir": mkdir,
        }

    def _catch_up(self, name: str) -> None:
        """Record the content of a file that is written through a file object, not by `pwrite`."""
        if name.endswith(".tmp"):
            self._add("write", name, data=(self._root / name).read_bytes())


class Disk:
    """The disks that a cut after the first `cut` events may leave."""

    def __init__(self, events: list[Event], cut: int) -> None:
        self._events = events[:cut]
        self.told = Told()
        for event in self._events:
            if event.kind == "told":
                self.told.tell(*event.facts)
        self._certain = self._find_certain()

    def _find_certain(self) -> set[int]:
        """Return which events the disk has promised to keep."""
        certain: set[int] = set()
        waiting: dict[int | str, list[int]] = {}
        for number, event in enumerate(self._events):
            folder = str(Path(event.name).parent)
            if event.kind in ("write", "cut"):
                waiting.setdefault(event.file, []).append(number)
            elif event.kind in ("make", "remove", "rename"):
                waiting.setdefault(folder, []).append(number)
            elif event.kind == "sync":
                certain.update(waiting.pop(event.file, ()))
            elif event.kind == "sync folder":
                certain.update(waiting.pop(event.name, ()))
            elif event.kind == "failed":
                waiting.pop(event.file, None)
        return certain

    def write_to(self, target: Path, fate: Fate, seed: int = 0) -> None:
        """Write one such disk.

        All that is not certain is `lost`, or `kept`, or kept `in order` up to some point of each file, or any of it is.
        """
        chance = random.Random(seed)
        names: dict[str, int] = {}
        contents: dict[int, bytearray] = {}
        kept = self._kept(fate, chance)
        for number, event in enumerate(self._events):
            sure = number in self._certain
            if event.kind in ("make", "remove", "rename") and (sure or number in kept):
                _relink(names, event)
            elif event.kind == "cut" and (sure or number in kept):
                del contents.setdefault(event.file, bytearray())[event.offset :]
            elif event.kind == "write":
                content = contents.setdefault(event.file, bytearray())
                for offset, data in _parts(event, sure or number in kept, not sure and fate == "any", chance):
                    content.extend(bytes(max(0, offset - len(content))))
                    content[offset : offset + len(data)] = data
        _write(target, names, contents)

    def _kept(self, fate: Fate, chance: random.Random) -> set[int]:
        """Return which of the events that are not certain have happened, whole."""
        groups: dict[int | str, list[int]] = {}
        for number, event in enumerate(self._events):
            if number not in self._certain:
                of_folder = event.kind in ("make", "remove", "rename")
                groups.setdefault(str(Path(event.name).parent) if of_folder else event.file, []).append(number)
        numbers = [number for group in groups.values() for number in group]
        if fate == "kept":
            return set(numbers)
        if fate == "in order":
            return {number for group in groups.values() for number in group[: chance.randint(0, len(group))]}
        return {number for number in numbers if fate == "any" and chance.random() < 0.5}


def _write(target: Path, names: dict[str, int], contents: dict[int, bytearray]) -> None:
    target.mkdir(parents=True)
    for name in sorted(names):
        path = target / name
        if path.suffix:
            if path.parent.exists():
                path.write_bytes(contents.get(names[name], b""))
        else:
            path.mkdir()


def _relink(names: dict[str, int], event: Event) -> None:
    if event.kind == "remove":
        names.pop(event.name, None)
        return
    names[event.name] = event.file
    if event.kind == "rename":
        names.pop(event.other, None)


def _parts(event: Event, whole: bool, torn: bool, chance: random.Random) -> Iterator[tuple[int, bytes]]:
    """Yield what of a write reached the disk."""
    if not torn or chance.random() < 0.6:
        if whole:
            yield event.offset, event.data
        return
    at, end = event.offset, event.offset + len(event.data)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if chance.random() < 0.5:
            yield at, event.data[at - event.offset : until - event.offset]
        at = until
