"""The last step of a reshard: the new files take the place of those of before, in a way that a crash cannot spoil.

The new shards stand ready in `resharding/`, and `store.json`, already the new one, says that their move is unfinished:
whoever reads it next ends the move. What was there before stays, as a store of its own, in `generation-<n>/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventray.store.files import sync

STAGING = "resharding"
FILES = ("db", "head")


@dataclass(frozen=True, slots=True)
class Move:
    """Where the files of before go, and how many shards those are."""

    folder: str
    shards: int

    @classmethod
    def parsed(cls, raw: Any) -> Move:
        """Return the move that `store.json` names; ValueError, KeyError or TypeError when that is none."""
        move = cls(raw["folder"], int(raw["shards"]))
        if Path(move.folder).name != move.folder:
            raise ValueError(f"{move.folder!r} is no name of a folder")
        return move


def shard_file(index: int, suffix: str) -> str:
    """Return the name of one of a shard's files: `db`, `lock` or `head`."""
    return f"shard-{index:04d}.{suffix}"


def finish_move(directory: Path, move: Move) -> None:
    """Move the shards of before out of the way, and those of `resharding/` here; OSError.

    Runs under the manifest's lock, any number of times: what was moved already is left alone.
    """
    kept, staging = directory / move.folder, directory / STAGING
    for name in (shard_file(index, suffix) for index in range(move.shards) for suffix in FILES):
        if (directory / name).exists() and not (kept / name).exists():
            (directory / name).rename(kept / name)
    sync(kept)
    if not staging.exists():
        return
    for path in sorted(staging.iterdir()):
        path.rename(directory / path.name)
    sync(directory)
    staging.rmdir()
