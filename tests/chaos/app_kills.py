"""An app whose processes are killed and frozen all the time, while 64 callers send transfers; then all is judged.

`python -m tests.chaos.app_kills --minutes 10` prints its figures, and exits with 1 when there is an anomaly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import eventray
from eventray import EventRayError, Runtime
from eventray.runtime.model import aggregate_model
from eventray.runtime.recorded import decode_record
from eventray.runtime.remote import DIRECTORY
from eventray.store import EventStore, verify
from tests.chaos.bank import AGGREGATES, FIRST_BALANCE, IDS, Balances, Events, change, make_app
from tests.chaos.ledger import Entry, Told, judge
from tests.own_ray import own_ray
from tests.store.history import Anomaly
from tests.store.workload import whole_log

ROOT = Path(__file__).parents[2]
APP = "chaos"
SHARDS, CLIENTS, CALLERS = 4, 2, 64
UNRESPONSIVE_S = 3.0
PAUSE_S = 0.5, 5.0  # between two blows
LOOK_S = 1.0  # a process that does not tell its id by then is frozen or dead: the next blow hits another
END_S = 180.0  # what callers may take to get their last answers
KINDS = ("shard", "view", "directory", "activation", "frozen shard", "frozen view", "frozen activation")


@dataclass
class Campaign:
    """All that was done, and all that was answered."""

    told: list[Told] = field(default_factory=list)
    blows: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    log: list[Entry] = field(default_factory=list)
    views: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # of the store, as verify finds them
    seconds: float = 0.0

    def judge(self) -> list[Anomaly]:
        """What is not as it must be."""
        return [*judge(self.told, self.log, self.views), *(Anomaly("torn", problem) for problem in self.problems)]

    def figures(self) -> dict[str, float]:
        """What there is to tell of it."""
        answered = [one for one in self.told if not one.command_id.startswith("open-")]
        kinds = {f"blows: {kind}": self.blows[kind] for kind in KINDS}
        errors = {f"answers that left it open: {name}": number for name, number in self.errors.items()}
        return {
            **kinds,
            "commands": len(answered),
            "receipts": sum(one.outcome == "receipt" for one in answered),
            "refused": sum(one.outcome == "refused" for one in answered),
            "unanswered": sum(one.outcome == "unanswered" for one in answered),
            "sent again by their callers": sum(one.retries for one in answered),
            **errors,
            "slowest answer, s": max((one.seconds for one in answered), default=0),
            "commands a second": len(answered) / self.seconds,
            "events in the log": len(self.log),
            "seconds": self.seconds,
        }


class Client:
    """A process with callers; reads what it prints in a thread."""

    def __init__(self, number: int, seed: int, campaign: Campaign) -> None:
        arguments = [APP, f"client{number}", str(seed), str(CALLERS // CLIENTS)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.app_callers", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._campaign = campaign
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                what, *facts = json.loads(line)
                if what == "ready":
                    self.ready.set()
                elif what == "told":
                    self._campaign.told.append(Told(**facts[0]))
                else:
                    self._campaign.errors[facts[0]] += 1
        self.ready.set()

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def finish(self) -> None:
        """No new transfer; wait for the end of those that are on their way."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._campaign.problems.append(f"callers wait for answers since {END_S:.0f} s")
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        if code:
            self._campaign.problems.append(f"a client process ended with {code}")


class Killer:
    """Hits one process of the app after another."""

    def __init__(self, chance: random.Random, blows: Counter[str]) -> None:
        self._chance = chance
        self._blows = blows

    def strike(self, kind: str) -> bool:
        """Kill or freeze some process of that kind; whether there was one that runs."""
        what = kind.removeprefix("frozen ")
        names = [name for name in living() if name.startswith(PREFIXES[what])]
        pid = pid_of(self._chance.choice(names)) if names else None
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if what == kind else signal.SIGSTOP)
            self._blows[kind] += 1
            return True
        return False

    def next_kind(self) -> str:
        """By chance; each kind once before any comes a second time."""
        return self._chance.choice([kind for kind in KINDS if not self._blows[kind]] or KINDS)


PREFIXES = {"shard": "shard-", "view": "view/", "directory": DIRECTORY, "activation": "Vault/"}


