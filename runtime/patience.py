"""Patience: who follows the shards waits for one that cannot be reached, and asks again until it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from eventray.domain.errors import ShardFenced, ShardUnavailable, StoreUnavailable

log = logging.getLogger("eventray.runtime")
T = TypeVar("T")

RETRY_S = 0.2
RETRY_LOST_S = 1.0  # when its node or file is gone
PASSING = (ShardUnavailable, StoreUnavailable, ShardFenced)  # the shard, or its file, is back in a while


async def until_back(who: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do something with a shard, again and again while that cannot be reached; raises what else it raises."""
    while True:
        try:
            return await work()
        except PASSING as error:
            log.info("%s waits: %s", who, error)
            lost = isinstance(error, ShardUnavailable) and error.lost
            await asyncio.sleep(RETRY_LOST_S if lost else RETRY_S)
