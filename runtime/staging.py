"""Staging: the Directory's part in the saves of views. A large one comes in parts, kept in a file until all is here."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from eventray.runtime.remote import answered
from eventray.store.checkpoints import CheckpointStore
from eventray.store.failures import translated
from eventray.store.records import Checkpoint
from eventray.store.spool import PART_BYTES, Spool


class KeepsSaves:
    """What views ask of the actor that has their file."""

    _checkpoints: CheckpointStore

    def __init__(self) -> None:
        self._opened = asyncio.Event()  # the file is there
        self._staging = Staging()

    @answered
    async def load_checkpoint(self, name: str) -> Checkpoint | None:
        """A view's last save."""
        await self._opened.wait()
        return await self._checkpoints.load(name)

    @answered
    async def save_checkpoint(self, name: str, positions: dict[int, int], data: bytes, **facts: Any) -> None:
        """Save a view."""
        await self._opened.wait()
        await self._checkpoints.save(name, positions, data, **facts)

    @answered
    async def stage(self, name: str, token: str, number: int, part: bytes) -> bool:
        """Take a part of a view's save; False: those before it are not here."""
        return self._staging.add(name, token, number, part)

    @answered
    async def save_staged(self, name: str, positions: dict[int, int], token: str, size: int, **facts: Any) -> bool:
        """Save a view whose parts were all taken, `size` bytes; False: they are not here."""
        await self._opened.wait()
        spool = self._staging.take(name, token, size)
        if spool is None:
            return False
        with spool:
            await self._checkpoints.save(name, positions, spool, **facts)
        return True

    @answered
    async def checkpoint_names(self) -> list[str]:
        """The views that have a save."""
        await self._opened.wait()
        return await self._checkpoints.names()


class _Staged(NamedTuple):
    token: str
    spool: Spool


class Staging:
    """One save for each name; another one of the same name takes the place of one that was not ended."""

    def __init__(self) -> None:
        self._staged: dict[str, _Staged] = {}

    def add(self, name: str, token: str, number: int, part: bytes) -> bool:
        """Keep a part of a save; one that is here already is ignored. False: those before it are not here.

        Raises:
            StoreFull, StoreUnavailable: there is no room for it on the disk.
        """
        staged = self._staged.get(name)
        if number == 0 and (staged is None or staged.token != token):
            if staged is not None:
                staged.spool.close()
            staged = self._staged[name] = _Staged(token, Spool())
        at = number * PART_BYTES
        if staged is None or staged.token != token or staged.spool.size_bytes < at:
            return False
        if staged.spool.size_bytes == at:
            try:
                staged.spool.write(part)
            except OSError as error:
                raise translated(error, Path(tempfile.gettempdir())) from error
        return True

    def take(self, name: str, token: str, size_bytes: int) -> Spool | None:
        """All of a save, which is no more here then; None: not all of it is here."""
        staged = self._staged.get(name)
        if staged is None or staged.token != token or staged.spool.size_bytes != size_bytes:
            return None
        del self._staged[name]
        return staged.spool
