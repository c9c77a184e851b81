"""What a view has in memory while it saves, and saves whose parts go astray."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventray import Event, Projection
from eventray.domain.errors import EncodingError
from eventray.runtime.model import projection_model
from eventray.runtime.saves import Saves
from eventray.runtime.staging import Staging
from eventray.runtime.units import Unit
from eventray.runtime.viewstate import ViewState
from eventray.store import CheckpointStore
from eventray.store.spool import PART_BYTES

KEYS, TEXT = 20_000, "words " * 170  # ASCII: of other text Python keeps the UTF-8, once made, in the str itself


class Said(Event):
    text: str


class Texts(Projection):
    by_key: dict[str, str] = {}
    seen: set[int] = set()

    def apply(self, event: Said) -> None:
        raise NotImplementedError


MODEL = projection_model(Texts, [Said])


def large_state() -> ViewState:
    state = ViewState(MODEL, [0, 1])
    assert isinstance(state.view, Texts)
    state.view.by_key.update((f"key-{n}", f"{n} {TEXT}") for n in range(KEYS))
    state.view.seen.update(range(KEYS))
    state.positions.update({0: 7, 1: 9})
    state.parked[1].update({3, 5})
    return state


@pytest.fixture
async def checkpoints(tmp_path: Path) -> AsyncIterator[CheckpointStore]:
    opened = await CheckpointStore.open(tmp_path, run="r")
    yield opened
    await opened.close()


async def test_while_a_view_saves_it_has_little_more_in_memory_than_its_state(checkpoints: CheckpointStore) -> None:
    saves = Saves(checkpoints, MODEL, Unit("Texts"), generation=1)
    tracemalloc.start()
    try:
        state = large_state()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        await saves.write(state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > saves.so_far.size_bytes > 15 * PART_BYTES
    assert peak < 1.25 * size
    again = await saves.load([0, 1])
    assert (again.view, again.positions, again.parked) == (state.view, state.positions, state.parked)


def test_parts_that_come_twice_or_out_of_turn_make_no_save_that_is_not_whole() -> None:
    staging, parts = Staging(), [bytes([n]) * PART_BYTES for n in range(3)]
    assert not staging.add("Texts", "one", 1, parts[1])
    for number in (0, 0, 1, 0, 1):
        assert staging.add("Texts", "one", number, parts[number])
    assert not staging.add("Texts", "one", 3, b"")
    assert staging.take("Texts", "one", 3 * PART_BYTES) is None
    assert not staging.add("Texts", "another", 2, parts[2])
    assert staging.add("Texts", "one", 2, parts[2])
    assert staging.take("Other", "one", 3 * PART_BYTES) is None
    spool = staging.take("Texts", "one", 3 * PART_BYTES)
    assert spool is not None
    with spool:
        assert list(spool.parts()) == parts
    assert staging.take("Texts", "one", 3 * PART_BYTES) is None


def test_another_save_of_a_view_takes_the_place_of_one_that_was_not_ended() -> None:
    staging = Staging()
    assert staging.add("Texts", "one", 0, bytes(PART_BYTES))
    assert staging.add("Texts", "two", 0, b"two")
    assert not staging.add("Texts", "one", 1, b"one")
    spool = staging.take("Texts", "two", 3)
    assert spool is not None
    with spool:
        assert list(spool.parts()) == [b"two"]


def test_a_value_that_does_not_fit_is_named_and_leaves_no_file_open() -> None:
    state = large_state()
    assert isinstance(state.view, Texts)
    state.view.by_key[f"key-{KEYS - 1}"] = 7  # type: ignore[assignment]
    with pytest.raises(EncodingError, match=f"Texts.by_key.'key-{KEYS - 1}'"):
        state.spool()