def living() -> list[str]:
    from ray.util import list_named_actors

    return sorted(actor["name"] for actor in list_named_actors(all_namespaces=True) if actor["namespace"] == APP)


def pid_of(name: str) -> int | None:
    """The process of an actor, if it answers."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    try:
        actor: Any = ray.get_actor(name, namespace=APP)
        found: Any = ray.get(actor.pulse.remote(), timeout=LOOK_S)
    except (GetTimeoutError, RayError, ValueError):
        return None
    return int(found)


def run(directory: Path, seed: int, go_on: Callable[[Campaign], bool]) -> Campaign:
    """Open the accounts, let callers and killer loose for as long as `go_on` says, and gather what is to be judged."""
    campaign, chance = Campaign(), random.Random(seed)
    app = make_app(APP)
    with (
        eventray.run(app, data=directory, shards=SHARDS, unresponsive_s=UNRESPONSIVE_S) as runtime,
        contextlib.ExitStack() as leaving,
    ):
        open_accounts(runtime, campaign)
        clients = [Client(number, chance.getrandbits(32), campaign) for number in range(CLIENTS)]
        for client in clients:
            leaving.callback(client.kill)
            client.ready.wait()
        begun = time.monotonic()
        killer, pause = Killer(chance, campaign.blows), threading.Event()
        while go_on(campaign):
            killer.strike(killer.next_kind())
            pause.wait(chance.uniform(*PAUSE_S))
        for client in clients:
            client.finish()
        campaign.seconds = time.monotonic() - begun
        campaign.views = dict(read_views(runtime))
    asyncio.run(read_log(directory, campaign))
    campaign.problems += [str(problem) for problem in verify(directory).problems]
    return campaign


def open_accounts(runtime: Runtime, campaign: Campaign) -> None:
    opening = [
        AGGREGATES[aggregate].deposit.options(command_id=f"open-{id}").to(id, FIRST_BALANCE) for aggregate, id in IDS
    ]
    for command, outcome in zip(opening, runtime.send_all(opening), strict=True):
        if isinstance(outcome, EventRayError):
            raise outcome
        id = str(command.options.command_id)
        place = outcome.version, outcome.shard, outcome.position
        campaign.told.append(Told("opening", 0, outcome.stream, id, FIRST_BALANCE, "receipt", *place))


def read_views(runtime: Runtime) -> Iterator[tuple[str, dict[str, int]]]:
    heads = runtime.heads().result()
    yield "Balances", runtime.view(Balances).all.options(after=heads, timeout=END_S).remote().result()
    yield "Events", runtime.view(Events).all.options(after=heads, timeout=END_S).remote().result()


async def read_log(directory: Path, campaign: Campaign) -> None:
    models = {name: aggregate_model(cls) for name, cls in AGGREGATES.items()}
    async with await EventStore.open(directory, app=APP) as store:
        for records in (await whole_log(store)).values():
            for record in records:
                event: Any = decode_record(models[record.stream.split("/")[0]].events, record)
                facts = record.version, record.shard, record.position
                campaign.log.append(Entry(record.stream, record.command_id or "", change(event), *facts))


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="how long processes are killed")] = 10.0,
    seed: Annotated[int, typer.Option(help="decides what is sent, and who is killed when")] = 0,
) -> None:
    console = Console(stderr=True)
    with own_ray(), tempfile.TemporaryDirectory() as directory, Progress(console=console, transient=True) as progress:
        task, times = progress.add_task("opening accounts", total=minutes * 60), list[float]()

        def go_on(campaign: Campaign) -> bool:
            times.append(time.monotonic())
            done = f"{campaign.blows.total()} blows, {len(campaign.told):,} commands"
            progress.update(task, completed=times[-1] - times[0], description=done)
            return times[-1] - times[0] < minutes * 60

        campaign = run(Path(directory) / "data", seed, go_on)
        wrong = campaign.judge()
    table = Table(title=f"{CALLERS} callers, {len(IDS):,} accounts, processes killed and frozen")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in {**campaign.figures(), "anomalies": len(wrong)}.items():
        table.add_row(name, f"{value:,.1f}" if isinstance(value, float) else f"{value:,}")
    Console().print(table)
    for anomaly in wrong[:50]:
        typer.echo(f"{anomaly.kind}: {anomaly.what}", err=True)
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
