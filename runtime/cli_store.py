"""`eventray verify|backup|restore|reshard|info`: the functions of `eventray.store` for a terminal or a script."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from eventray import store
from eventray.store.parallel import Progress as ToldProgress

PROBLEMS_FOUND = 1
DIGEST_SHOWN_CHARS = 16

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The data directory of the app, or a backup of it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (info, verify, backup, restore, reshard):
        app.command(command.__name__)(command)


def info(directory: Directory, as_json: AsJson = False) -> None:
    """Show what a store or a backup is and holds, in a moment; the app may be running."""
    found = store.info(directory)
    if as_json:
        _print_json(found, events=found.events, bytes=found.bytes)
        return
    kind = f"a backup of {_shown(found.backup_taken_at)}" if found.backup_taken_at else "a store"
    print(f"{found.directory}: {kind} of the app {found.app!r}, generation {found.generation}, format {found.format}")
    print(f"{found.events} events, {_mib(found.bytes)}, {len(found.shards)} shards")
    if found.resharded_from:
        print(f"resharded from generation {', '.join(map(str, found.resharded_from))}")
    if found.views:
        print(f"views with a checkpoint: {', '.join(found.views)}")
    table = Table("shard", "state", "events", "streams", "size", "last event (UTC)", "in use by")
    for shard in found.shards:
        state = f"{shard.state}: {shard.reason}" if shard.reason else shard.state
        at = _shown(shard.last_event) if shard.last_event else ""
        cells = (shard.shard, state, shard.position, shard.streams, _mib(shard.bytes), at, shard.holder)
        table.add_row(*(escape(str(cell)) for cell in cells))
    Console().print(table)


def verify(
    directory: Directory,
    against: Annotated[
        Path | None,
        typer.Option(help="A backup of the same generation, kept elsewhere: is the history still the same?"),
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="How many; as many as there are cores.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove every event, digest, snapshot and checkpoint; nothing is changed, and the app may be running.

    Exit code 1 when something is not as it was written.
    """
    with _progress() as progress:
        found = store.verify(directory, against=against, progress=progress, processes=processes)
    if as_json:
        _print_json(found, ok=found.ok, events=found.events)
    else:
        table = Table("shard", "events", "streams", "position", "digest", "problems")
        for shard in found.shards:
            count = len(shard.problems) + shard.more_problems
            digest = shard.digest[:DIGEST_SHOWN_CHARS]
            table.add_row(*map(str, (shard.shard, shard.events, shard.streams, shard.position, digest, count)))
        Console().print(table)
        for problem in found.problems:
            print(problem)
        verdict = "sound" if found.ok else f"NOT SOUND, {len(found.problems)} problems, the first: {found.problems[0]}"
        print(f"{found.directory}: {found.events} events in {found.seconds:.1f} s: {verdict}")
    if not found.ok:
        raise typer.Exit(PROBLEMS_FOUND)


def backup(
    directory: Directory,
    to: Annotated[Path, typer.Argument(metavar="TO", help="A new or empty folder.")],
    as_json: AsJson = False,
) -> None:
    """Copy a store to a folder; the app may be running. Each shard is copied as it is at one moment."""
    with _progress() as progress:
        found = store.backup(directory, to, progress=progress)
    if as_json:
        _print_json(found, positions=found.positions)
        return
    _print_ends(found.shards)
    print(f"{found.directory}: {_mib(found.bytes)} of generation {found.generation} in {found.seconds:.1f} s")


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="A folder that `eventray backup` made.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    check: Annotated[bool, typer.Option(help="Prove the backup first.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a store of a backup, as a new generation: views follow its log anew."""
    with _progress() as progress:
        found = store.restore(backup, directory, check=check, progress=progress)
    if as_json:
        _print_json(found)
        return
    _print_ends(found.shards)
    print(f"{found.directory}: generation {found.generation} of the app {found.app!r} in {found.seconds:.1f} s")


def reshard(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The data directory of an app that is not running.")],
    shards: Annotated[int, typer.Option(min=1, max=4096, help="How many there are to be.")],
    as_json: AsJson = False,
) -> None:
    """Spread a store over another number of shards, as a new generation; the old shards are kept beside them."""
    with _progress() as progress:
        found = store.reshard(directory, shards=shards, progress=progress)
    if as_json:
        _print_json(found)
        return
    _print_ends(found.shards)
    print(f"{found.directory}: {found.events} events in {shards} shards in {found.seconds:.1f} s")
    print(f"The shards of before are in {found.kept}; remove that folder when they are not needed any more.")


def _print_json(report: Any, **derived: Any) -> None:
    # A report is a dataclass; what it derives from its fields is named by the caller.
    print(json.dumps(dataclasses.asdict(report) | derived, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _print_ends(ends: tuple[store.ShardEnd, ...]) -> None:
    table = Table("shard", "last position", "digest")
    for index, end in enumerate(ends):
        table.add_row(str(index), str(end.position), end.digest[:DIGEST_SHOWN_CHARS])
    Console().print(table)


@contextlib.contextmanager
def _progress() -> Iterator[ToldProgress]:
    """Bars on standard error, one for each phase, where that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks: dict[str, TaskID] = {}

        def tell(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = shown.add_task(phase, total=total)
            shown.update(tasks[phase], completed=done)

        yield tell


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
