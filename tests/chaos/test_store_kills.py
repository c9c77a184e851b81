"""Some rounds of `store_kills`, and proof that it would notice what must not be."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from zlib import crc32

import pytest

from eventray.store import Record
from tests.chaos.store_kills import Campaign, log_of, run
from tests.chaos.store_writer import EVENTS

ROUNDS = 8

Log = dict[int, list[Record]]
Falsify = Callable[[Campaign, Log], None]


@pytest.fixture(scope="module")
def campaign_and_log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Log]:
    data = tmp_path_factory.mktemp("kills") / "data"
    campaign, wrong = run(ROUNDS, data, seed=1)
    assert wrong == []
    return campaign, {shard: list(records) for shard, records in asyncio.run(log_of(data)).items()}


def test_writers_that_are_killed_again_and_again_leave_a_log_without_anomalies(
    campaign_and_log: tuple[Campaign, Log],
) -> None:
    campaign, log = campaign_and_log
    assert campaign.judge(log) == []
    figures = campaign.figures()
    assert min(figures["receipts"], figures["sent again"], figures["reads"]) > 0


def longest(log: Log) -> list[Record]:
    return max(log.values(), key=len)


def lose_the_last_command(campaign: Campaign, log: Log) -> None:
    told = {one.receipt.position for one in campaign.sendings if one.receipt and one.receipt.shard == 0}
    del log[0][max(told) - EVENTS :]


def store_a_command_twice(campaign: Campaign, log: Log) -> None:
    records = longest(log)
    first, end = records[0], records[-1]
    last = max(record.version for record in records if record.stream == first.stream)
    records += [
        record._replace(position=end.position + n, version=last + n, recorded_at=end.recorded_at + n)
        for n, record in enumerate(records[:EVENTS], 1)
    ]


def tear_the_last_command(campaign: Campaign, log: Log) -> None:
    del longest(log)[-1]


def swap_two_commands(campaign: Campaign, log: Log) -> None:
    records = longest(log)
    for one, other in zip(range(EVENTS), range(EVENTS, 2 * EVENTS), strict=True):
        a, b = records[one], records[other]
        records[one], records[other] = (
            a._replace(stream=b.stream, data=b.data),
            b._replace(stream=a.stream, data=a.data),
        )


def answer_with_another_place(campaign: Campaign, log: Log) -> None:
    told = next(one for one in campaign.sendings if one.receipt)
    assert told.receipt is not None
    told.receipt = told.receipt._replace(position=told.receipt.position + 1)


def read_less_than_was_told(campaign: Campaign, log: Log) -> None:
    number, look = next((n, look) for n, look in enumerate(campaign.looks) if look[3] > EVENTS)
    stream, begun, ended, events, _ = look
    found = [record.data for records in log.values() for record in records if record.stream == stream]
    fewer = events - EVENTS
    campaign.looks[number] = stream, begun, ended, fewer, crc32(b"".join(found[:fewer]))


def read_something_else(campaign: Campaign, log: Log) -> None:
    stream, begun, ended, events, crc = campaign.looks[-1]
    campaign.looks[-1] = stream, begun, ended, events, crc ^ 1


@pytest.mark.parametrize(
    ("kind", "falsify"),
    [
        ("lost", lose_the_last_command),
        ("duplicate", store_a_command_twice),
        ("torn", tear_the_last_command),
        ("reordered", swap_two_commands),
        ("reordered", answer_with_another_place),
        ("stale", read_less_than_was_told),
        ("reordered", read_something_else),
    ],
)
def test_what_must_not_be_is_noticed(campaign_and_log: tuple[Campaign, Log], kind: str, falsify: Falsify) -> None:
    campaign, log = copy.deepcopy(campaign_and_log)
    falsify(campaign, log)
    assert kind in {anomaly.kind for anomaly in campaign.judge(log)}
