from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventray.store import EventStore, NewRecord

ALICE = "Account/alice"


Batches = st.lists(
    st.tuples(st.integers(0, 4), st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=5)), max_size=4)),
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=Batches)
async def test_what_is_read_is_what_was_appended(tmp_path_factory: pytest.TempPathFactory, batches: list) -> None:  # type: ignore[type-arg]
    expected: dict[str, list[tuple[bytes, bytes, str | None]]] = {}
    async with await EventStore.open(tmp_path_factory.mktemp("store"), app="a", shards=2, durability="os") as store:
        for number, (who, bodies) in enumerate(batches):
            id = f"c{number}" if number % 2 else None
            records = [NewRecord("Noted", data, meta) for data, meta in bodies]
            stream = f"Account/{who}"
            before = expected.setdefault(stream, [])
            await store.append(stream, records, command_id=id, expected_version=len(before))
            before += [(data, meta, id) for data, meta in bodies]
        for stream, wanted in expected.items():
            assert [(r.data, r.meta, r.command_id) async for r in store.read(stream)] == wanted
