"""What travels between a Router and its targets: batches of items, and the answers to them.

In one process they travel as they are; between processes as one MessagePack `bytes` per call.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import msgpack
import msgspec

from eventray.domain.errors import Overloaded
from eventray.store.page import Columns, Records
from eventray.store.records import ShardPage

ITEM_BYTES = 64  # of an item besides its arguments
_encode = msgspec.msgpack.Encoder().encode
_decode_page = msgspec.msgpack.Decoder(tuple[int, Columns]).decode


class Kind(enum.IntEnum):
    """How an item ended."""

    RECEIPT = 0  # payload: ReceiptData
    VALUE = 1  # payload: (bytes of the query's result, positions of the view)
    ERROR = 2  # payload: the exception
    AGAIN = 3  # payload: why; nothing was decided here, the Router sends the item again
    FULL = 4  # payload: the arguments of `Overloaded`; this time the item was not taken, an earlier one may have been


class CommandItem(NamedTuple):
    """One command for one instance."""

    aggregate: str
    id: str
    command: str
    args: bytes  # the canonical encoding of the arguments
    command_id: str
    look_up: bool  # an id that may have been committed before: the user's, or one that is sent again
    expected_version: int | None
    metadata: bytes  # MessagePack map of the caller's metadata, b"" for none

    @property
    def size(self) -> int:
        """Bytes that it takes on its way."""
        return len(self.args) + len(self.metadata) + ITEM_BYTES


class QueryItem(NamedTuple):
    """One query for one view."""

    query: str
    args: bytes
    after: dict[int, int]  # position per shard that the view must have applied
    generation: int  # the store's when these positions were seen; 0: not known
    wait_s: float
    serve_stale: bool
    shadow: bool = False  # asked of the version itself, whichever serves

    @property
    def size(self) -> int:
        """Bytes that it takes on its way."""
        return len(self.args) + ITEM_BYTES


class Batch(NamedTuple):
    """One call's items, numbered so that a late or repeated call is recognised."""

    client: str
    epoch: int  # of the target that it is meant for: a restarted target refuses it
    number: int
    floor: int  # every number below it is settled
    voids: Sequence[int]  # numbers above the floor that the client has given up
    items: Sequence[CommandItem] | Sequence[QueryItem]
    alone: bool = False  # it may end its process: nothing else runs meanwhile, and it starts at the first `collect`


class ReceiptData(NamedTuple):
    """A receipt without what the client knows already."""

    version: int
    shard: int
    position: int
    duplicate: bool
    events: Sequence[tuple[str, int, bytes]]  # stored name, version, bytes


class Answer(NamedTuple):
    """The end of item number `item` of a batch."""

    item: int
    kind: Kind
    payload: Any


class _Receipt(NamedTuple):
    """An `Answer` of `Kind.RECEIPT`: no other kind's payload looks like a receipt."""

    item: int
    kind: Kind
    payload: ReceiptData


class Reply(NamedTuple):
    """Answers that are ready; `pending`: the batch has more to come, `collect` waits for them."""

    answers: Sequence[Answer]
    pending: bool


class BatchRefused(Exception):  # noqa: N818  (control flow between engine parts; users never see it)
    """The target has seen this number, or is another incarnation: connect again, send what is open as a new batch."""


# What a Batch of commands is made of, checked and made at once: in half the time of doing it in two steps.
_decode_commands = msgspec.msgpack.Decoder(
    tuple[str, int, int, int, tuple[int, ...], list[CommandItem], bool],
).decode

_decode_receipts = msgspec.msgpack.Decoder(tuple[list[_Receipt], bool]).decode

Answerer = Callable[[Kind, Any], None]


def full(error: Overloaded) -> tuple[str, int, str, float]:
    """The payload of `Kind.FULL`."""
    return error.where, error.limit, error.unit, error.retry_after_s


Dumps = Callable[[BaseException], bytes]
Loads = Callable[[bytes], BaseException]


def pack_batch(batch: Batch) -> bytes:
    """One batch as bytes."""
    return _encode(batch)


def unpack_commands(data: bytes) -> Batch:
    """The batch of commands in `data`."""
    return Batch(*_decode_commands(data))


def unpack_queries(data: bytes) -> Batch:
    """The batch of queries in `data`."""
    batch = Batch(*msgpack.unpackb(data, use_list=False, strict_map_key=False))
    return batch._replace(items=[QueryItem(*item) for item in batch.items])


def pack_reply(reply: Reply, dumps: Dumps) -> bytes:
    """One reply as bytes; `dumps` turns exceptions into bytes (they never reach a disk)."""
    answers = [
        answer if answer.kind is not Kind.ERROR else answer._replace(payload=dumps(answer.payload))
        for answer in reply.answers
    ]
    return _encode((answers, reply.pending))


def unpack_reply(data: bytes, loads: Loads) -> Reply:
    """The reply in `data`."""
    try:  # receipts only, as most replies are, are made at once: in a third of the time
        receipts, pending = _decode_receipts(data)
        return Reply(cast("list[Answer]", receipts), pending)
    except msgspec.ValidationError:
        answers, pending = msgpack.unpackb(data, use_list=False, strict_map_key=False)
    return Reply(
        [Answer(index, Kind(kind), _payload(kind, payload, loads)) for index, kind, payload in answers], pending
    )


def pack_page(page: ShardPage) -> bytes:
    """A page of a log as bytes: pickling it would take much longer."""
    return _encode((page.position, Records.of(page.records).columns))


def unpack_page(data: bytes) -> ShardPage:
    """The page in `data`."""
    position, columns = _decode_page(data)
    return ShardPage(Records(columns), position)


def _payload(kind: int, payload: Any, loads: Loads) -> Any:
    if kind == Kind.RECEIPT:
        return ReceiptData(*payload)
    if kind == Kind.ERROR:
        return loads(payload)
    return payload
