"""Layers of the engine, and a stopwatch that says how much processor time a process's threads spend in each.

It hooks every call (`sys.setprofile`): that is slow, so what each call of the hook costs is measured and taken off, and
only shares are made of the rest.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

CALLER = "caller and app"
LAYERS = (CALLER, "client", "Router", "Ray", "asyncio and threads", "Activation", "codec", "store", "SQLite")
WRITE_EVERY_S = 0.2
CALLS_TO_CALIBRATE = 200_000

HOOKED = "hooked threads"  # all that they spent, the hook itself too
Spent = dict[str, tuple[float, int]]  # by layer: seconds, and events of the hook

_CLIENT = {"client", "handles", "response", "session", "sending", "loop", "guard"}
_ROUTER = {
    *("router", "link", "lanes", "flights", "quota", "channel", "calls", "wire", "inbox", "answering", "gate", "room"),
    *("transport", "transport_local", "transport_ray", "remote", "watching", "wire_shard"),
    *("front", "shell", "shell_shard", "shell_activation", "shell_view"),
}
_CODEC = {"codec", "compile", "fit", "scalars"}
_PLACES = (
    ("/ray/", "Ray"),
    ("/aiosqlite/", "SQLite"),
    ("/msgpack/", "codec"),
    ("/msgspec/", "codec"),
    ("/benchmarks/", CALLER),
    ("/asyncio/", "asyncio and threads"),
    ("/concurrent/", "asyncio and threads"),
    ("/selectors.py", "asyncio and threads"),
    ("/threading.py", "asyncio and threads"),
    ("/queue.py", "asyncio and threads"),
)


class Stopwatch:
    """Hooks the threads that start after `start()`, and the one that calls it."""

    def __init__(self) -> None:
        self._threads: list[Spent] = []

    def start(self) -> None:
        """Begin."""
        threading.setprofile(self._begin)
        self._begin()

    def spent(self) -> Spent:
        """Return what was spent so far."""
        return added([dict(thread) for thread in list(self._threads)])

    def _begin(self, *_: Any) -> None:
        self._threads.append({})
        sys.setprofile(_hook(self._threads[-1]))


def _hook(spent: Spent) -> Callable[[FrameType, str, Any], None]:
    clock, stack = time.thread_time, [CALLER]
    last = begun = clock()

    def hook(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal last
        now = clock()
        layer = stack[-1]
        seconds, events = spent.get(layer, (0.0, 0))
        spent[layer] = (seconds + now - last, events + 1)
        if event == "call":
            stack.append(_of_file(frame.f_code.co_filename) or layer)
        elif event == "c_call":
            stack.append(_of_owner(arg.__self__) or layer)
        elif len(stack) > 1:
            stack.pop()
        spent[HOOKED] = (now - begun, 0)
        last = clock()

    return hook


def added(parts: Sequence[Spent]) -> Spent:
    """Return the sums."""
    found: Spent = {}
    for part in parts:
        for layer, (seconds, events) in part.items():
            before = found.get(layer, (0.0, 0))
            found[layer] = (before[0] + seconds, before[1] + events)
    return found


_files: dict[str, str | None] = {}
_owners: dict[object, str | None] = {}


def _of_file(name: str) -> str | None:
    """The layer of a file; None: that of whoever calls it."""
    if name not in _files:
        _files[name] = layer_of(name)
    return _files[name]


def layer_of(file: str) -> str | None:
    """Return the layer of a file; None: it has none, and counts as what calls it."""
    path = Path(file)
    part = f"/{path.parent.name}/"
    if "/eventray/" in file or part in ("/runtime/", "/store/", "/domain/"):
        if part == "/runtime/":
            return "client" if path.stem in _CLIENT else "Router" if path.stem in _ROUTER else "Activation"
        return ("codec" if path.stem in _CODEC else "store") if part == "/store/" else "Activation"
    return next((layer for place, layer in _PLACES if place in file), None)


def _of_owner(owner: object) -> str | None:
    """The layer of what a built-in function belongs to: a module, or an instance of a class."""
    key = owner.__name__ if isinstance(owner, ModuleType) else type(owner)
    if key not in _owners:
        _owners[key] = _of_built_in(key)
    return _owners[key]


def _of_built_in(key: str | type) -> str | None:
    if isinstance(key, type) and issubclass(key, sqlite3.Connection | sqlite3.Cursor):
        return "SQLite"
    module = key if isinstance(key, str) else key.__module__
    return {"msgspec": "codec", "msgpack": "codec", "ray": "Ray", "_asyncio": "asyncio and threads"}.get(
        module.partition(".")[0]
    )


def cost_of_the_hook() -> float:
    """Return the seconds that one event adds to what it measures, as seen on calls that do nothing."""

    def nothing() -> None:
        pass

    def calls() -> float:
        begun = time.thread_time()
        for _ in range(CALLS_TO_CALIBRATE):
            nothing()
        return time.thread_time() - begun

    plain_s = calls()
    spent: Spent = {}
    sys.setprofile(_hook(spent))
    calls()
    sys.setprofile(None)
    seconds, events = spent[CALLER]
    return max(0.0, seconds - plain_s) / events


def shares(spent: Spent, hook_s: float, cpu_s: float) -> dict[str, float]:
    """Return the part of each layer, without the hook.

    `cpu_s`: of the process. What its hooked threads have not spent is what Ray's own threads did.
    """
    found = {layer: max(0.0, seconds - hook_s * events) for layer, (seconds, events) in spent.items()}
    found["Ray"] = found.get("Ray", 0.0) + max(0.0, cpu_s - found.pop(HOOKED))
    return {layer: seconds / sum(found.values()) for layer, seconds in found.items()}


def in_worker(directory: Path) -> Callable[[], None]:
    """Return what a worker of Ray calls when it starts: it hooks its threads and keeps a file of what they spent."""

    def start() -> None:
        stopwatch = Stopwatch()
        threading.Thread(target=_write_always, args=(stopwatch, directory / f"{os.getpid()}.json"), daemon=True).start()
        stopwatch.start()

    return start


def _write_always(stopwatch: Stopwatch, path: Path) -> None:
    while True:
        new = path.with_suffix(".new")
        new.write_text(json.dumps(stopwatch.spent()))
        new.rename(path)
        time.sleep(WRITE_EVERY_S)
