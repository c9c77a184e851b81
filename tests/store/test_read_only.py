"""A store whose files may not be written, or not be read: refused by its path, with nothing made or changed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.workload import opened

ROOT = Path(__file__).parents[2]
NOBODY = 65534

_OPENER = """
import asyncio, os, sys
import aiosqlite, concurrent.futures.thread
from pathlib import Path
from eventray.domain.errors import StoreUnavailable
from tests.store.workload import opened

async def main():
    await (await opened(Path(sys.argv[1]))).close()

if os.getuid() == 0:  # who may do anything
    os.setgid(65534), os.setuid(65534)
try:
    asyncio.run(main())
except StoreUnavailable as error:
    print(error.path, error.reason)
"""


@pytest.fixture
def data() -> Iterator[Path]:
    """A closed store that belongs to the user who will open it."""
    with tempfile.TemporaryDirectory() as parent:  # pytest's own are closed to other users
        Path(parent).chmod(0o755)
        directory = Path(parent) / "data"
        asyncio.run(make(directory))
        if os.getuid() == 0:
            for path in (directory, *directory.iterdir()):
                os.chown(path, NOBODY, NOBODY)
        yield directory
        directory.chmod(0o700)


async def make(directory: Path) -> None:
    async with await opened(directory) as store:
        await store.save_checkpoint("Balances", await store.heads())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".lock"}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (".", 0o500),
        (".", 0o000),
        ("store.json", 0o000),
        ("shard-0000.db", 0o400),
        ("shard-0000.db", 0o000),
        ("shard-0001.head", 0o400),
        ("shard-0001.lock", 0o400),
        ("views.db", 0o400),
        ("views.lock", 0o400),
    ],
)
def test_a_store_that_may_not_be_written_is_refused_by_its_path_and_stays_as_it_is(
    data: Path, name: str, mode: int
) -> None:
    before = contents(data)
    (data / name).chmod(mode)
    opener = [sys.executable, "-c", _OPENER, str(data)]
    done = subprocess.run(opener, cwd=ROOT, capture_output=True, text=True, check=False)
    assert str(data / name) in done.stdout, done.stderr
    (data / name).chmod(0o700)
    after = contents(data)
    assert after.keys() == before.keys()
    assert {n for n in after if after[n] != before[n]} <= {"shard-0000.db", "shard-0001.db"}  # their epochs
