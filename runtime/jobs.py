"""CommandJob: a command on its way, from the call to its Response."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable, Mapping
from typing import Any

import msgpack

from eventray.domain.errors import CommandPoisoned, CommandTimeout, EncodingError, ShardUnavailable
from eventray.domain.messages import Event, Receipt
from eventray.runtime.model import AggregateModel
from eventray.runtime.response import Response
from eventray.runtime.transport import Transport
from eventray.runtime.wire import CommandItem, Kind

METADATA_BYTES_MAX = 16 << 10


class CommandIds:
    """Makes UUIDv7 strings that rise, so that the store's index on them grows at its end."""

    def __init__(self) -> None:
        self._millisecond = 0
        self._begin = ""  # of the ids of this millisecond: 48 bits of it, and 12 random ones
        self._rest = 0  # 62 bits of the last id, random and then counted up
        self._lock = threading.Lock()

    def make(self) -> str:
        """A new id: 48 bits of milliseconds, then random bits; within a millisecond one above the last."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._millisecond:
                self._draw(now)
            self._rest = rest = self._rest + 1
            begin = self._begin
        return f"{begin}{0x8000 | rest >> 48:04x}-{rest & 0xFFFFFFFFFFFF:012x}"

    def _draw(self, now: int) -> None:
        drawn = int.from_bytes(os.urandom(10)) >> 7  # 12 and 61 bits, so that counting does not leave the 62
        self._millisecond, self._rest = now, drawn & ((1 << 61) - 1)
        at = f"{now:012x}"
        self._begin = f"{at[:8]}-{at[8:]}-{0x7000 | drawn >> 61:04x}-"


class CommandJob:
    """One command for one instance."""

    __slots__ = (
        "_generation",
        "_item",
        "_model",
        "_stream",
        "deadline",
        "lane",
        "patient",
        "response",
        "sent",
        "size",
        "timeout_s",
    )

    def __init__(self, model: AggregateModel, item: CommandItem, timeout_s: float, *, patient: bool = False) -> None:
        self._model = model
        self._item = item
        self._generation = 0
        self._stream = f"{item.aggregate}/{item.id}"
        self.lane: Hashable = self._stream
        self.timeout_s = timeout_s
        self.deadline = time.monotonic() + timeout_s
        self.sent = 0
        self.size = item.size
        self.patient = patient
        self.response: Response[Receipt] = Response()

    def target(self, transport: Transport) -> Hashable:
        """Where it goes."""
        self._generation = transport.generation
        return transport.target_of(self._item.aggregate, self._stream)

    def item(self) -> CommandItem:
        """What travels; an item that was sent before may have been committed."""
        return self._item._replace(look_up=True) if self.sent and not self._item.look_up else self._item

    def complete(self, kind: Kind, payload: Any) -> None:
        """Turn the answer into a Receipt, or the error."""
        if kind is Kind.ERROR:
            self.response.set_exception(payload)
            return
        try:
            self.response.set_result(self._receipt(payload))
        except Exception as error:  # the command is committed; only its events cannot be shown here
            self.response.set_exception(error)

    def expire(self, reason: str) -> None:
        """End without an answer: the outcome is unknown if anything was sent."""
        item = self._item
        if self.sent or not reason:
            self.fail(CommandTimeout(self._stream, item.command, item.command_id, self.timeout_s))
        else:
            self.fail(ShardUnavailable(-1, f"{self._stream} could not be reached within {self.timeout_s} s: {reason}"))

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self.response.set_exception(error)

    def poison(self, crashes: int) -> CommandPoisoned:
        """Its error for having ended its process so often."""
        return CommandPoisoned(self._stream, self._item.command_id, crashes)

    def _receipt(self, data: Any) -> Receipt:
        decode = self._model.events.decode
        events: tuple[Event, ...] = tuple([decode(*encoded) for encoded in data.events])
        item = self._item
        return Receipt(
            self._stream,
            data.version,
            data.shard,
            data.position,
            events,
            item.command_id,
            data.duplicate,
            self._generation,
        )


def encode_metadata(metadata: Mapping[str, Any] | None) -> bytes:
    """The caller's metadata as MessagePack, b"" for none.

    Raises:
        EncodingError: not a map from str to what MessagePack carries, or above its limit.
    """
    if not metadata:
        return b""
    if not all(isinstance(key, str) for key in metadata):
        raise EncodingError("metadata", "its keys must be str")
    try:
        data = bytes(msgpack.packb(dict(metadata), datetime=True))
        msgpack.unpackb(data, timestamp=3)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodingError("metadata", str(error)) from error
    if len(data) > METADATA_BYTES_MAX:
        raise EncodingError("metadata", f"{len(data)} bytes, the limit is {METADATA_BYTES_MAX}")
    return data
