"""History as data (`pip install 'eventray[data]'`): what goes with `runtime.to_dataset()` and its like."""

from eventray.runtime.dataset import heads_of

__all__ = ["heads_of"]
