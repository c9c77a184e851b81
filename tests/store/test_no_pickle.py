"""Data at rest is MessagePack, JSON and SQLite: nothing that runs code when it is read."""

from __future__ import annotations

import pickletools
from pathlib import Path

import eventray.store
from tests.store.sample import opened

PICKLERS = ("pickle", "cloudpickle", "dill", "shelve", "marshal")


def test_nothing_on_disk_is_pickled(sound_store: Path) -> None:
    for path in Path(eventray.store.__file__).parent.glob("*.py"):
        lines = [line.split() for line in path.read_text().splitlines()]
        imported = {words[1].split(".")[0] for words in lines if len(words) > 1 and words[0] in ("import", "from")}
        assert imported.isdisjoint(PICKLERS), path
    with opened(sound_store) as connection:
        stored = connection.execute("SELECT data FROM events UNION ALL SELECT meta FROM events WHERE meta IS NOT NULL")
        assert [data for (data,) in stored if is_pickle(data)] == []
    assert is_pickle(b"\x80\x04K\x01.")


def is_pickle(data: bytes) -> bool:
    try:
        return [op.name for op, _, _ in pickletools.genops(data)][:1] == ["PROTO"]
    except ValueError:
        return False
