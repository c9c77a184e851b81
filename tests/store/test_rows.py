from __future__ import annotations

from eventray.store.rows import command_key

UUID7 = "0190f3c0-1234-7abc-8def-0123456789ab"


def test_keys_of_time_ordered_ids_are_ordered_in_time() -> None:
    assert command_key(b"A/1", UUID7)[:6] == bytes.fromhex("0190f3c01234")
    assert command_key(b"A/1", UUID7) != command_key(b"A/2", UUID7)
    assert len(command_key(b"A/1", "x")) == 16
