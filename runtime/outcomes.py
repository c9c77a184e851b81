"""Outcomes: in which way commands and queries ended, counted."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from eventray.domain.errors import ConcurrencyConflict, Rejected

Outcome = Literal["answered", "duplicate", "refused", "failed", "overloaded", "stale"]
Outcomes = Counter[Outcome]  # how often what was asked of somebody ended in which way


def outcome_of(error: BaseException) -> Outcome:
    """How a command or query ended that got an error."""
    return "refused" if isinstance(error, Rejected | ConcurrencyConflict) else "failed"


def with_refused(outcomes: Outcomes, refused: int) -> Outcomes:
    """The outcomes and what was not even taken."""
    not_taken: Outcomes = Counter({"overloaded": refused})
    return outcomes + not_taken
