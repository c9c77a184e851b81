"""Publishing metrics through Ray: every few seconds, in each process of an app, from counts that are kept anyway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from ray.util.metrics import Counter, Gauge

from eventray.runtime.metrics import METRICS, Sample

log = logging.getLogger("eventray.runtime")

PUBLISH_S = 5.0  # Ray passes on what it was told every 10 s

Source = Callable[[], Awaitable[Iterable[Sample]]]


async def publish_regularly(app_name: str, source: Source) -> None:
    """Publish what `source` gives, again and again, for ever. What fails is logged, and tried again the next time."""
    publisher = Publisher(app_name)
    while True:
        try:
            publisher.publish(await source())
        except Exception:  # whatever it is, it must not end what is measured
            log.exception("metrics of %s", app_name)
        await asyncio.sleep(PUBLISH_S)


class Publisher:
    """The metrics of one process of an app."""

    def __init__(self, app_name: str) -> None:
        self._app_name = app_name
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._told: dict[tuple[str, tuple[str, ...]], float] = {}

    def publish(self, samples: Iterable[Sample]) -> None:
        """Tell Ray how the metrics stand; of a counter how much more it is than the last time."""
        for name, value, values in samples:
            metric = METRICS[name]
            tags = {"app": self._app_name, **dict(zip(metric.tags, values, strict=True))}
            keys = tuple(tags)
            if metric.kind == "gauge":
                if name not in self._gauges:
                    self._gauges[name] = Gauge(name, metric.says, keys)
                self._gauges[name].set(value, tags)
            elif more := value - self._told.get((name, values), 0):
                if name not in self._counters:
                    self._counters[name] = Counter(name, metric.says, keys)
                self._counters[name].inc(more, tags)
                self._told[name, values] = value
