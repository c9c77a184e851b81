"""ViewState: a view's read model and how far it has followed each shard. They move together, also when saved."""

from __future__ import annotations

import struct
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

import msgpack

from eventray.domain.errors import EncodingError
from eventray.domain.projection import Projection
from eventray.runtime.guard import DomainCode
from eventray.runtime.model import ProjectionModel
from eventray.runtime.recorded import decode_record, meta_of, metas_of
from eventray.store.page import Records
from eventray.store.records import Checkpoint, Record, ShardPage
from eventray.store.spool import Spool

TRACE_FRAMES = 4
_HEADER = struct.Struct(">HI")  # MessagePack: a list of two, the first of them that many bytes
_LIST_OF_TWO_AND_BYTES = 0x92C6


@dataclass(frozen=True, slots=True)
class Failure:
    """An event that a view could not apply: what it is, what was raised, and where."""

    record: Record
    reason: str

    @classmethod
    def of(cls, record: Record, error: BaseException) -> Failure:
        """The failure that an error stands for."""
        trace = "".join(traceback.format_exception(error, limit=-TRACE_FRAMES))
        where = f"{record.type} {record.stream}@{record.version} in shard {record.shard}"
        return cls(record, f"{where}: {error!r}\n{trace}")


class ViewState:
    """What a projection has made of the log.

    Args:
        partition: which events are applied: those of this one, all with 0.

    Attributes:
        view: the read model.
        positions: per shard, up to where the log was applied; an event is applied and counted with no await between.
        parked: per shard, the positions of events up to there that were left behind.
        applied: events since the process began; of a partition those of the others are counted, too.
    """

    def __init__(self, model: ProjectionModel, shards: Iterable[int], partition: int = 0) -> None:
        self._model = model
        self._partition = partition
        self.view: Projection = model.new()
        self.positions = dict.fromkeys(shards, 0)
        self.parked: dict[int, set[int]] = {shard: set() for shard in self.positions}
        self.applied = 0

    def apply_page(self, shard: int, page: ShardPage) -> Failure | None:
        """Apply what of a page was not applied yet, as far as it goes; the event that stopped it.

        After a failure the read model may hold half of that event: it has to be replaced by an earlier state.
        """
        before = self.positions[shard]
        fresh = self._fresh(shard, Records.of(page.records))
        model, view, partition, applied = self._model, self.view, self._partition, 0
        with DomainCode(f"{model.name}.apply"):
            try:
                for event, meta in zip(model.events.decoding(fresh.columns), metas_of(fresh), strict=True):
                    model.apply(view, event, meta, partition)
                    applied += 1
            except BaseException as error:  # sys.exit() in an apply, too: it must not end the engine
                self.positions[shard] = fresh.columns.positions[applied - 1] if applied else before
                self.applied += applied
                return self._failure(fresh[applied], error)
        self.positions[shard], self.applied = max(page.position, before), self.applied + applied
        return None

    def _fresh(self, shard: int, records: Records) -> Records:
        """What of some records was neither applied nor left behind."""
        before, parked = self.positions[shard], self.parked[shard]
        if not parked and (not records or records.columns.positions[0] > before):
            return records
        return Records.of([one for one in records if one.position > before and one.position not in parked])

    def _failure(self, record: Record, error: BaseException) -> Failure:
        try:
            decode_record(self._model.events, record)
        except Exception as undecodable:  # it never came to the apply
            return Failure.of(record, undecodable)
        return Failure.of(record, error)

    def park(self, record: Record) -> None:
        """Leave an event behind: the next of its shard comes after it."""
        self.parked[record.shard].add(record.position)
        self.positions[record.shard] = record.position

    def apply_parked(self, record: Record) -> Failure | None:
        """Apply an event that was left behind, after all that came later; as it was before when that fails."""
        before = self._model.encode_state(self.view)
        try:
            with DomainCode(f"{self._model.name}.apply"):
                self._apply(record)
        except BaseException as error:
            self.view = self._model.decode_state(before)
            return Failure.of(record, error)
        self.parked[record.shard].discard(record.position)
        self.applied += 1
        return None

    def _apply(self, record: Record) -> None:
        event = decode_record(self._model.events, record)
        self._model.apply(self.view, event, meta_of(record), self._partition)

    # saved

    def encode(self) -> bytes:
        """The read model and what it left behind, as bytes; the positions are saved beside it.

        Raises:
            EncodingError: a value does not fit its annotation.
        """
        return bytes(msgpack.packb((self._model.encode_state(self.view), self._parked())))

    def spool(self) -> Spool:
        """The same, with little of it in memory at once.

        Raises:
            EncodingError: as `encode`. OSError: there is no room for it on the disk.
        """
        spool = Spool()
        try:
            spool.write(_HEADER.pack(_LIST_OF_TWO_AND_BYTES, 0))
            for piece in self._model.encode_in_pieces(self.view):
                spool.write(piece)
            spool.rewrite(0, _HEADER.pack(_LIST_OF_TWO_AND_BYTES, spool.size_bytes - _HEADER.size))
            spool.write(msgpack.packb(self._parked()))
        except BaseException:
            spool.close()
            raise
        return spool

    def _parked(self) -> dict[int, list[int]]:
        return {shard: sorted(positions) for shard, positions in self.parked.items() if positions}

    def restore(self, saved: Checkpoint) -> None:
        """Become what was saved.

        Raises:
            EncodingError: it holds no state of the class.
        """
        try:
            view, parked = msgpack.unpackb(saved.data, strict_map_key=False)
        except (ValueError, TypeError) as error:
            raise EncodingError(self._model.name, f"its save cannot be read: {error}") from error
        self.view = self._model.decode_state(view)
        self.positions.update({shard: at for shard, at in saved.positions.items() if shard in self.positions})
        for shard in self.positions:
            self.parked[shard] = set(parked.get(shard, ()))
