"""Order and exactly once under random kills: several clients send numbered commands while processes are killed.

When is decided by counts of answers, and whom by a seed, not by time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ray.util.state.exception import RayStateApiException

import eventray
from eventray import Command, Receipt, Runtime
from tests.bank_app import Account, make_app

CLIENTS, INSTANCES, EACH = 4, 3, 300
KILLS = 6
COUNTS = CLIENTS * INSTANCES * EACH
CLIENT_UNIT = 10_000  # client c sends the amounts c * CLIENT_UNIT + 1, 2, 3 ...


class Killer:
    """Kills a process after so many answers, again and again."""

    def __init__(self, runtime: Runtime, app: str, seed: int) -> None:
        self.killed: list[str] = []
        self._runtime = runtime
        self._app = app
        self._chance = random.Random(seed)
        self._due = sorted(self._chance.sample(range(COUNTS // 20, COUNTS - COUNTS // 10), KILLS))
        self._answers = 0
        self._lock = threading.Lock()

    def answered(self) -> None:
        """Count an answer; the thread that counts one too many kills."""
        with self._lock:
            self._answers += 1
            if self._due and self._answers >= self._due[0]:
                self._due.pop(0)
                self._kill()

    def _kill(self) -> None:
        try:
            victims = sorted(self._victims(), key=lambda victim: victim[0])
        except (RayStateApiException, Warning):  # Ray's own list is not to be had now: this time nobody is killed
            return
        kind, pid = self._chance.choice(victims)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.killed.append(kind)

    def _victims(self) -> Iterator[tuple[str, int]]:
        from ray.util.state import list_actors  # needs the dashboard

        for actor in list_actors(filters=[("ray_namespace", "=", self._app), ("state", "=", "ALIVE")]):
            if actor.pid and actor.name and not actor.name.startswith("view/"):
                yield actor.name, actor.pid


@pytest.mark.parametrize("placement", ["packed", "dedicated"])
def test_commands_run_once_and_in_the_order_sent_whatever_is_killed(
    placement: str, ray_cluster: Any, tmp_path: Path
) -> None:
    seed = int.from_bytes(os.urandom(4))
    name = f"order-{placement}"
    failures: list[object] = []
    with ExitStack() as running:
        runtime = running.enter_context(eventray.run(make_app(name, placement), data=tmp_path / "data", shards=2))
        killer = Killer(runtime, name, seed)

        def send(client: int) -> None:
            sender = runtime if client == 0 else clients[client - 1]
            for outcome in sender.send_all(numbered(client)):
                killer.answered()
                if not isinstance(outcome, Receipt):
                    failures.append(outcome)

        clients = [running.enter_context(eventray.connect(make_app(name, placement))) for _ in range(CLIENTS - 1)]
        threads = [threading.Thread(target=send, args=(client,)) for client in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        about = f"seed {seed}, killed {killer.killed}"
        assert failures == [], about
        assert len(killer.killed) > 1, about
        for instance in range(INSTANCES):
            assert found(runtime, instance) == {client: list(range(1, EACH + 1)) for client in range(CLIENTS)}, (
                f"instance {instance}, {about}"
            )


def numbered(client: int) -> Iterator[Command]:
    """Numbers 1, 2, 3 ... for every instance."""
    for n in range(1, EACH + 1):
        for instance in range(INSTANCES):
            yield Account.deposit.to(f"a{instance}", Decimal(client * CLIENT_UNIT + n))


def found(runtime: Runtime, instance: int) -> dict[int, list[int]]:
    """The numbers of each client in the log of an instance."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for event, _ in runtime.history(Account, f"a{instance}"):
        client, number = divmod(int(event.amount), CLIENT_UNIT)  # type: ignore[attr-defined]
        numbers[client].append(number)
    return dict(numbers)
