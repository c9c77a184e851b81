"""`eventray serve|status`: an app on Ray, started or looked at from a terminal, a script or a Ray job."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eventray.domain.errors import UnknownName
from eventray.runtime import client
from eventray.runtime.app import App
from eventray.runtime.ray_setup import check_protected, joined_ray
from eventray.runtime.session import Runtime
from eventray.runtime.status import Status

NODE_SHOWN_CHARS = 12
LOOK_S = 2.0  # how often `serve` looks whether its app was ended by someone else


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (serve, status):
        app.command(command.__name__)(command)


def serve(
    target: Annotated[str, typer.Argument(metavar="MODULE:APP", help="Where the App is, e.g. examples.bank:bank.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="The data directory; made when it is not there.")],
    shards: Annotated[int | None, typer.Option(min=1, max=4096, help="Files and writers of a new store.")] = None,
    detached: Annotated[
        bool, typer.Option("--detached", help="Come back when it serves; it runs on until someone shuts it down.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve also where whoever reaches Ray's network may run code.")
    ] = False,
) -> None:
    """Run an app on Ray until SIGTERM or Ctrl-C; then what was sent is answered and its files are closed."""
    app = find_app(target)
    if detached:
        _join_only()
    with joined_ray():
        if not insecure:
            check_protected()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):  # instead of Ray's own; one that comes early ends it, too
            signal.signal(number, lambda *_: stop.set())
        with client.run(app, data=data, shards=shards, detached=detached) as runtime:
            known = runtime.status().result()
            print(f"app {app.name!r} serves: {len(known.shards)} shards in {known.data}", flush=True)
            while not (detached or stop.wait(LOOK_S)):
                if _is_gone(app.name):
                    print(f"app {app.name!r} was ended by someone else", flush=True)
                    break


AppName = Annotated[str | None, typer.Option(metavar="APP", help="An app that runs, if more than one does.")]
Address = Annotated[str | None, typer.Option(help="The Ray cluster; RAY_ADDRESS, or this machine's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]


def status(
    app: Annotated[str | None, typer.Argument(metavar="[APP]", help="An app that runs, if more than one does.")] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show how the shards, activations and views of a running app stand."""
    with joined(app, address) as runtime:
        found = runtime.status().result()
    if as_json:
        print(json.dumps(_plain(found), default=str))
        return
    print(f"app {found.app!r}, data in {found.data}")
    for table in _tables(found):
        Console().print(table)


def find_app(target: str) -> App:
    """The App that `module:attribute` names; modules of the working directory are found.

    Raises:
        ValueError: it is no such name, the module cannot be imported, or what is there is no App.
        UnknownName: the module has nothing of that name.
    """
    name, _, attribute = target.partition(":")
    if not name or not attribute:
        raise ValueError(f"{target!r}: give a module and the App in it, like examples.bank:bank")
    find_classes()
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{target!r}: module {name!r} cannot be imported from {Path.cwd()}: {error}") from error
    if not hasattr(module, attribute):
        apps = tuple(known for known, value in vars(module).items() if isinstance(value, App))
        raise UnknownName("app", target, apps)
    found = getattr(module, attribute)
    if not isinstance(found, App):
        raise ValueError(f"{target!r} is a {type(found).__name__}, not an eventray.App")
    return found


def find_classes() -> None:
    """Let an app's classes be imported from the working directory."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


@contextlib.contextmanager
def joined(app: str | None, address: str | None) -> Iterator[Runtime]:
    """Join an app that runs (None: the only one), on a Ray cluster by its address (RAY_ADDRESS, or this machine's).

    Raises:
        ValueError: none runs, or more than one.
        EventRayError: as `eventray.connect`.
    """
    if address:
        os.environ["RAY_ADDRESS"] = address
    _join_only()
    with joined_ray(), client.connect(app or _only_app()) as runtime:
        yield runtime


def _only_app() -> str:
    from eventray.runtime.transport_ray import running_apps  # here, since it imports Ray

    found = running_apps()
    if len(found) != 1:
        raise ValueError(f"say which app: {', '.join(found)} run" if found else "no app runs on this Ray")
    return found[0]


def _join_only() -> None:
    """Start no Ray: it would end with this process."""
    os.environ["RAY_ADDRESS"] = os.environ.get("RAY_ADDRESS") or "auto"


def _is_gone(app_name: str) -> bool:
    from eventray.runtime.remote import (
        DIRECTORY,  # here, since it imports Ray
        find_actor,
    )

    return find_actor(DIRECTORY, app_name) is None


def _plain(found: Status) -> dict[str, Any]:
    plain = dataclasses.asdict(found)
    for view, shown in zip(found.views, plain["views"], strict=True):
        shown["lag"] = found.lag(view)
    return plain


def _tables(found: Status) -> list[Table]:
    shards = Table("shard", "state", "head", "epoch", "active", "pending", "pid", "node", title="shards")
    for shard in found.shards:
        state = _state(shard.state, shard.reason)
        _add(
            shards,
            shard.index,
            state,
            shard.head,
            shard.epoch,
            shard.active,
            shard.pending,
            shard.pid,
            _node(shard.node),
        )
    aggregates = Table(
        "aggregate", "placement", "active", "started", "passivated", "restarts", "since", title="activations"
    )
    for each in found.aggregates:
        restarts = "-" if each.restarts is None else each.restarts
        since = f"{each.since:%Y-%m-%d %H:%M:%S} UTC"
        _add(aggregates, each.name, each.placement, each.active, each.started, each.passivated, restarts, since)
    if warnings := [each.warning for each in found.aggregates if each.warning]:
        aggregates.caption = escape("\n".join(warnings))
    activations = Table("stream", "state", "pending", "idle", "pid", "node", title="dedicated activations")
    for one in found.activations:
        _add(activations, one.stream, one.state, one.pending, f"{one.idle_s:.1f} s", one.pid, _node(one.node))
    views = Table("view", "state", "lag", "positions", "applied", "pid", "node", title="views")
    for view in found.views:
        positions = ", ".join(f"{shard}: {at}" for shard, at in sorted(view.positions.items()))
        state = _state(view.state if view.serves else f"shadow, {view.state}", view.reason)
        _add(views, view.unit, state, found.lag(view), positions, view.applied, view.pid, _node(view.node))
    return [table for table in (shards, aggregates, activations, views) if table.row_count]


def _add(table: Table, *cells: object) -> None:
    table.add_row(*(escape(str(cell)) for cell in cells))


def _state(state: str, reason: str) -> str:
    return f"{state}: {reason.splitlines()[0]}" if reason else state  # --json has the traceback as well


def _node(node: str) -> str:
    return node[:NODE_SHOWN_CHARS]
