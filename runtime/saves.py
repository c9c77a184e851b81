"""Saves of one unit of a view: where it begins, and what it writes so that it need not begin there again."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from eventray.runtime.metrics import Saved
from eventray.runtime.model import ProjectionModel
from eventray.runtime.units import Unit
from eventray.runtime.viewstate import ViewState
from eventray.store.failures import translated
from eventray.store.port import CheckpointPort
from eventray.store.spool import Spool

log = logging.getLogger("eventray.runtime")


class Saves:
    """Loads and writes whole states.

    Attributes:
        so_far: how often that was done, for the metrics.
    """

    def __init__(self, checkpoints: CheckpointPort, model: ProjectionModel, unit: Unit, generation: int) -> None:
        self.so_far = Saved()
        self._checkpoints = checkpoints
        self._model = model
        self._unit = unit
        self._name = str(unit)
        self._generation = generation

    async def load(self, shards: Iterable[int]) -> ViewState:
        """The state that was saved last, or the first one."""
        state = ViewState(self._model, shards, self._unit.partition)
        saved = await self._checkpoints.load(self._name)
        if saved is None:
            return state
        if saved.generation != self._generation or saved.fingerprint != self._model.fingerprint:
            log.warning("view %s: its save is of another store or another class; it is built anew", self._name)
            return state
        state.restore(saved)
        return state

    async def write(self, state: ViewState) -> None:
        """Save a state as it is when this is called; in memory are little more than itself and a part of its save.

        Raises:
            EncodingError: a value does not fit its annotation.
            EventRayError: it was not saved.
        """
        started, positions = time.monotonic(), dict(state.positions)
        with _spooled(state) as spool:
            await self._checkpoints.save(
                self._name, positions, spool, generation=self._generation, fingerprint=self._model.fingerprint
            )
            self.so_far.saves += 1
            self.so_far.seconds += time.monotonic() - started
            self.so_far.size_bytes = spool.size_bytes


def _spooled(state: ViewState) -> Spool:
    try:
        return state.spool()
    except OSError as error:
        raise translated(error, Path(tempfile.gettempdir())) from error
