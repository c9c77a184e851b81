"""The judge of histories is judged: each kind of anomaly is put in, and must be found."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from eventray.store import Appended, Record
from tests.store.history import History, Kind, Logs, Read, Write, anomalies

A, B = "A/1", "B/1"


def record(stream: str, version: int, position: int, body: bytes) -> Record:
    return Record(stream, version, "Noted", body, b"", 0, position, 1_000 + position, None, 1)


LOG = (record(A, 1, 1, b"a1"), record(A, 2, 2, b"a2"), record(B, 1, 3, b"b1"), record(A, 3, 4, b"a3"))
PAIR = Write(A, (b"a1", b"a2"), 1, 2, Appended(A, 2, 0, 2, 2), expected=0)
OTHER = Write(B, (b"b1",), 3, 4, Appended(B, 1, 0, 3, 1))
THIRD = Write(A, (b"a3",), 5, math.inf, "unknown")
READ = Read(A, 1, (LOG[1], LOG[3]), 6, 7)
PAGE = Read(0, 0, LOG[:3], 5, 6)


def kinds(writes: list[Write], reads: list[Read], log: tuple[Record, ...] = LOG) -> list[Kind]:
    logs: Logs = {0: log}
    return [anomaly.kind for anomaly in anomalies(History(writes, reads), logs)]


def test_a_history_that_keeps_the_rules_has_no_anomaly() -> None:
    again = replace(PAIR, begun=8, ended=9, outcome=PAIR.outcome._replace(duplicate=True))  # type: ignore[union-attr]
    refused = Write(A, (b"a9",), 1, 3, "refused", expected=7)
    empty = Write(A, (), 1, 2, Appended(A, 0, 0, 0, 0))
    limited = Read(0, 0, LOG[:1], 6, 7, whole=False)
    assert kinds([PAIR, OTHER, THIRD, again, refused, empty], [READ, PAGE, limited]) == []


def moved(log: tuple[Record, ...], *order: int) -> tuple[Record, ...]:
    """Events in another order, numbered anew: what only the history can tell."""
    versions = {A: 0, B: 0}
    result = []
    for position, index in enumerate(order, 1):
        stream = log[index].stream
        versions[stream] += 1
        result.append(record(stream, versions[stream], position, log[index].data))
    return tuple(result)


@pytest.mark.parametrize(
    ("kind", "log"),
    [
        pytest.param("lost", LOG[:2], id="an answered command is gone"),
        pytest.param("lost", (LOG[0], LOG[1], LOG[3]), id="a position is missing"),
        pytest.param("lost", (*LOG[:3], record(A, 4, 4, b"a3")), id="a version is missing"),
        pytest.param("torn", moved(LOG, 0, 2), id="half a command"),
        pytest.param("duplicate", moved(LOG, 0, 1, 2, 0, 1), id="a command twice"),
        pytest.param("duplicate", moved(LOG, 0, 1, 2, 3, 1), id="an event twice"),
        pytest.param("reordered", moved(LOG, 1, 0, 2), id="the events of a command the other way round"),
        pytest.param("reordered", moved(LOG, 0, 2, 1), id="another command within a command"),
        pytest.param("reordered", moved(LOG, 2, 0, 1), id="what was sent later comes first"),
        pytest.param("reordered", (LOG[1], LOG[0], *LOG[2:]), id="positions out of order"),
        pytest.param("reordered", (LOG[0], LOG[1]._replace(recorded_at=1), *LOG[2:]), id="time stands still"),
        pytest.param("reordered", (LOG[0], LOG[1], LOG[2]._replace(version=0), LOG[3]), id="a version again"),
        pytest.param("invented", (*LOG, record(B, 2, 5, b"b9")), id="an event that nobody sent"),
    ],
)
def test_an_anomaly_of_the_log_is_found(kind: Kind, log: tuple[Record, ...]) -> None:
    assert kind in kinds([PAIR, OTHER, THIRD], [], log)


def test_the_order_in_time_is_judged_between_commands() -> None:
    log = moved(LOG, 2, 0, 1)
    answered = [
        replace(PAIR, outcome=Appended(A, 2, 0, 3, 2)),
        replace(OTHER, outcome=Appended(B, 1, 0, 1, 1)),
    ]
    assert kinds(answered, [], log) == ["reordered"]
    at_once = [answered[0], replace(answered[1], begun=1.5)]
    assert kinds(at_once, [], log) == []


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        pytest.param("invented", replace(OTHER, outcome="refused"), id="refused and stored"),
        pytest.param("reordered", replace(OTHER, outcome=Appended(B, 2, 0, 3, 1)), id="another version was told"),
        pytest.param("reordered", replace(OTHER, outcome=Appended(B, 1, 0, 4, 1)), id="another position was told"),
        pytest.param("reordered", replace(OTHER, expected=5), id="stored on another version than expected"),
        pytest.param("duplicate", replace(PAIR, begun=2, ended=3), id="twice answered as new"),
    ],
)
def test_an_answer_that_is_wrong_is_found(kind: Kind, write: Write) -> None:
    writes = [PAIR, THIRD, write] if write.stream == B else [PAIR, OTHER, THIRD, write]
    assert kinds(writes, []) == [kind]


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        pytest.param("stale", replace(READ, found=(), begun=3), id="an answered command is not seen in its stream"),
        pytest.param("stale", replace(PAGE, found=LOG[:2]), id="an answered command is not seen in its log"),
        pytest.param("lost", replace(PAGE, found=(LOG[0], LOG[2])), id="a gap in a log"),
        pytest.param("lost", replace(READ, found=(LOG[3],)), id="a gap in a stream"),
        pytest.param("lost", replace(READ, found=(*READ.found, record(A, 4, 9, b"x"))), id="seen, then gone"),
        pytest.param("reordered", replace(PAGE, found=(LOG[1], LOG[0])), id="a reader that goes back"),
        pytest.param("reordered", replace(PAGE, found=(LOG[0]._replace(data=b"?"),)), id="seen otherwise"),
    ],
)
def test_a_read_that_breaks_a_rule_is_found(kind: Kind, read: Read) -> None:
    assert kinds([PAIR, OTHER, THIRD], [read]) == [kind]


def test_a_read_that_sees_less_than_one_before_it_is_found() -> None:
    later = replace(PAGE, begun=8, ended=9)
    unanswered = [replace(write, outcome="unknown") for write in (PAIR, OTHER, THIRD)]
    assert kinds(unanswered, [replace(PAGE, found=LOG), later]) == ["stale"]
    assert kinds(unanswered, [replace(PAGE, found=LOG), replace(later, begun=5)]) == []
