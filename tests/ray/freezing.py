"""An app whose processes can be made to stop (SIGSTOP) at an exact point, and how to find the processes of an app."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import ray

from eventray import Aggregate, App, Dedicated, Event, Meta, Packed, Projection, Rejected, Runtime, command, query
from eventray.runtime.remote import DIRECTORY
from eventray.store.writing import WriteConnection

Step = Literal["_insert", "_adopt"]  # within the transaction, all written; after the commit, before the answer


class Counted(Event):
    by: int


class Tally(Aggregate):
    """Counts; each command writes the process that it runs in to a file, so that its runs can be counted."""

    count: int = 0

    @command
    def add(self, runs: str) -> Counted:
        _note(runs)
        return Counted(os.getpid())

    @command
    def refuse(self, runs: str) -> Counted:
        _note(runs)
        raise Rejected(f"seen: {self.count}")

    @command
    def compute(self, seconds: float) -> Counted:
        """Keep the event loop of its process from everything else."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return Counted(os.getpid())

    @command
    def freeze_in_commit(self, runs: str, step: Step) -> Counted:
        """The first time, its process stops at that step of the next commit: of its own."""
        first = not Path(runs).exists()
        _note(runs)
        if first:
            freeze_at(step)
        return Counted(os.getpid())

    def apply(self, event: Counted) -> None:
        self.count += 1


class Totals(Projection):
    counts: dict[str, int] = {}

    def apply(self, event: Counted, meta: Meta) -> None:
        self.counts[meta.id] = self.counts.get(meta.id, 0) + 1

    @query
    def of(self, ids: list[str]) -> int:
        return sum(self.counts.get(id, 0) for id in ids)


def _note(runs: str) -> None:
    with Path(runs).open("a") as file:
        file.write(f"{os.getpid()}\n")


def freeze_at(step: Step) -> None:
    """Make this process stop itself once its shard's writer has taken that step."""
    original: Callable[..., Any] = getattr(WriteConnection, step)

    def freeze(self: WriteConnection, *args: Any) -> Any:
        result = original(self, *args)
        os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(WriteConnection, step, freeze)


def make_app(name: str, placement: str) -> App:
    where = Dedicated(max_active=4) if placement == "dedicated" else Packed()
    return App(name, aggregates=[Tally], projections=[Totals], placement={Tally: where})


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def pid_of_actor(app: str, name: str) -> int:
    actor: Any = ray.get_actor(name, namespace=app)
    pid: Any = ray.get(actor.pulse.remote())
    return int(pid)


def pid_of_shard(runtime: Runtime, id: str) -> int:
    return runtime.status().result().shards[runtime._transport.shard_of(f"Tally/{id}")].pid


def pid_of_view(runtime: Runtime, id: str) -> int:
    return runtime.status().result().views[0].pid


def pid_of_directory(runtime: Runtime, id: str) -> int:
    return pid_of_actor(runtime.app_name, DIRECTORY)


def pid_of_activation(runtime: Runtime, id: str) -> int:
    return pid_of_actor(runtime.app_name, f"Tally/{id}")
