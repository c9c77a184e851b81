"""What is left behind: one account's history, its balance at an earlier version, and the actors as Ray lists them.

python -m examples.tour
"""

from __future__ import annotations

import tempfile
from decimal import Decimal

import ray
from ray.util.state import list_actors
from rich.console import Console
from rich.table import Table

import eventray
from examples.quickstart import Account, bank


def main() -> None:
    """Make a few events, and look at them from three sides."""
    console = Console()
    with tempfile.TemporaryDirectory() as data, eventray.run(bank, data=data, shards=2) as runtime:
        alice = runtime.get(Account, "alice")
        alice.open.remote("Alice").result()
        for amount in (50, 25, 10):
            by = {"user": "teller-7"}
            alice.deposit.options(metadata=by).remote(Decimal(amount)).result()

        history = Table("version", "event", "recorded at", "metadata", title="history of Account/alice")
        for event, meta in runtime.history(Account, "alice"):
            history.add_row(str(meta.version), str(event), f"{meta.recorded_at:%H:%M:%S.%f}", str(dict(meta.metadata)))
        console.print(history)

        then = runtime.state(Account, "alice", at=2).result()
        now = runtime.state(Account, "alice").result()
        console.print(f"balance at version {then.version}: {then.balance}, now at version {now.version}: {now.balance}")

        actors = Table("class", "name", "state", title="ray list actors")
        here = ray.get_runtime_context().gcs_address  # this Ray, should others run on the machine
        alive = list_actors(address=here, filters=[("state", "=", "ALIVE")])
        for actor in sorted(alive, key=lambda actor: str(actor.name)):
            if actor.ray_namespace == bank.name:
                actors.add_row(actor.class_name, actor.name, actor.state)
        console.print(actors)


if __name__ == "__main__":
    main()
