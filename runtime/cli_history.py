"""`eventray history|state|tail`: the events of a running app, and what they come to, in a terminal or a script."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgpack
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eventray.domain.errors import UnknownName
from eventray.runtime.cli_app import Address, AppName, AsJson, find_classes, joined
from eventray.runtime.recorded import meta_of
from eventray.store.port import ShardPort
from eventray.store.records import Record, stream_name

PAGE_EVENTS = 1_000
POLL_S = 1.0
LAST = 10
WIDTH_IN_A_PIPE = 200  # characters: a row stays a line for grep

Aggregate = Annotated[str, typer.Argument(metavar="AGGREGATE", help="The name of an aggregate, like Account.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of an instance, like alice.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (history, state, tail):
        app.command(command.__name__)(command)


def history(
    aggregate: Aggregate, id: Id, app: AppName = None, address: Address = None, as_json: AsJson = False
) -> None:
    """Print every event of an instance: version, time, what, by which command, and what its caller said."""
    stream = stream_name(aggregate, id)
    with joined(app, address) as runtime:
        records = runtime.on_shard(stream, lambda shard: _stream(shard, stream)).result()
    if as_json:
        print(json.dumps([_plain(record) for record in records]))
        return
    table = Table("version", "recorded at (UTC)", "event", "fields", "command id", "metadata", title=escape(stream))
    for record in records:
        meta = meta_of(record)
        _add(
            table,
            record.version,
            _time(meta.recorded_at),
            record.type,
            _fields(record),
            record.command_id,
            meta.metadata,
        )
    wide = None if sys.stdout.isatty() else WIDTH_IN_A_PIPE
    Console(width=wide).print(table if records else f"{stream} has no events")


def state(
    aggregate: Aggregate,
    id: Id,
    at: Annotated[str | None, typer.Option(help="A version, or a moment (ISO 8601; UTC unless it says more).")] = None,
    app: AppName = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Print the state of an instance, now or as it was; run it where the app's classes can be imported."""
    find_classes()
    with joined(app, address) as runtime:
        model = runtime.app.aggregates.get(aggregate)
        if model is None:
            raise UnknownName("aggregate", aggregate, tuple(runtime.app.aggregates))
        found = runtime.state(model.cls, id, at=_moment(at)).result()
        fields = msgpack.unpackb(model.encode_state(found), strict_map_key=False, timestamp=3)
    if as_json:
        print(json.dumps({"stream": f"{aggregate}/{id}", "version": found.version, "state": _json(fields)}))
        return
    table = Table("field", "value", title=escape(f"{aggregate}/{id} at version {found.version}"))
    for name, value in fields.items():
        _add(table, name, json.dumps(_json(value)))
    Console().print(table)


def tail(
    type: Annotated[list[str] | None, typer.Option("--type", help="Only events of this name; again for more.")] = None,
    last: Annotated[int, typer.Option(min=0, help="How many events of the past come first.")] = LAST,
    follow: Annotated[bool, typer.Option(help="Go on with news until Ctrl-C.")] = True,
    app: AppName = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Print the last events of an app, and those that come, a line each (with --json an object a line)."""
    types = frozenset(type) if type else None
    with joined(app, address) as runtime:
        heads = runtime.heads().result()
        past: list[Record] = []
        for shard, head in heads.items():
            past += runtime.on_shard(shard, lambda port, head=head: _last(port, head, last, types)).result()  # type: ignore[misc]
        past.sort(key=lambda record: record.recorded_at)
        _print(past[-last:] if last else [], as_json)
        while follow:
            for shard in heads:
                page = runtime.on_shard(
                    shard,
                    lambda port, shard=shard: port.read(  # type: ignore[misc]
                        after=heads[shard], limit=PAGE_EVENTS, wait=POLL_S / len(heads), types=types
                    ),
                ).result()
                heads[shard] = page.position
                _print(page.records, as_json)


async def _stream(shard: ShardPort, stream: str) -> list[Record]:
    found: list[Record] = []
    while page := await shard.read_stream(stream, after=len(found), limit=PAGE_EVENTS):
        found += page
    return found


async def _last(shard: ShardPort, head: int, count: int, types: frozenset[str] | None) -> list[Record]:
    """The last `count` events up to a position, looked for in steps that double."""
    found: list[Record] = []
    for step in itertools.count():
        after = max(0, head - count * 4**step)
        found, at = [], after
        while count and at < head:
            page = await shard.read(after=at, limit=PAGE_EVENTS, types=types)
            found, at = [*found, *page.records][-count:], page.position
        if len(found) >= count or after == 0:
            return found
    return found


def _print(records: Iterable[Record], as_json: bool) -> None:
    for record in records:
        if as_json:
            print(json.dumps(_plain(record)), flush=True)
        else:
            at = _time(meta_of(record).recorded_at)
            print(f"{at} {record.event_id} {record.type} {_fields(record)}", flush=True)


def _moment(at: str | None) -> int | datetime | None:
    if at is None or at.isdecimal():
        return None if at is None else int(at)
    moment = datetime.fromisoformat(at)
    return moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)


def _fields(record: Record) -> str:
    return json.dumps(_json(msgpack.unpackb(record.data, strict_map_key=False, timestamp=3)))


def _plain(record: Record) -> dict[str, Any]:
    meta = meta_of(record)
    return {
        "event_id": record.event_id,
        "stream": record.stream,
        "version": record.version,
        "type": record.type,
        "type_version": record.type_version,
        "shard": record.shard,
        "position": record.position,
        "recorded_at": meta.recorded_at.isoformat(),
        "command_id": record.command_id,
        "metadata": _json(dict(meta.metadata)),
        "fields": _json(msgpack.unpackb(record.data, strict_map_key=False, timestamp=3)),
    }


def _json(value: Any) -> Any:
    """A value of MessagePack as JSON has it: moments in ISO 8601, bytes in hexadecimal, keys as text."""
    if isinstance(value, Mapping):
        return {str(_json(key)): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else value


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def _add(table: Table, *cells: object) -> None:
    table.add_row(*("" if cell is None else escape(str(cell)) for cell in cells))
