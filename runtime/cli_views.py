"""`eventray rebuild|compare|switch` and `eventray dead-letters ...`: care for the views of a running app."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eventray.domain.errors import UnknownName
from eventray.runtime.cli_app import Address, AppName, AsJson, find_classes, joined
from eventray.runtime.dead_letters import DeadLetter

FAILED_AGAIN = 1
DIFFERENT = 1
INTERRUPTED = 130

View = Annotated[str, typer.Argument(metavar="VIEW", help="The name of a view.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letters by id, like 0:17; all if none.")]

letters = typer.Typer(
    help="Look at, try again or give up the events that a view left behind (on_error='park').", no_args_is_help=True
)


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.add_typer(letters, name="dead-letters")
    for command in (rebuild, compare, switch):
        app.command(command.__name__)(command)


def rebuild(
    view: View,
    version: Annotated[
        int | None, typer.Option(min=1, help="Of the view; the one that serves if none is named.")
    ] = None,
    app: AppName = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Make a view anew from the log while the old one serves; Ctrl-C gives it up. Run where the app can be imported."""
    find_classes()
    with joined(app, address) as runtime:
        rebuilding = runtime.rebuild(view, progress=not as_json, version=version)
        try:
            done = rebuilding.result()
        except KeyboardInterrupt:
            rebuilding.cancel()
            if (error := rebuilding.exception()) is not None:
                typer.echo(f"{error}: the old view serves on", err=True)
                raise typer.Exit(INTERRUPTED) from None
            done = rebuilding.result()  # it was too late: the new one has taken over
    if as_json:
        print(json.dumps(dataclasses.asdict(done) | {"rate": done.rate}))
    else:
        print(f"{done.view}: {done.events:,} events in {done.seconds:.1f} s, {done.rate:,.0f} a second")


def compare(
    view: View,
    old: Annotated[int | None, typer.Option(min=1, help="A version; the one that serves if none is named.")] = None,
    new: Annotated[int | None, typer.Option(min=1, help="Another one; the latest other if none is named.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many differences are shown.")] = 20,
    app: AppName = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show where two versions of a view differ; exit code 1 when they do. Run where the app can be imported."""
    find_classes()
    with joined(app, address) as runtime:
        found = runtime.compare(view, old, new).result()
    if as_json:
        shown = [dataclasses.asdict(difference) for difference in found.differences[:limit]]
        print(json.dumps(dataclasses.asdict(found) | {"count": found.count, "differences": shown}))
    else:
        looked_at = f"{sum(found.positions.values()):,} events"
        print(f"{view}: {found.count:,} differences of versions {found.old} and {found.new} after {looked_at}")
        table = Table("where", f"version {found.old}", f"version {found.new}")
        for one in found.differences[:limit]:
            table.add_row(*(escape(cell) for cell in (one.where, one.old, one.new)))
        if table.row_count:
            Console().print(table)
    if found.count:
        raise typer.Exit(DIFFERENT)


def switch(
    view: View,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The version that is to answer.")],
    app: AppName = None,
    address: Address = None,
) -> None:
    """Let another version of a view answer its queries, once it has caught up; go back with the version before."""
    with joined(app, address) as runtime:
        runtime.switch(view, version).result()
    print(f"{view}: version {version} serves")


@letters.command("list")
def list_(view: View, app: AppName = None, address: Address = None, as_json: AsJson = False) -> None:
    """List the dead letters of a view, a line each."""
    with joined(app, address) as runtime:
        found = runtime.dead_letters(view).list().result()
    if as_json:
        print(json.dumps([_plain(letter) for letter in found]))
        return
    table = Table("view", "id", "event", "type", "left behind (UTC)", "why", title=f"dead letters of {view}")
    for letter in found:
        why = letter.reason.splitlines()[0]
        cells = (letter.view, letter.id, letter.event_id, letter.type, f"{letter.parked_at:%Y-%m-%d %H:%M:%S}", why)
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table if found else f"{view} has no dead letters")


@letters.command()
def show(
    view: View,
    id: Annotated[str, typer.Argument(metavar="ID", help="A dead letter, like 0:17.")],
    app: AppName = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its traceback."""
    with joined(app, address) as runtime:
        found = {letter.id: letter for letter in runtime.dead_letters(view).list().result()}
    if id not in found:
        raise UnknownName(f"dead letter of {view}", id, tuple(found))
    letter = found[id]
    if as_json:
        print(json.dumps(_plain(letter)))
        return
    print(f"{letter.id}: {letter.type} {letter.event_id}, left behind {letter.parked_at:%Y-%m-%d %H:%M:%S} UTC")
    print(letter.reason)


@letters.command()
def retry(view: View, ids: Ids = None, app: AppName = None, address: Address = None, as_json: AsJson = False) -> None:
    """Apply dead letters to the view as it is now; exit code 1 when one fails again."""
    with joined(app, address) as runtime:
        outcomes = runtime.dead_letters(view).retry(ids or None).result()
    if as_json:
        print(json.dumps(outcomes))
    else:
        for id, reason in outcomes.items():
            print(f"{id}: failed again: {reason.splitlines()[0]}" if reason else f"{id}: applied")
    if any(outcomes.values()):
        raise typer.Exit(FAILED_AGAIN)


@letters.command()
def drop(view: View, ids: Ids = None, app: AppName = None, address: Address = None, as_json: AsJson = False) -> None:
    """Give up dead letters: they are listed no more; the events stay in the log."""
    with joined(app, address) as runtime:
        outcomes = runtime.dead_letters(view).drop(ids or None).result()
    print(json.dumps(list(outcomes)) if as_json else f"{len(outcomes)} dropped")


def _plain(letter: DeadLetter) -> dict[str, Any]:
    return dataclasses.asdict(letter) | {"event_id": letter.event_id, "parked_at": letter.parked_at.isoformat()}
