"""Waiting for a condition, with a generous limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LIMIT_S = 60.0


def wait_until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Ask again and again until `condition()` is true; fail after the limit."""
    deadline = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not true within {limit_s} s: {condition}"
        pause.wait(0.05)
