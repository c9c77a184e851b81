"""The formats of a store: what each one changed against the one before. 1 is the first, so there is nothing yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventray.domain.errors import StoreMismatch
from eventray.store import schema

Change = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class Step:
    """From one format to the next: what changes in each shard, in `views.db`, and in the fields of `store.json`.

    A change runs within a transaction that is not its own (no `executescript`: it would commit), and touches neither
    `info.format` nor anything outside its file.
    """

    shard: Change
    views: Change
    manifest: Callable[[dict[str, Any]], dict[str, Any]]


STEPS: dict[int, Step] = {}
"""By the format that the step starts from, without a gap up to the one before `schema.FORMAT`."""


def oldest() -> int:
    """Return the oldest format that can be brought to this version's."""
    return min(STEPS, default=schema.FORMAT)


def steps_from(path: Path, found: object) -> list[Step]:
    """Return the steps from the format of a file to this version's; `StoreMismatch` when there is no such way."""
    if type(found) is not int or not oldest() <= found <= schema.FORMAT:
        raise StoreMismatch(str(path), "format", schema.FORMAT, found)
    return [STEPS[number] for number in range(found, schema.FORMAT)]


def stepped(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Return what a `store.json` of an older format says in this version's form; raises as `steps_from`."""
    for step in steps_from(path, raw["format"]):
        raw = step.manifest(raw)
    return raw
