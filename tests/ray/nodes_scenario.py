"""A cluster that loses nodes, and an app on it. Prints what was seen, as JSON on the last line, for `test_nodes.py`.

A process can be in one Ray only, so this is run as a child: `python -m tests.ray.nodes_scenario DIRECTORY`. All nodes
are on this machine and see one disk; to lose a node's disk with it, the files of its shards are moved away.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import eventray
from eventray import (
    Aggregate,
    App,
    Command,
    Dedicated,
    Event,
    EventRayError,
    Packed,
    Receipt,
    Runtime,
    ShardUnavailable,
    command,
)
from eventray.store import Manifest
from tests.bank_app import Account, Balances
from tests.waiting import wait_until

SHARDS, ACCOUNTS, COMMANDS = 6, 60, 900
SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 300, "health_check_failure_threshold": 3}

Seen = dict[str, Any]


class Noted(Event):
    text: str


class Note(Aggregate):
    """A dedicated aggregate: its instances have processes of their own, on any node."""

    texts: list[str] = []

    @command
    def add(self, text: str) -> Noted:
        return Noted(text)

    def apply(self, event: Noted) -> None:
        self.texts.append(event.text)


class Copies(Balances, name="Copies", replicas=3):
    """One for each node."""


APP = App(
    "nodes",
    aggregates=[Account, Note],
    projections=[Balances, Copies],
    placement={Account: Packed(), Note: Dedicated()},
)


class Commands:
    """What was sent to the accounts, and what it came to."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}  # the account by command id
        self.receipts: dict[str, Receipt] = {}

    def send(self, runtime: Runtime, count: int, at_half: Callable[[], object] | None = None) -> Counter[str]:
        first = len(self.sent)
        self.sent |= {f"tx-{n}": f"a{n % ACCOUNTS}" for n in range(first, first + count)}
        ids = list(self.sent)[first:]
        return self._send(runtime, ids, at_half)

    def send_refused_again(self, runtime: Runtime) -> Counter[str]:
        return self._send(runtime, [id for id in self.sent if id not in self.receipts], None)

    def _send(self, runtime: Runtime, ids: list[str], at_half: Callable[[], object] | None) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        for id, outcome in zip(ids, runtime.send_all(self._commands(ids, at_half)), strict=True):
            outcomes[type(outcome).__name__] += 1
            if isinstance(outcome, Receipt):
                self.receipts[id] = outcome
        return outcomes

    def _commands(self, ids: list[str], at_half: Callable[[], object] | None) -> Iterator[Command]:
        for n, id in enumerate(ids):
            if n == len(ids) // 2 and at_half is not None:
                at_half()
            yield Account.deposit.options(command_id=id).to(self.sent[id], Decimal(1))

    def account_in(self, shards: Iterable[int]) -> str:
        """An account that lives in one of these shards."""
        return next(self.sent[id] for id, receipt in self.receipts.items() if receipt.shard in shards)

    def check(self, runtime: Runtime) -> Seen:
        """What of all this the log and the view say."""
        stored = [entry.meta for n in range(ACCOUNTS) for entry in runtime.history(Account, f"a{n}")]
        kept = {(meta.command_id, meta.stream, meta.version, meta.position) for meta in stored}
        given = {(id, r.stream, r.version, r.position) for id, r in self.receipts.items()}
        view = runtime.view(Balances).sum.options(after=runtime.heads().result()).remote().result()
        return {"sent": len(self.sent), "stored": len(stored), "receipts lost": len(given - kept), "view": int(view)}


def shards_on(runtime: Runtime, node: str) -> set[int]:
    return {shard.index for shard in runtime.status().result().shards if shard.node == node}


def unavailable(runtime: Runtime) -> set[int]:
    return {shard.index for shard in runtime.status().result().shards if shard.state == "unavailable"}


def refusal(ask: Callable[[], object]) -> Seen:
    """How a call ends that needs a lost shard."""
    began = time.monotonic()
    try:
        answer = ask()
    except ShardUnavailable as error:
        return {"lost": error.lost, "message": str(error), "seconds": time.monotonic() - began}
    except EventRayError as error:
        return {"message": repr(error)}
    return {"message": f"answered {answer}"}


def deposited(runtime: Runtime, account: str) -> Seen:
    """How a command ends."""
    return refusal(runtime.get(Account, account).deposit.remote(Decimal(1)).result)


def kill_directory() -> None:
    ray.kill(ray.get_actor("directory", namespace=APP.name), no_restart=False)


