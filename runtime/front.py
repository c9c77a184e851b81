"""Front: what Ray is given of an actor. Only the actor's own process imports what is behind it.

Ray loads the class of an actor wherever a handle of it arrives, and with it all that its module imports. So each
activation, which is told its shard and the Directory, would have both with SQLite in its memory, and wait for that.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from importlib import import_module
from inspect import getmembers, iscoroutinefunction
from typing import Any

import ray

PULSE = "pulse"
PULSES_AT_ONCE = 64  # the Directory is watched by every shard


class Front:
    """Passes calls on to the shell of its actor; has a pulse, by which it is watched (see `Watch`)."""

    _home: tuple[str, str]  # the module of the shell's class, and its name there

    def __init__(self, *args: Any) -> None:
        module, name = self._home
        self._shell = getattr(import_module(module), name)(*args)

    def __repr__(self) -> str:
        return repr(self._shell)

    @ray.method(concurrency_group=PULSE)
    async def pulse(self) -> int:
        """Its process id; answers as long as that process runs."""
        return os.getpid()


def actor_class(shell: type[Any], name: str = "") -> Any:
    """The actor class of a shell, with a thread for its pulse.

    Args:
        shell: its public methods are the actor's.
        name: of the user's domain, as `ray list actors` and the dashboard show it; "": the shell's own.
    """
    methods = {name: _passed_on(name) for name, _ in getmembers(shell, iscoroutinefunction) if not name.startswith("_")}
    own = {"__module__": "eventray", "_home": (shell.__module__, shell.__qualname__)}
    front = type(name or shell.__name__, (Front,), {**methods, **own})
    return ray.remote(concurrency_groups={PULSE: PULSES_AT_ONCE})(front)  # type: ignore[call-overload]


def _passed_on(name: str) -> Callable[..., Awaitable[Any]]:
    async def method(self: Front, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self._shell, name)(*args, **kwargs)

    method.__name__ = name
    return method
