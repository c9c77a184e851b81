"""given / when / then for aggregates and projections: pure, without a runtime."""

from eventray.domain.testing import given

__all__ = ["given"]
