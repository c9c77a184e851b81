"""A Ray for a benchmark, and the bare actor that its figures are compared with."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def own_ray(**settings: Any) -> None:
    """Start a Ray with files of its own that ends with this process; the one of this process if there is one."""
    import ray

    if ray.is_initialized():
        return
    stack = ExitStack()
    atexit.register(stack.close)
    stack.enter_context(ray_files())
    ray.init(include_dashboard=False, log_to_driver=False, **settings)
    stack.callback(ray.shutdown)


@contextmanager
def ray_files() -> Iterator[None]:
    """Let a Ray that is started in the block, here or in a child process, keep its files in a directory that goes."""
    before = dict(os.environ)
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray's sockets lie below it
    (Path(scratch) / "ray").mkdir()
    os.environ.update(SETTINGS, RAY_TMPDIR=scratch)
    os.environ.pop("RAY_ADDRESS", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(scratch, ignore_errors=True)


class Bare:
    """An actor of Ray that does nothing but answer."""

    async def deposit(self, amount: int) -> int:
        """Answer."""
        return amount

    async def pid(self) -> int:
        """Tell which process it is."""
        return os.getpid()

    async def memory_bytes(self) -> int:
        """Tell what its process has in memory."""
        return memory_bytes(os.getpid())


@contextmanager
def bare_actor() -> Iterator[Any]:
    """Give a bare actor that has answered once."""
    import ray

    actor = make_bare()
    try:
        ray.get(actor.deposit.remote(1))
        yield actor
    finally:
        ray.kill(actor)


def make_bare() -> Any:
    """Make a bare actor; it is there when it answers."""
    import ray

    return ray.remote(Bare).options(num_cpus=0).remote()


def memory_bytes(pid: int) -> int:
    """Return what a process has in memory, shared pages counted by its part of them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup does not say Pss")


def cpu_s(pid: int) -> float:
    """Return what a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
