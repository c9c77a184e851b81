"""docs/metrics.md names every metric as it is declared, no other one, and its alerts name metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

from eventray.runtime.metrics import METRICS, Metric

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"


def test_the_page_names_each_metric_with_its_kind_tags_and_meaning() -> None:
    rows = [row.strip("| ").split(" | ") for row in PAGE.read_text().splitlines() if row.startswith("| `eventray_")]
    listed = [
        Metric(name.strip("`"), "counter" if kind == "counter" else "gauge", tuple(re.findall(r"`(\w+)`", tags)), says)
        for name, kind, tags, says in rows
    ]
    assert listed == list(METRICS.values())


def test_the_alerts_name_metrics_that_there_are_and_their_tags() -> None:
    _, _, alerts = PAGE.read_text().partition("## Alerts")
    for line in alerts.splitlines():
        for name in re.findall(r"ray_(eventray_\w+)", line):
            assert name in METRICS
            for tags in re.findall(r"by \(([\w, ]+)\)", line):
                assert set(tags.split(", ")) <= {"app", *METRICS[name].tags}
    assert "ray_eventray_" in alerts


def test_names_are_as_prometheus_wants_them_and_no_tag_is_an_id() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"eventray_(commands|activations|shard|view|tail)(_[a-z]+)*", name)
        assert name.endswith("_total") == (metric.kind == "counter")
        assert set(metric.tags) <= {"aggregate", "outcome", "shard", "unit", "view"}
