"""EventSet: event classes by their stored names, to and from bytes, older versions upcast on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from eventray.domain.errors import EncodingError, UnknownEvent
from eventray.domain.messages import Event
from eventray.domain.upcast import Upcaster, upcasters_of
from eventray.store.codec import Codec
from eventray.store.page import Columns

_codecs: dict[type[Event], Codec[Event]] = {}  # of this process: the sets of an app share them


def _codec(event: type[Event]) -> Codec[Event]:
    codec = _codecs.get(event)
    if codec is None:
        codec = _codecs[event] = Codec(event, event.__name__)
    return codec


class EventSet:
    """The registry of the event classes of an app, an aggregate or a projection.

    Attributes:
        classes: the event classes.
        names: their stored names.

    Raises:
        TypeError: two classes with one stored name and version, a gap between upcasters, or a field that cannot be
            stored, naming class and field.
    """

    __slots__ = ("_encoders", "_unpackers", "classes", "names")

    def __init__(self, events: Iterable[type[Event]]) -> None:
        self.classes: tuple[type[Event], ...] = tuple(sorted(set(events), key=_order))
        self.names = frozenset(event.__event_name__ for event in self.classes)
        self._encoders: dict[type[Event], tuple[str, int, Callable[[Event], bytes]]] = {}
        self._unpackers: dict[tuple[str, int], Callable[[bytes], Event]] = {}
        for event in self.classes:
            name, version, codec = event.__event_name__, event.__event_version__, _codec(event)
            if (name, version) in self._unpackers:
                other = next(e for e in self._encoders if (e.__event_name__, e.__event_version__) == (name, version))
                raise TypeError(
                    f"{_full_name(other)} and {_full_name(event)} are both stored as {name!r} version {version}: "
                    "give one of them another name= or version="
                )
            self._encoders[event] = (name, version, codec.encode)
            self._unpackers[name, version] = codec.unpack
        for event in self.classes:
            self._add_older(event)

    def encode(self, event: Event) -> tuple[str, int, bytes]:
        """The stored name, the version and the bytes of an event.

        Raises:
            EncodingError: a value does not fit its annotation, as "Deposited.amount".
            TypeError: the event's class is not in the set.
        """
        try:
            name, version, encode = self._encoders[type(event)]
        except KeyError:
            raise TypeError(
                f"{type(event).__name__} is not among the events of this app ({', '.join(sorted(self.names))}): "
                "name it in the annotation of apply() or in the return annotation of the command"
            ) from None
        return name, version, encode(event)

    def decode(self, type: str, version: int, data: bytes) -> Event:
        """The event of a stored record.

        Raises:
            UnknownEvent: no class has that name, or only ones of other versions without upcasters from this one.
            EncodingError: the bytes do not decode, or an upcaster failed.
        """
        unpack = self._unpackers.get((type, version))
        if unpack is None:
            raise UnknownEvent(type, version)
        try:
            return unpack(data)
        except EncodingError:
            raise
        except Exception as error:
            raise EncodingError(f"{type} version {version}", f"the stored bytes do not decode: {error}") from error

    def decoding(self, page: Columns) -> Iterator[Event]:
        """The events of a page, each decoded when it is its turn.

        Raises:
            Exception: in its turn, one that cannot be decoded; `decode` says why.
        """
        unpackers = {
            kind: self._unpackers.get(type) or partial(self.decode, *type) for kind, type in page.types.items()
        }
        if len(unpackers) == 1:
            [unpack] = unpackers.values()
            return map(unpack, page.data)
        return (unpackers[kind](data) for kind, data in zip(page.kinds, page.data, strict=True))

    def _add_older(self, event: type[Event]) -> None:
        upcasters = upcasters_of(event)
        for version in upcasters:
            steps = [function for start, function in upcasters.items() if start >= version]
            # A class of that very version, when there is one, wins over upcasting.
            self._unpackers.setdefault((event.__event_name__, version), _upcasting(event, version, steps))


def _upcasting(event: type[Event], version: int, steps: list[Upcaster]) -> Callable[[bytes], Event]:
    codec, where = _codec(event), f"{event.__event_name__} version {version}"

    def unpack(data: bytes) -> Event:
        fields: Any = msgspec.msgpack.decode(data)
        for number, step in enumerate(steps, start=version):
            try:
                fields = step(fields)
            except Exception as error:
                reason = f"the upcaster from version {number} raised {type(error).__name__}: {error}"
                raise EncodingError(where, reason) from error
            if not isinstance(fields, dict):
                raise EncodingError(where, f"the upcaster from version {number} returned {fields!r}, not a dict")
        return codec.unpack(msgspec.msgpack.encode(fields))

    return unpack


def _full_name(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _order(event: type[Event]) -> tuple[str, int, str]:
    return event.__event_name__, event.__event_version__, _full_name(event)
