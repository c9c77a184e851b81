"""Judges what callers were answered by what the log says. Pure: answers, entries and views in, anomalies out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.chaos.bank import FIRST_BALANCE
from tests.store.history import Anomaly

Outcome = Literal["receipt", "refused", "unanswered"]


@dataclass(frozen=True, slots=True)
class Told:
    """One command, as its caller sent it and was answered. `number` rises in the order that the caller sent in."""

    caller: str
    number: int
    stream: str
    command_id: str
    change: int
    outcome: Outcome
    version: int = 0
    shard: int = 0
    position: int = 0
    retries: int = 0  # after an error that leaves the outcome open: then its place in the order is open, too
    seconds: float = 0.0


class Entry(NamedTuple):
    """One event of the log."""

    stream: str
    command_id: str
    change: int
    version: int
    shard: int
    position: int


def judge(told: Sequence[Told], log: Sequence[Entry], views: Mapping[str, Mapping[str, int]]) -> list[Anomaly]:
    """What breaks a rule: every command answered, its effect there once or not at all, order, sums and views right."""
    balances = _balances(log)
    in_order, exact = _in_order(told, log, balances), _exact(log, balances)
    return [*_answered(told), *_once(told, log), *in_order, *exact, *_views_are(log, balances, views)]


Balances = Sequence[tuple[Entry, int]]


def _balances(log: Iterable[Entry]) -> Balances:
    """Each event with what its account has after it, account by account."""
    balances: Counter[str] = Counter()
    found = []
    for entry in sorted(log, key=lambda entry: (entry.stream, entry.version)):
        balances[entry.stream] += entry.change
        found.append((entry, balances[entry.stream]))
    return found


def _last(balances: Balances) -> dict[str, int]:
    return {entry.stream: balance for entry, balance in balances}


def _answered(told: Iterable[Told]) -> Iterable[Anomaly]:
    for one in told:
        if one.outcome == "unanswered":
            yield Anomaly("lost", f"{one.command_id} for {one.stream} was never answered")


def _once(told: Iterable[Told], log: Iterable[Entry]) -> Iterable[Anomaly]:
    found: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in log:
        found[entry.stream, entry.command_id].append(entry)
    for one in told:
        entries = found.pop((one.stream, one.command_id), [])
        name = f"{one.command_id} for {one.stream}"
        if len(entries) > 1:
            yield Anomaly("duplicate", f"{name} is there {len(entries)} times")
        if one.outcome == "refused" and entries:
            yield Anomaly("invented", f"{name} was refused and is there")
        if one.outcome == "receipt" and not entries:
            yield Anomaly("lost", f"{name} has a receipt and is not there")
        expected = Entry(one.stream, one.command_id, one.change, one.version, one.shard, one.position)
        if one.outcome == "receipt" and entries and entries[0] != expected:
            yield Anomaly("reordered", f"{name} was answered as {expected} and is there as {entries[0]}")
    for stream, command_id in found:
        yield Anomaly("invented", f"{command_id} for {stream} is there and nobody sent it")


def _in_order(told: Iterable[Told], log: Iterable[Entry], balances: Balances) -> Iterable[Anomaly]:
    last: dict[str, int] = defaultdict(int)
    positions: dict[int, int] = defaultdict(int)
    for entry in sorted(log, key=lambda entry: (entry.shard, entry.position)):
        last[entry.stream] += 1
        positions[entry.shard] += 1
        if entry.version != last[entry.stream] or entry.position != positions[entry.shard]:
            yield Anomaly("reordered", f"{entry} should be version {last[entry.stream]} of its stream")
            last[entry.stream], positions[entry.shard] = entry.version, entry.position
    at = {(entry.stream, entry.version): balance for entry, balance in balances}
    before: dict[tuple[str, str], Told] = {}
    for one in sorted(told, key=lambda one: (one.caller, one.number)):
        if one.outcome != "receipt" or one.retries:
            continue
        earlier = before.get((one.caller, one.stream))
        if earlier is not None and earlier.version >= one.version:
            had = at.get((one.stream, one.version - 1), 0)
            if had + earlier.change >= 0:  # else it was refused then, and decided again when that answer was lost
                facts = f"{one.command_id} ({one.change}) ran before {earlier.command_id} ({earlier.change})"
                yield Anomaly("reordered", f"{facts} for {one.stream}, which had {had}")
        before[one.caller, one.stream] = one


def _exact(log: Iterable[Entry], balances: Balances) -> Iterable[Anomaly]:
    for entry, balance in balances:
        if balance < 0:
            yield Anomaly("stale", f"{entry.stream} had less than {-entry.change} at version {entry.version}")
    sides: Counter[str] = Counter()  # of each transfer: what was withdrawn is deposited
    for entry in log:
        sides[entry.command_id] += entry.change
    for command_id, rest in sides.items():
        if rest and not command_id.startswith("open-"):
            yield Anomaly("torn", f"transfer {command_id} made {rest} out of nothing")
    last = _last(balances)
    if sum(last.values()) != FIRST_BALANCE * len(last):
        yield Anomaly("torn", f"{sum(last.values())} in {len(last)} accounts that began with {FIRST_BALANCE}")


def _views_are(log: Sequence[Entry], balances: Balances, views: Mapping[str, Mapping[str, int]]) -> Iterable[Anomaly]:
    right = {"Balances": _last(balances), "Events": dict(Counter(entry.stream for entry in log))}
    for name, shown in views.items():
        if dict(shown) != right[name]:
            wrong = {stream for stream in (*shown, *right[name]) if shown.get(stream) != right[name].get(stream)}
            yield Anomaly("stale", f"view {name} is wrong about {len(wrong)} accounts: {sorted(wrong)[:3]}")
