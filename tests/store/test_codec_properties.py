"""For any annotation that is allowed and any value that fits: exact, canonical, readable by anyone."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventray import EncodingError
from eventray.store.codec import Codec
from tests.store.values import ANNOTATED, same

CODECS: dict[int, Codec[Any]] = {i: Codec(kind, "value") for i, (kind, _) in enumerate(ANNOTATED)}
CANONICAL: dict[int, Codec[Any]] = {i: Codec(kind, "value", canonical=True) for i, (kind, _) in enumerate(ANNOTATED)}
CHOSEN = st.sampled_from(range(len(ANNOTATED))).flatmap(lambda i: st.tuples(st.just(i), ANNOTATED[i][1]))

MANY = settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MANY
@given(CHOSEN)
def test_a_value_comes_back_exactly(chosen: tuple[int, Any]) -> None:
    number, value = chosen
    for codec in (CODECS[number], CANONICAL[number]):
        back = codec.decode(codec.encode(value))
        assert same(back, value), (ANNOTATED[number][0], value, back)


@MANY
@given(CHOSEN)
def test_plain_msgpack_reads_the_bytes(chosen: tuple[int, Any]) -> None:
    number, value = chosen
    data = CODECS[number].encode(value)
    msgpack.unpackb(data, strict_map_key=False, timestamp=3)


@MANY
@given(CHOSEN, CHOSEN)
def test_a_value_of_another_annotation_is_refused_or_comes_back_equal(
    chosen: tuple[int, Any], other: tuple[int, Any]
) -> None:
    """Nothing is ever stored that reads back as something else."""
    codec, value = CODECS[chosen[0]], other[1]
    try:
        data = codec.encode(value)
    except EncodingError:
        return
    assert codec.decode(data) == value, (ANNOTATED[chosen[0]][0], value)
