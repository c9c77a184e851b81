"""Some blows of `app_kills`, and proof that its judge would notice what must not be."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.app_kills import KINDS, Campaign, run
from tests.chaos.ledger import Entry, Outcome, Told, judge

COMMANDS_LEAST = 200

Falsify = Callable[[Campaign], None]


def test_every_command_takes_effect_once_while_processes_of_every_kind_are_killed_and_frozen(
    ray_cluster: Any, tmp_path: Path
) -> None:
    def go_on(campaign: Campaign) -> bool:
        return len(campaign.blows) < len(KINDS) or len(campaign.told) < COMMANDS_LEAST

    campaign = run(tmp_path / "data", 1, go_on)
    assert campaign.judge() == []
    assert set(campaign.blows) == set(KINDS)


# the judge, on a small campaign without a fault


def campaign_of(*commands: tuple[str, str, int, Outcome]) -> Campaign:
    """One shard, one caller, and what it did: (stream, id, change, outcome)."""
    campaign, versions = Campaign(seconds=1.0), dict[str, int]()
    for number, (stream, id, change, outcome) in enumerate(commands):
        told = Told("caller", number, stream, id, change, outcome)
        if outcome == "receipt":
            version = versions[stream] = versions.get(stream, 0) + 1
            position = len(campaign.log) + 1
            campaign.log.append(Entry(stream, id, change, version, 0, position))
            told = replace(told, version=version, position=position)
        campaign.told.append(told)
    streams = versions.keys()
    balances = {s: sum(entry.change for entry in campaign.log if entry.stream == s) for s in streams}
    campaign.views = {"Balances": balances, "Events": dict(versions)}
    return campaign


def sound() -> Campaign:
    return campaign_of(
        ("Account/a", "open-a", 100, "receipt"),
        ("Vault/b", "open-b", 100, "receipt"),
        ("Account/a", "1", -30, "receipt"),
        ("Account/a", "2", -20, "receipt"),
        ("Account/a", "3", -70, "refused"),
        ("Vault/b", "1", 30, "receipt"),
        ("Vault/b", "2", 20, "receipt"),
    )


def lose_an_event(campaign: Campaign) -> None:
    del campaign.log[-1]


def store_an_event_twice(campaign: Campaign) -> None:
    last = campaign.log[-1]
    campaign.log.append(last._replace(version=last.version + 1, position=last.position + 1))


def swap_two_events(campaign: Campaign) -> None:
    one, other = campaign.log[2:4]
    campaign.log[2:4] = [
        one._replace(command_id=other.command_id, change=other.change),
        other._replace(command_id=one.command_id, change=one.change),
    ]


def run_in_another_order_than_sent(campaign: Campaign) -> None:
    swap_two_events(campaign)
    one, other = campaign.told[2:4]
    campaign.told[2:4] = [
        replace(one, version=other.version, position=other.position),
        replace(other, version=one.version, position=one.position),
    ]


def leave_a_gap(campaign: Campaign) -> None:
    campaign.log[-1] = campaign.log[-1]._replace(position=9)
    campaign.told[-1] = replace(campaign.told[-1], position=9)


def do_what_was_refused(campaign: Campaign) -> None:
    campaign.log.append(Entry("Account/a", "3", -70, 4, 0, 7))


def do_what_nobody_sent(campaign: Campaign) -> None:
    campaign.log.append(Entry("Account/a", "4", 1, 4, 0, 7))


def answer_nothing(campaign: Campaign) -> None:
    campaign.told[4] = replace(campaign.told[4], outcome="unanswered")


def answer_with_another_place(campaign: Campaign) -> None:
    campaign.told[-1] = replace(campaign.told[-1], position=1)


def pay_more_than_was_taken(campaign: Campaign) -> None:
    campaign.log[-1] = campaign.log[-1]._replace(change=21)
    campaign.told[-1] = replace(campaign.told[-1], change=21)


def show_another_balance(campaign: Campaign) -> None:
    campaign.views["Balances"]["Vault/b"] += 1


def show_an_event_too_few(campaign: Campaign) -> None:
    campaign.views["Events"]["Vault/b"] -= 1


def damage_the_store(campaign: Campaign) -> None:
    campaign.problems.append("shard 0, position 3: its checksum does not fit")


def test_a_campaign_without_a_fault_has_no_anomalies() -> None:
    assert sound().judge() == []


@pytest.mark.parametrize(
    ("kind", "falsify"),
    [
        ("lost", lose_an_event),
        ("duplicate", store_an_event_twice),
        ("reordered", swap_two_events),
        ("reordered", run_in_another_order_than_sent),
        ("reordered", leave_a_gap),
        ("invented", do_what_was_refused),
        ("invented", do_what_nobody_sent),
        ("lost", answer_nothing),
        ("reordered", answer_with_another_place),
        ("torn", pay_more_than_was_taken),
        ("stale", show_another_balance),
        ("stale", show_an_event_too_few),
        ("torn", damage_the_store),
    ],
)
def test_what_must_not_be_is_noticed(kind: str, falsify: Falsify) -> None:
    campaign = copy.deepcopy(sound())
    falsify(campaign)
    assert kind in {anomaly.kind for anomaly in campaign.judge()}


@pytest.mark.parametrize(("amount", "kinds"), [(-70, set()), (-60, {"reordered"}), (60, {"reordered"})])
def test_what_may_have_been_refused_when_a_later_command_ran_may_come_after_it(amount: int, kinds: set[str]) -> None:
    campaign = campaign_of(
        ("Account/a", "open-a", 100, "receipt"),
        ("Vault/b", "open-b", 100, "receipt"),
        ("Account/a", "1", -40, "receipt"),
        ("Vault/b", "1", 40, "receipt"),
        ("Account/a", "3", -10, "receipt"),
        ("Vault/b", "3", 10, "receipt"),
        ("Vault/b", "4", -50, "receipt"),
        ("Account/a", "4", 50, "receipt"),
        ("Account/a", "2", amount, "receipt"),
        ("Vault/b", "2", -amount, "receipt"),
    )
    for place, one in enumerate(campaign.told):
        sent = 2.5 if (one.stream, one.command_id) == ("Account/a", "2") else place  # after "1", before "3"
        campaign.told[place] = replace(one, number=int(10 * sent))
    assert {anomaly.kind for anomaly in campaign.judge()} == kinds


def test_an_account_that_pays_what_it_does_not_have_is_noticed() -> None:
    campaign = campaign_of(
        ("Account/a", "open-a", 100, "receipt"),
        ("Vault/b", "open-b", 100, "receipt"),
        ("Account/a", "1", -130, "receipt"),
        ("Vault/b", "1", 130, "receipt"),
    )
    assert {anomaly.kind for anomaly in judge(campaign.told, campaign.log, campaign.views)} == {"stale"}
