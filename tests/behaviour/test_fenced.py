"""Two engines on one file, the first with a lock on another file than the second: it cannot be ended, only fenced."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

import eventray
from eventray import App, EventRayError, Runtime, ShardFenced
from tests.bank_app import Account, make_app


def make_locks_useless(data: Path) -> None:
    """Put a copy in the place of each lock: who holds the old one does not hold the new one."""
    for lock in data.glob("*.lock"):
        copy = lock.with_suffix(".copy")
        shutil.copy(lock, copy)
        copy.replace(lock)


def append(runtime: Runtime) -> None:
    runtime.get(Account, "alice").deposit.remote(Decimal(1)).result()


def be_refused(runtime: Runtime) -> None:
    runtime.get(Account, "alice").withdraw.remote(Decimal(10)).result()


def change_nothing(runtime: Runtime) -> None:
    runtime.get(Account, "alice").open.remote("Alice").result()


@pytest.mark.parametrize("ask", [append, be_refused, change_nothing])
def test_an_engine_whose_file_was_taken_over_neither_appends_nor_refuses(
    tmp_path: Path, ask: Callable[[Runtime], None]
) -> None:
    def app() -> App:
        return make_app(f"fenced-{name}", "packed")

    name = uuid.uuid4().hex[:8]
    with eventray.run(app(), data=tmp_path, shards=1, local=True) as old:
        old.get(Account, "alice").open.remote("Alice").result()
        make_locks_useless(tmp_path)
        with eventray.run(app(), data=tmp_path, local=True) as new:
            new.get(Account, "alice").deposit.remote(Decimal(20)).result()  # now 10 may be withdrawn
            for _ in range(2):
                with pytest.raises(ShardFenced) as caught:
                    ask(old)
                assert caught.value.epoch < caught.value.current
            append(new)
            events = [type(event).__name__ for event, _ in new.history(Account, "alice")]
            assert events == ["Opened", "Deposited", "Deposited"]
        with pytest.raises(EventRayError):
            ask(old)  # also when the new one is gone
