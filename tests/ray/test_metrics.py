"""Metrics of an app, read where Prometheus reads them: at the node's endpoint."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import (
    App,
    CommandFailed,
    Dedicated,
    Meta,
    Packed,
    Projection,
    ProjectionStopped,
    Receipt,
    Rejected,
    StaleView,
    query,
)
from eventray.runtime.metrics import METRICS
from tests.bank_app import Account, Deposited, Opened, Poison
from tests.waiting import wait_until

APP = "metrics"
ACCOUNTS, DEPOSITS, REFUSED, REPEATED, FAILED, QUERIES = 2, 40, 7, 3, 5, 4
SHARDS = 2


class Teller(Account):
    """The same in a process of its own."""


class Sums(Projection):
    sums: dict[str, Decimal] = {}

    def apply(self, event: Deposited, meta: Meta) -> None:
        self.sums[meta.id] = self.sums.get(meta.id, Decimal(0)) + event.amount

    @query
    def total(self) -> Decimal:
        return sum(self.sums.values(), Decimal(0))

    @query
    def refuse(self) -> int:
        raise Rejected("not today")


class Careful(Projection, on_error="park", retries=0):
    """Leaves behind what it cannot apply."""

    def apply(self, event: Opened | Poison) -> None:
        if isinstance(event, Poison):
            raise ValueError("it cannot be swallowed")


class Fragile(Projection, on_error="stop", retries=0):
    def apply(self, event: Poison) -> None:
        raise ValueError("it cannot be swallowed")

    @query
    def anything(self) -> int:
        return 0


def scraped(ray: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    """What the metrics of the app are now, by name and the values of the metric's own tags, over all processes."""
    [node] = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    found: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for name, tags, value in re.findall(r"^ray_(eventray_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        given = dict(re.findall(r'(\w+)="([^"]*)"', tags))
        if given["app"] == APP:
            found[name, tuple(given[tag] for tag in METRICS[name].tags)] += float(value)  # type: ignore[assignment]
    return dict(found)


def traffic(runtime: eventray.Runtime, aggregate: type[Account]) -> None:
    """What both classes are sent: the figures above, for each."""
    ids = [f"a{n}" for n in range(ACCOUNTS)]
    for id in ids:
        runtime.get(aggregate, id).open.remote("Ann").result()
    sent = [aggregate.deposit.options(command_id=f"d{n}").to(ids[n % ACCOUNTS], Decimal(2)) for n in range(DEPOSITS)]
    assert not any(isinstance(answer, Exception) for answer in runtime.send_all(sent))
    repeated = [answer for answer in runtime.send_all(sent[:REPEATED]) if isinstance(answer, Receipt)]
    assert [receipt.duplicate for receipt in repeated] == [True] * REPEATED
    for n in range(REFUSED):
        with pytest.raises(Rejected):
            runtime.get(aggregate, ids[n % ACCOUNTS]).deposit.remote(Decimal(-1)).result()
    for _ in range(FAILED):
        with pytest.raises(CommandFailed):
            runtime.get(aggregate, ids[0]).break_down.remote().result()
    runtime.get(aggregate, ids[0]).poison.remote().result()


def queries(runtime: eventray.Runtime) -> None:
    heads = runtime.heads().result()
    for _ in range(QUERIES):
        assert runtime.view(Sums).total.options(after=heads).remote().result() == 2 * 2 * DEPOSITS
    with pytest.raises(Rejected):
        runtime.view(Sums).refuse.remote().result()
    with pytest.raises(StaleView):
        runtime.view(Sums).total.options(after={0: heads[0] + 1}, timeout=0.01).remote().result()
    with pytest.raises(ProjectionStopped):
        runtime.view(Fragile).anything.options(after=heads).remote().result()


def test_what_was_sent_is_what_the_endpoint_of_the_node_tells(ray_cluster: Any, tmp_path: Path) -> None:
    app = App(
        APP,
        aggregates=[Account, Teller],
        projections=[Sums, Careful, Fragile],
        placement={Account: Packed(), Teller: Dedicated(max_active=ACCOUNTS)},
    )
    with eventray.run(app, data=tmp_path / "data", shards=SHARDS) as runtime:
        for aggregate in (Account, Teller):
            traffic(runtime, aggregate)
        queries(runtime)
        heads = runtime.heads().result()
        expected = dict(expectations(heads))
        wait_until(lambda: expected.items() <= scraped(ray_cluster).items())
        found = scraped(ray_cluster)
        assert 0 < found["eventray_shard_commits_total", ("0",)] <= 2 * (ACCOUNTS + 2 * DEPOSITS)
        assert 0 < found["eventray_shard_commit_seconds_total", ("0",)] < 60
        assert (
            found["eventray_view_lag_events", ("Fragile", "Fragile", "0")]
            + found["eventray_view_lag_events", ("Fragile", "Fragile", "1")]
        )
        assert {name for name, _ in found} <= METRICS.keys()


def expectations(heads: Mapping[int, int]) -> Iterator[tuple[tuple[str, tuple[str, ...]], float]]:
    """What the metrics have to be after all that."""
    for name in ("Account", "Teller"):
        yield ("eventray_commands_total", (name, "answered")), ACCOUNTS + DEPOSITS + 1
        yield ("eventray_commands_total", (name, "duplicate")), REPEATED
        yield ("eventray_commands_total", (name, "refused")), REFUSED
        yield ("eventray_commands_total", (name, "failed")), FAILED
        yield ("eventray_activations_active", (name,)), ACCOUNTS
        yield ("eventray_activations_started_total", (name,)), ACCOUNTS
    for shard, head in heads.items():
        yield ("eventray_shard_up", (str(shard),)), 1
        yield ("eventray_shard_position", (str(shard),)), head
        yield ("eventray_shard_events_total", (str(shard),)), head
        yield ("eventray_view_lag_events", ("Sums", "Sums", str(shard))), 0
        yield ("eventray_view_lag_events", ("Careful", "Careful", str(shard))), 0
    yield (
        (
            "eventray_view_events_total",
            (
                "Sums",
                "Sums",
            ),
        ),
        2 * DEPOSITS,
    )
    yield ("eventray_view_queries_total", ("Sums", "Sums", "answered")), QUERIES
    yield ("eventray_view_queries_total", ("Sums", "Sums", "refused")), 1
    yield ("eventray_view_queries_total", ("Sums", "Sums", "stale")), 1
    yield ("eventray_view_queries_total", ("Fragile", "Fragile", "failed")), 1
    yield (
        (
            "eventray_view_stopped",
            (
                "Sums",
                "Sums",
            ),
        ),
        0,
    )
    yield (
        (
            "eventray_view_stopped",
            (
                "Fragile",
                "Fragile",
            ),
        ),
        1,
    )
    yield (
        (
            "eventray_view_up",
            (
                "Fragile",
                "Fragile",
            ),
        ),
        1,
    )
    yield (
        (
            "eventray_view_dead_letters",
            (
                "Careful",
                "Careful",
            ),
        ),
        2,
    )
