"""Metrics: what an app counts and measures, declared once. Nothing here knows who reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from eventray.runtime.outcomes import Outcomes
from eventray.runtime.status import AggregateStatus, ShardStatus, ViewStatus
from eventray.store.shard import Written


class Metric(NamedTuple):
    """One metric. Every one of them has the tag `app` besides its own."""

    name: str
    kind: Literal["counter", "gauge"]
    tags: tuple[str, ...]
    says: str


class Sample(NamedTuple):
    """What a metric is now; a counter: since the process began. `tags` are values, in the order of the metric's."""

    name: str
    value: float
    tags: tuple[str, ...] = ()


@dataclass(slots=True)
class Saved:
    """The saves of a view since its process began: how many, the time they took, and the size of the last one."""

    saves: int = 0
    seconds: float = 0.0
    size_bytes: int = 0


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "eventray_commands_total",
            "counter",
            ("aggregate", "outcome"),
            "Commands answered, by outcome: answered (a receipt), duplicate (the receipt of an earlier send), refused "
            "(Rejected or ConcurrencyConflict), failed (any other error), overloaded (not taken)",
        ),
        Metric("eventray_activations_active", "gauge", ("aggregate",), "Instances in memory"),
        Metric("eventray_activations_started_total", "counter", ("aggregate",), "Instances loaded"),
        Metric("eventray_activations_passivated_total", "counter", ("aggregate",), "Instances put out of memory"),
        Metric(
            "eventray_activations_restarts_total",
            "counter",
            ("aggregate",),
            "Dedicated instances whose process crashed and came back",
        ),
        Metric("eventray_shard_up", "gauge", ("shard",), "1 while the shard serves, 0 while it is unavailable"),
        Metric("eventray_shard_position", "gauge", ("shard",), "The last position of the shard's log"),
        Metric("eventray_shard_commits_total", "counter", ("shard",), "Groups of appends that were committed together"),
        Metric("eventray_shard_commit_seconds_total", "counter", ("shard",), "Seconds that these commits took"),
        Metric("eventray_shard_events_total", "counter", ("shard",), "Events written"),
        Metric("eventray_shard_written_bytes_total", "counter", ("shard",), "Bytes of these events, with metadata"),
        Metric("eventray_shard_waiting_commands", "gauge", ("shard",), "Commands that wait for packed instances"),
        Metric("eventray_view_up", "gauge", ("view", "unit"), "1 while the view answers, 0 while it is unavailable"),
        Metric("eventray_view_stopped", "gauge", ("view", "unit"), "1 once the view has stopped at an event, else 0"),
        Metric(
            "eventray_view_lag_events",
            "gauge",
            ("view", "unit", "shard"),
            "Events of the shard's log that the view has still to look at",
        ),
        Metric("eventray_view_events_total", "counter", ("view", "unit"), "Events applied"),
        Metric(
            "eventray_view_queries_total",
            "counter",
            ("view", "unit", "outcome"),
            "Queries answered, by outcome: answered, refused (Rejected), failed (any other error), stale (StaleView), "
            "overloaded (not taken)",
        ),
        Metric(
            "eventray_view_waiting_queries",
            "gauge",
            ("view", "unit"),
            "Queries that wait for events which they ask to be in",
        ),
        Metric("eventray_view_dead_letters", "gauge", ("view", "unit"), "Events left behind as dead letters"),
        Metric("eventray_view_saves_total", "counter", ("view", "unit"), "Saves of the view"),
        Metric("eventray_view_save_seconds_total", "counter", ("view", "unit"), "Seconds that these saves took"),
        Metric("eventray_view_saved_bytes", "gauge", ("view", "unit"), "Bytes of the last save"),
        Metric("eventray_tail_kept_bytes", "gauge", ("shard",), "Bytes of newest events kept for the views of a node"),
        Metric("eventray_tail_waiting_reads", "gauge", ("shard",), "Reads of views that wait for news of the shard"),
    )
}


def of_commands(aggregate: str, outcomes: Outcomes) -> Iterator[Sample]:
    """The commands of an aggregate class."""
    for outcome, count in outcomes.items():
        yield Sample("eventray_commands_total", count, (aggregate, outcome))


def of_activations(aggregates: Iterable[AggregateStatus]) -> Iterator[Sample]:
    """The activations of some classes, as far as they live here."""
    for one in aggregates:
        yield Sample("eventray_activations_active", one.active, (one.name,))
        yield Sample("eventray_activations_started_total", one.started, (one.name,))
        yield Sample("eventray_activations_passivated_total", one.passivated, (one.name,))
        if one.restarts is not None:
            yield Sample("eventray_activations_restarts_total", one.restarts, (one.name,))


def of_shard(index: int, position: int, written: Written) -> Iterator[Sample]:
    """A shard, in its process."""
    tags = (str(index),)
    yield Sample("eventray_shard_position", position, tags)
    yield Sample("eventray_shard_commits_total", written.commits, tags)
    yield Sample("eventray_shard_commit_seconds_total", written.seconds, tags)
    yield Sample("eventray_shard_events_total", written.events, tags)
    yield Sample("eventray_shard_written_bytes_total", written.size_bytes, tags)


def of_view(status: ViewStatus, outcomes: Outcomes, waiting: int, saved: Saved) -> Iterator[Sample]:
    """A view, in its process."""
    tags = _tags(status)
    yield Sample("eventray_view_events_total", status.applied, tags)
    yield Sample("eventray_view_dead_letters", status.parked, tags)
    yield Sample("eventray_view_waiting_queries", waiting, tags)
    yield Sample("eventray_view_saves_total", saved.saves, tags)
    yield Sample("eventray_view_save_seconds_total", saved.seconds, tags)
    yield Sample("eventray_view_saved_bytes", saved.size_bytes, tags)
    for outcome, count in outcomes.items():
        yield Sample("eventray_view_queries_total", count, (*tags, outcome))


def of_parts(shards: Iterable[ShardStatus], views: Iterable[ViewStatus]) -> Iterator[Sample]:
    """How the parts of an app stand, as its Directory sees them."""
    heads = {shard.index: shard.head for shard in shards if shard.state == "serving"}
    for shard in shards:
        yield Sample("eventray_shard_up", shard.state == "serving", (str(shard.index),))
    for view in views:
        tags = _tags(view)
        yield Sample("eventray_view_up", view.state != "unavailable", tags)
        if view.state == "unavailable":
            continue  # as far as known it stands where it stood
        yield Sample("eventray_view_stopped", view.state == "stopped", tags)
        for index, head in heads.items():
            lag = max(0, head - view.positions.get(index, 0))
            yield Sample("eventray_view_lag_events", lag, (*tags, str(index)))


def _tags(view: ViewStatus) -> tuple[str, str]:
    return view.name, str(view.unit)
