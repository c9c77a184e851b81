"""The remote end of the checkpoints: views save with the Directory, large ones part by part."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from eventray.domain.errors import StoreUnavailable
from eventray.runtime.remote import call_patiently
from eventray.store.records import Checkpoint
from eventray.store.spool import PART_BYTES, Spool, whole


class RemoteCheckpoints:
    """The views' saves, kept by the Directory; `close` closes this end only."""

    def __init__(self, directory: Any) -> None:
        self._directory = directory
        self._closed = False

    async def save(
        self,
        name: str,
        positions: Mapping[int, int],
        data: bytes | Spool,
        *,
        generation: int,
        fingerprint: str = "",
        witness: bool = True,
    ) -> None:
        """Keep state and positions together."""
        facts = {"generation": generation, "fingerprint": fingerprint, "witness": witness}
        if not isinstance(data, Spool) or data.size_bytes <= PART_BYTES:
            await self._call(self._directory.save_checkpoint, name, dict(positions), whole(data), **facts)
            return
        token = uuid.uuid4().hex
        while not await self._stage(name, token, data) or not await self._call(
            self._directory.save_staged, name, dict(positions), token, data.size_bytes, **facts
        ):
            pass  # a new Directory knows nothing of what the one before was sent

    async def _stage(self, name: str, token: str, spool: Spool) -> bool:
        for number, part in enumerate(spool.parts()):
            if not await self._call(self._directory.stage, name, token, number, part):
                return False
        return True

    async def load(self, name: str) -> Checkpoint | None:
        """The last save, or None."""
        return await self._call(self._directory.load_checkpoint, name)  # type: ignore[no-any-return]

    async def names(self) -> list[str]:
        """The names that have one."""
        return await self._call(self._directory.checkpoint_names)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Make no more calls."""
        self._closed = True

    async def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if self._closed:
            raise StoreUnavailable("views.db", "this end of it is closed")
        # the Directory comes back, or this view ends with its app
        return await call_patiently(method, *args, patience_s=float("inf"), **kwargs)
