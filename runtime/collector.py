"""How Python's garbage collector is to behave in the engine's processes."""

from __future__ import annotations

import gc

COLLECT_AFTER_OBJECTS = 20_000  # a batch makes thousands of short-lived objects and no cycles


def spare_the_collector() -> None:
    """Ray and the app's modules are for ever: a full collection need not look at them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
