"""A state that is encoded in pieces is read as the same state."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from eventray.domain.errors import EncodingError
from eventray.store.codec import Codec
from eventray.store.pieces import ITEMS, PieceCodec


@dataclass
class State:
    totals: dict[str, Decimal] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    pairs: tuple[tuple[int, str], ...] = ()
    frozen: frozenset[str] = frozenset()
    nested: dict[str, list[int]] | None = None
    count: int = 0


CODEC: Codec[State] = Codec(State, "State")
PIECES = PieceCodec(State, "State")


def filled(items: int) -> State:
    numbers = range(items)
    return State(
        {f"a{n}": Decimal(n) / 100 for n in numbers},
        [f"n{n}" for n in numbers],
        set(numbers),
        tuple((n, str(n)) for n in numbers),
        frozenset(f"f{n}" for n in numbers),
        {str(n): [n] * 3 for n in numbers},
        items,
    )


@pytest.mark.parametrize("items", [0, 1, ITEMS - 1, ITEMS, ITEMS + 1, 2 * ITEMS, 16 * ITEMS + 7, 1 << 16])
def test_the_pieces_are_read_as_the_whole(items: int) -> None:
    state = filled(items)
    pieces = list(PIECES.encode(state))
    assert CODEC.decode(b"".join(pieces)) == state
    assert max(map(len, pieces)) <= 20 * ITEMS


class Name(str):
    __slots__ = ()


def test_an_unusual_value_is_made_plain_as_by_the_codec() -> None:
    state = State(names=[Name(n) for n in range(2 * ITEMS)])
    assert CODEC.decode(b"".join(PIECES.encode(state))) == CODEC.decode(CODEC.encode(state))


def test_a_container_of_another_class_is_refused_as_by_the_codec() -> None:
    state = State(totals=defaultdict(Decimal, {f"a{n}": Decimal(n) for n in range(2 * ITEMS)}))
    with pytest.raises(EncodingError, match="defaultdict"):
        list(PIECES.encode(state))


def test_what_does_not_fit_is_named_with_its_place_in_the_whole() -> None:
    state = filled(5 * ITEMS)
    state.names[3 * ITEMS + 4] = 7  # type: ignore[call-overload]
    with pytest.raises(EncodingError, match=rf"State.names\[{3 * ITEMS + 4}\]"):
        list(PIECES.encode(state))
