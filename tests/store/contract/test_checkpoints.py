from __future__ import annotations

import uuid
from typing import Any

import pytest

from eventray.domain.errors import InvalidId, StoreUnavailable
from eventray.store import EventStore
from eventray.store.spool import PART_BYTES, Spool
from tests.store.conftest import Reopen
from tests.store.contract.conftest import Kind

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def view() -> str:
    """A view that no other test uses."""
    return f"Balances-{uuid.uuid4().hex}"


async def test_a_checkpoint_comes_back_as_it_was_saved(reopen: Reopen, kind: Kind, view: str) -> None:
    store = await reopen()
    await store.save_checkpoint(view, {0: 12, 1: 9}, data=b"old")
    await store.save_checkpoint(view, {0: 13, 1: 9}, data=b"state", fingerprint="f")
    if kind.kept:
        store = await reopen()
    found = await store.load_checkpoint(view)
    assert found is not None
    assert (found.positions, found.data, found.fingerprint) == ({0: 13, 1: 9}, b"state", "f")
    assert found.generation == store.manifest.generation
    assert await store.load_checkpoint(f"{view}-2") is None


async def test_a_checkpoint_in_many_parts_comes_back_whole(store: EventStore, view: str) -> None:
    body = b"".join(n.to_bytes(4) for n in range(3 * PART_BYTES // 4 + 1))
    for wanted in (body, body[1:], b"", body[: 2 * PART_BYTES]):
        with Spool() as spool:
            for at in range(0, len(wanted), 1000):
                spool.write(wanted[at : at + 1000])
            await store.checkpoints.save(view, {0: len(wanted)}, spool, generation=store.manifest.generation)
        found = await store.load_checkpoint(view)
        assert found is not None
        assert (found.positions, found.data) == ({0: len(wanted)}, wanted)


async def test_the_names_of_checkpoints_are_listed_in_order(store: EventStore, view: str) -> None:
    for name in ("b", "é", "a"):
        await store.save_checkpoint(view + name, {})
    names = [name.removeprefix(view) for name in await store.checkpoints.names() if name.startswith(view)]
    assert names == ["a", "b", "é"]


async def test_a_checkpoint_of_another_generation_is_not_trusted(store: EventStore, view: str) -> None:
    await store.checkpoints.save(view, {0: 1}, b"", generation=store.manifest.generation + 1)
    assert await store.load_checkpoint(view) is None


async def test_what_is_no_checkpoint_does_not_replace_one(store: EventStore, view: str) -> None:
    await store.save_checkpoint(view, {0: 0}, b"state")
    impossible: list[tuple[Any, Any, Any]] = [
        (view, {"zero": 1}, b""),
        (view, {0: -1}, b""),
        (view, {0: True}, b""),
        (view, {0: 2**63}, b""),
        (view, {0: 1}, "text"),
        ("", {}, b""),
        (7, {}, b""),
    ]
    for name, positions, data in impossible:
        with pytest.raises((TypeError, ValueError, InvalidId)):
            await store.checkpoints.save(name, positions, data, generation=store.manifest.generation)
    found = await store.load_checkpoint(view)
    assert found is not None
    assert (found.positions, found.data) == ({0: 0}, b"state")


async def test_what_was_given_can_be_changed_without_changing_what_was_saved(store: EventStore, view: str) -> None:
    positions = {0: 0}
    await store.save_checkpoint(view, positions)
    positions[0] = 5
    found = await store.load_checkpoint(view)
    assert found is not None
    assert found.positions == {0: 0}


async def test_closed_checkpoints_refuse(reopen: Reopen, view: str) -> None:
    store = await reopen()
    await store.close()
    for call in (store.checkpoints.load(view), store.checkpoints.names()):
        with pytest.raises(StoreUnavailable):
            await call
