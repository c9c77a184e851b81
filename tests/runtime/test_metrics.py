"""What the Directory makes of how an app's parts stand."""

from __future__ import annotations

from eventray.runtime.metrics import Sample, of_parts
from eventray.runtime.status import ShardStatus, ViewStatus


def test_what_is_unavailable_is_told_and_no_lag_is_made_up_for_it() -> None:
    shards = [ShardStatus(0, "serving", head=10), ShardStatus(1, "unavailable")]
    views = [
        ViewStatus("Balances", "following", {0: 7, 1: 99}, partition=2),
        ViewStatus("Top", "unavailable", {}, version=2),
    ]
    assert list(of_parts(shards, views)) == [
        Sample("eventray_shard_up", 1, ("0",)),
        Sample("eventray_shard_up", 0, ("1",)),
        Sample("eventray_view_up", 1, ("Balances", "Balances#2")),
        Sample("eventray_view_stopped", 0, ("Balances", "Balances#2")),
        Sample("eventray_view_lag_events", 3, ("Balances", "Balances#2", "0")),
        Sample("eventray_view_up", 0, ("Top", "Top@2")),
    ]


def test_a_view_that_is_at_positions_nobody_has_yet_is_not_behind() -> None:
    [*_, lag] = of_parts([ShardStatus(0, "serving", head=5)], [ViewStatus("Balances", "stopped", {0: 6}, partition=2)])
    assert lag == Sample("eventray_view_lag_events", 0, ("Balances", "Balances#2", "0"))
