"""`run` starts an app, `connect` joins one that runs: both return a Runtime."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventray.runtime.app import App
from eventray.runtime.config import Config
from eventray.runtime.guard import refuse_in_domain_code
from eventray.runtime.ray_setup import import_ray
from eventray.runtime.session import Runtime
from eventray.runtime.transport_local import LocalTransport

if TYPE_CHECKING:
    from eventray.runtime.transport_ray import RayTransport

_runtimes: weakref.WeakValueDictionary[str, Runtime] = weakref.WeakValueDictionary()
_live: list[weakref.ref[Runtime]] = []
_connecting = threading.Lock()
_watching = threading.Lock()


def run(
    app: App,
    *,
    data: str | Path,
    shards: int | None = None,
    local: bool = False,
    detached: bool = False,
    **config: Any,
) -> Runtime:
    """Start an app on a data directory.

    Args:
        app: what runs.
        data: directory of its store; made when it is not there.
        shards: files and writers of a new store (default 4); an existing store keeps its number, another is refused.
        local: run everything in this process, without Ray.
        detached: the app outlives this driver; `connect` joins it, `shutdown()` ends it. Not with `local`.
        config: limits and times, see `eventray.runtime.config.Config` (durability="power" | "os", ...).

    Raises:
        ValueError: a number of shards outside 1..4096, an unknown or wrong setting.
        RuntimeError: called inside a command, an apply or a query.
        EventRayError: from `with` or the first call: StoreLocked, StoreMismatch, StoreCorrupted, RayUnavailable, ...
    """
    refuse_in_domain_code("eventray.run()")
    if shards is not None and (isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= 4096):
        raise ValueError(f"shards={shards!r}: choose 1 to 4096")
    if local and detached:
        raise ValueError("local=True runs in this process and cannot be detached")
    settings = _settings(config)
    directory = Path(data).expanduser().absolute()
    if local:
        return _register(Runtime(app.name, app, LocalTransport(app, directory, shards, settings), settings))
    transport = _ray_transport().starting(app, directory, shards, settings, detached)
    return _register(Runtime(app.name, app, transport, settings))


def connect(app: str | App, **config: Any) -> Runtime:
    """Join an app that runs on the Ray cluster of this process (or of RAY_ADDRESS), by its name.

    Args:
        app: its name, or the App itself where this process has its classes imported.
        config: times and limits of this client.

    Raises:
        EventRayError: from `with` or the first call: UnknownName when no such app runs, RayUnavailable.
    """
    refuse_in_domain_code("eventray.connect()")
    settings = _settings(config)
    known = app if isinstance(app, App) else None
    name = app.name if isinstance(app, App) else app
    return _register(Runtime(name, known, _ray_transport().joining(name, settings), settings))


def runtime_here(app_name: str) -> Runtime:
    """This process's runtime of an app; joins it when there is none (where a handle was unpickled)."""
    with _connecting:
        here = _runtimes.get(app_name)
        return connect(app_name) if here is None or here.ended else here


def _ray_transport() -> type[RayTransport]:
    """Imported when it is needed: local apps work without Ray."""
    import_ray()
    from eventray.runtime.transport_ray import RayTransport

    return RayTransport


def _register(runtime: Runtime) -> Runtime:
    with _watching:
        _runtimes[runtime.app_name] = runtime
        if not _live:
            threading.Thread(target=_end_with_the_program, name="eventray-end").start()
        _live.append(weakref.ref(runtime))
    return runtime


def _end_with_the_program() -> None:
    """A program that ends without a shutdown: what was sent is answered before the process goes."""
    threading.main_thread().join()
    for reference in _live:
        left = reference()
        if left is not None and not left.ended:
            left.close()


def _settings(config: dict[str, Any]) -> Config:
    known = Config.__slots__
    unknown = [name for name in config if name not in known]
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]!r}; there are: {', '.join(known)}")
    return Config(**config)