class Scenario:
    """One app through all of it; `seen` has what the tests check."""

    def __init__(self, scratch: Path) -> None:
        self.data, self.away = scratch / "data", scratch / "away"
        self.away.mkdir()
        self.seen: Seen = {}
        self.commands = Commands()
        self.cluster: Any = None

    def run(self) -> None:
        node, _ = self.start_cluster(2)
        with eventray.run(APP, data=self.data, shards=SHARDS) as runtime:
            status = runtime.status().result()
            self.seen["spread"] = sorted(Counter(shard.node for shard in status.shards).values())
            self.seen["nodes of replicas"] = len({view.node for view in status.views if view.name == "Copies"})
            self.commands.send(runtime, COMMANDS)
            self.lose(runtime, node)
            self.look_at_loss(runtime, node)
            back = self.get_back(runtime)
            self.lose_directory_too(runtime, back)
        self.start_on_other_nodes()
        ray.shutdown()
        self.cluster.shutdown()

    def lose(self, runtime: Runtime, node: Any) -> None:
        gone = [shard for shard in runtime.status().result().shards if shard.node == node.node_id]

        indexes = {shard.index for shard in gone}
        notes = [runtime.get(Note, self.id_of_note(shards)) for shards in (indexes, set(range(SHARDS)) - indexes)]
        for note in notes:
            note.add.remote("before").result()

        def kill() -> None:
            self.cluster.remove_node(node, allow_graceful=False)
            for shard in gone:  # the processes of a machine go with it; those of a node here live on for a moment
                os.kill(shard.pid, signal.SIGKILL)

        self.seen["across the loss"] = self.commands.send(runtime, COMMANDS, kill)
        wait_until(lambda: unavailable(runtime) == indexes)
        answers = [refusal(note.add.remote("after").result) for note in notes]
        self.seen["dedicated lost"], self.seen["dedicated there"] = answers

    def look_at_loss(self, runtime: Runtime, node: Any) -> None:
        gone = unavailable(runtime)
        lost, there = (self.commands.account_in(shards) for shards in (gone, set(range(SHARDS)) - gone))
        self.seen["node"] = node.node_id
        self.seen["refused"] = {
            "command": deposited(runtime, lost),
            "state": refusal(runtime.state(Account, lost).result),
            "history": refusal(lambda: list(runtime.history(Account, lost))),
            "heads": refusal(runtime.heads().result),
        }
        self.seen["status"] = [
            {"state": shard.state, "node": shard.node, "reason": shard.reason}
            for shard in runtime.status().result().shards
            if shard.index in gone
        ]
        self.seen["not taken by a sibling"] = unavailable(runtime) == gone
        self.move_away(gone)
        self.seen["while lost"] = self.commands.send(runtime, COMMANDS)
        receipts = [receipt for receipt in self.commands.receipts.values() if receipt.stream == f"Account/{there}"]
        views = runtime.view(Balances), *(runtime.view(Copies) for _ in range(3))  # a replica each
        told = [view.of.options(after=receipts).remote(there) for view in views]
        self.seen["views behind"] = [len(receipts) - int(answer.result()) for answer in told]
        self.seen["made anew"] = self.files_of(gone)

    def get_back(self, runtime: Runtime) -> Any:
        gone = unavailable(runtime)
        self.put_back()
        back = self.cluster.add_node(num_cpus=1)
        wait_until(lambda: not unavailable(runtime))
        self.seen["taken by the new node"] = shards_on(runtime, back.node_id) == gone
        self.seen["sent again"] = self.commands.send_refused_again(runtime)
        self.seen["when back"] = self.commands.check(runtime)
        return back

    def lose_directory_too(self, runtime: Runtime, node: Any) -> None:
        self.seen["node that came back"] = node.node_id
        self.seen["directory killed"] = self.commands.send(runtime, COMMANDS, kill_directory)
        gone = shards_on(runtime, node.node_id)
        self.cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: unavailable(runtime) == gone)
        self.move_away(gone)
        kill_directory()
        self.seen["directory killed while lost"] = self.commands.send(runtime, COMMANDS)
        self.seen["still lost"] = unavailable(runtime) == gone
        self.seen["refused by the next directory"] = deposited(runtime, self.commands.account_in(gone))
        self.seen["made anew by the next directory"] = self.files_of(gone)

    def start_on_other_nodes(self) -> None:
        """The files of some shards are away, and the manifest is as if it came from another cluster."""
        Manifest.load(self.data).place({index: f"{index:056x} at 203.0.113.1" for index in range(SHARDS)})
        with eventray.run(APP, data=self.data) as runtime:
            gone = unavailable(runtime)
            self.seen["unavailable at start"] = len(gone)
            self.seen["served at start"] = self.commands.send(runtime, COMMANDS)
            self.seen["made anew at start"] = self.files_of(gone)
            self.put_back()
            wait_until(lambda: not unavailable(runtime))
            self.seen["sent again after start"] = self.commands.send_refused_again(runtime)
            self.seen["when put back"] = self.commands.check(runtime)

    # the cluster and its disks

    def start_cluster(self, workers: int) -> list[Any]:
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": SOON}
        try:
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        except Exception:  # Ray gives a node 30 s to start, whatever else the machine has to do
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        nodes = [self.cluster.add_node(num_cpus=1) for _ in range(workers)]
        ray.init(address=self.cluster.address, log_to_driver=False)
        return nodes

    def id_of_note(self, shards: set[int]) -> str:
        manifest = Manifest.load(self.data)
        return next(f"n{n}" for n in range(1_000) if manifest.shard_of(f"Note/n{n}") in shards)

    def files_of(self, shards: set[int]) -> list[str]:
        return sorted(path.name for index in shards for path in self.data.glob(f"shard-{index:04d}.db*"))

    def move_away(self, shards: set[int]) -> None:
        for path in [path for index in shards for path in self.data.glob(f"shard-{index:04d}.*")]:
            path.rename(self.away / path.name)

    def put_back(self) -> None:
        for path in sorted(self.away.iterdir(), key=lambda path: path.suffix == ".db"):  # what is looked for: last
            path.rename(self.data / path.name)


if __name__ == "__main__":
    scenario = Scenario(Path(sys.argv[1]))
    scenario.run()
    print(json.dumps(scenario.seen))
