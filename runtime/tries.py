"""Tries: what becomes of an event that could not be applied, as its projection says."""

from __future__ import annotations

from eventray.domain.projection import OnError
from eventray.runtime.model import ProjectionModel
from eventray.runtime.viewstate import Failure

RETRY_APPLY_S = 0.05  # until it is tried again; then twice as long each time


class Tries:
    """Counts how often each event of a page was tried."""

    def __init__(self, model: ProjectionModel) -> None:
        self._model = model
        self._failures: dict[tuple[int, int], int] = {}  # by shard and position

    def after(self, failure: Failure) -> float | OnError:
        """Seconds until it is tried again; or, when it was tried often enough, whether to park it or to stop."""
        place = failure.record.shard, failure.record.position
        failures = self._failures[place] = self._failures.get(place, 0) + 1
        if failures <= self._model.retries:
            return RETRY_APPLY_S * 2.0 ** (failures - 1)
        return self._model.on_error
