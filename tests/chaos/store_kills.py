"""Kill -9, again and again, of a process with four writers over four shards; each time the whole store is judged.

`python -m tests.chaos.store_kills --rounds 200` prints its figures, and exits with 1 when there is an anomaly.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from zlib import crc32

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eventray.domain.errors import EventRayError
from eventray.store import Appended, EventStore, Record
from tests.chaos.store_writer import APP, LIMITS, SHARDS, bodies, lines
from tests.store.history import Anomaly, History, Logs, Outcome, Read, Write, anomalies
from tests.store.workload import whole_log

ROOT = Path(__file__).parents[2]
RECEIPTS_MAX = 300
OPERATIONS_MAX = 3000


@dataclass
class Sending:
    """One send of a command; times are numbers of lines."""

    stream: str
    expected: int
    begun: int
    ended: float = math.inf
    receipt: Appended | None = None


@dataclass
class Campaign:
    """All that the children said so far, in order."""

    time: int = 0
    sendings: list[Sending] = field(default_factory=list)
    looks: list[tuple[str, int, int, int, int]] = field(default_factory=list)  # stream, begun, ended, events, crc
    _open: dict[str, Sending] = field(default_factory=dict)
    _looking: dict[str, int] = field(default_factory=dict)

    def note(self, what: str, *facts: Any) -> None:
        """Take one line of a child."""
        self.time += 1
        if what == "send":
            sending = Sending(facts[0], facts[1], self.time)
            self._open[facts[0]] = sending
            self.sendings.append(sending)
        elif what == "receipt":
            sending = self._open.pop(facts[0])
            sending.receipt, sending.ended = Appended(*facts), self.time
        elif what == "look":
            self._looking[facts[0]] = self.time
        elif what == "found":
            self.looks.append((facts[0], self._looking.pop(facts[0]), self.time, facts[1], facts[2]))

    def killed(self) -> list[tuple[str, int]]:
        """The child is dead: return what was in flight, to be sent again."""
        unsettled = [(sending.stream, sending.expected) for sending in self._open.values()]
        self._open.clear()
        self._looking.clear()
        return unsettled

    def judge(self, log: Logs) -> list[Anomaly]:
        """Return what breaks the rules of an append log."""
        streams: dict[str, list[Record]] = {}
        for records in log.values():
            for record in records:
                streams.setdefault(record.stream, []).append(record)
        history, wrong = History(), []
        for one in self.sendings:
            data = bodies(one.stream, one.expected)
            outcome: Outcome = one.receipt or "unknown"
            history.writes.append(Write(one.stream, data, one.begun, one.ended, outcome, one.expected))
        for stream, begun, ended, events, crc in self.looks:
            found = tuple(streams.get(stream, ())[:events])
            history.reads.append(Read(stream, 0, found, begun, ended))
            if crc32(b"".join(record.data for record in found)) != crc:
                wrong.append(Anomaly("reordered", f"{stream} was read otherwise than it is, up to version {events}"))
        return wrong + anomalies(history, log)

    def figures(self) -> dict[str, int]:
        receipts = [one.receipt for one in self.sendings if one.receipt is not None]
        return {
            "commands": len({(one.stream, one.expected) for one in self.sendings}),
            "receipts": len(receipts),
            "sent again": len(self.sendings) - len({(one.stream, one.expected) for one in self.sendings}),
            "of these committed before the kill": sum(receipt.duplicate for receipt in receipts),
            "reads": len(self.looks),
        }


def killed_child(directory: Path, unsettled: Sequence[tuple[str, int]], seed: int) -> bytes:
    """Run a child until it is killed: from outside after some receipts, or by itself at some operation of SQLite."""
    chance = random.Random(seed)
    receipts = chance.randint(0, RECEIPTS_MAX)
    nth = chance.randint(1, OPERATIONS_MAX) if seed % 2 else 0
    arguments = [sys.executable, "-m", "tests.chaos.store_writer", str(directory), str(seed), str(nth)]
    child = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(unsettled).encode() + b"\n")
    child.stdin.flush()
    said, told = b"", 0
    for line in child.stdout:
        said += line
        told += line.startswith(b'["receipt"')
        if not nth and told >= receipts:
            child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    if child.returncode >= 0:
        raise RuntimeError(f"the child ended by itself with {child.returncode}")
    return said


async def log_of(directory: Path) -> Logs:
    async with await EventStore.open(directory, app=APP, shards=SHARDS, limits=LIMITS) as store:
        return await whole_log(store)


def one_round(
    campaign: Campaign, directory: Path, unsettled: list[tuple[str, int]], seed: int
) -> tuple[list[tuple[str, int]], list[Anomaly]]:
    """Kill a child on the same directory once more; returns what is in flight now, and the anomalies."""
    for line in lines(killed_child(directory, unsettled, seed)):
        campaign.note(*line)
    # What an earlier round left and this one did not get to is still to be settled.
    sent = {(one.stream, one.expected) for one in campaign.sendings if one.receipt is not None}
    left = [one for one in unsettled if one not in sent]
    now = campaign.killed()
    unsettled = [*left, *(one for one in now if one not in left)]
    try:
        return unsettled, campaign.judge(asyncio.run(log_of(directory)))
    except EventRayError as error:
        return unsettled, [Anomaly("lost", f"the store does not open: {error}")]


def run(rounds: int, directory: Path, seed: int = 0) -> tuple[Campaign, list[Anomaly]]:
    """Do that many rounds, or as many as there are without an anomaly."""
    campaign, unsettled = Campaign(), list[tuple[str, int]]()
    for number in track(range(rounds), "killing", console=Console(stderr=True), transient=True):
        unsettled, wrong = one_round(campaign, directory, unsettled, seed + number)
        if wrong:
            return campaign, wrong
    return campaign, []


def main(
    rounds: Annotated[int, typer.Option(min=1, help="how often a process is killed")] = 200,
    seed: Annotated[int, typer.Option(help="decides what is sent, and where the kills hit")] = 0,
) -> None:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        campaign, wrong = run(rounds, Path(directory) / "data", seed)
    table = Table(title="kill -9 of four writers over four shards")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in {"rounds": rounds, **campaign.figures(), "anomalies": len(wrong)}.items():
        table.add_row(name, f"{value:,}")
    table.add_row("seconds", f"{time.monotonic() - begun:.0f}")
    Console().print(table)
    for anomaly in wrong:
        typer.echo(f"{anomaly.kind}: {anomaly.what}", err=True)
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
