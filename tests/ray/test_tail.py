"""Views that follow one tail on Ray, while its process is killed again and again."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

import eventray
from eventray import App, Packed, Projection, query
from eventray.runtime.tailing import PREFIX
from tests.bank_app import Account, Deposited
from tests.waiting import wait_until

APP = "tail"
BURSTS, BURST, ACCOUNTS = 4, 100, 5
SHARDS, VIEWS = 2, 2


class Amounts(Projection):
    """How often each amount was seen."""

    seen: dict[int, int] = {}

    def apply(self, event: Deposited) -> None:
        amount = int(event.amount)
        self.seen[amount] = self.seen.get(amount, 0) + 1

    @query
    def all(self) -> dict[int, int]:
        return self.seen


class SameAmounts(Amounts):
    pass


def followed_tail() -> int:
    """The process of the tail, as soon as both views wait there for news of both shards."""
    found: list[int] = []

    def followed() -> bool:
        names = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == APP]
        with contextlib.suppress(RayError, ValueError):  # it starts again
            for name in names:
                if name.startswith(PREFIX):
                    tail: Any = ray.get_actor(name, namespace=APP)
                    if ray.get(tail.waiting.remote()) == (True, VIEWS * SHARDS):
                        found.append(ray.get(tail.pulse.remote()))
        return bool(found)

    wait_until(followed)
    [pid] = found
    return pid


def test_views_see_each_event_once_while_their_tail_is_killed_again_and_again(ray_cluster: Any, tmp_path: Path) -> None:
    app = App(APP, aggregates=[Account], projections=[Amounts, SameAmounts], placement={Account: Packed()})
    killed: set[int] = set()
    with eventray.run(app, data=tmp_path / "data", shards=SHARDS) as runtime:
        for burst in range(BURSTS):
            pid = followed_tail()
            for n in range(burst * BURST, (burst + 1) * BURST):
                response = runtime.get(Account, f"a{n % ACCOUNTS}").deposit.remote(Decimal(n + 1))
                if n % BURST == BURST // 2:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            response.result()
        heads = runtime.heads().result()
        expected = Counter(range(1, BURSTS * BURST + 1))
        for view in (Amounts, SameAmounts):
            assert runtime.view(view).all.options(after=heads).remote().result() == expected
        assert len(killed) == BURSTS
    assert [one for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == APP] == []
