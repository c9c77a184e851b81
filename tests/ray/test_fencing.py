"""Processes that are frozen with SIGSTOP, and processes that live on after another one has taken their place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import Receipt, Rejected, Runtime
from eventray.runtime.directory import actor_options
from eventray.runtime.front import actor_class
from eventray.runtime.model import aggregate_model
from eventray.runtime.remote import ActorChannel, call_patiently, kill
from eventray.runtime.shell_activation import ActivationShell
from eventray.runtime.shell_shard import Shard
from eventray.runtime.wire import Batch, CommandItem, Kind
from tests.ray.freezing import (
    Step,
    Tally,
    Totals,
    is_gone,
    is_stopped,
    make_app,
    pid_of_activation,
    pid_of_directory,
    pid_of_shard,
    pid_of_view,
)
from tests.waiting import wait_until

SOON_S = 2.0  # how long a frozen process is waited for here
NEVER_S = 3_600.0
COMMANDS, INSTANCES, TURNS = 600, 3, 15

Start = Callable[[str, float], Runtime]


@pytest.fixture(scope="module")
def start(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Gives an app that tests share, each with instances of its own."""
    with contextlib.ExitStack() as running:

        @cache
        def start_app(placement: str, unresponsive_s: float) -> Runtime:
            app = make_app(f"frozen-{uuid.uuid4().hex[:8]}", placement)
            data = tmp_path_factory.mktemp("frozen")
            return running.enter_context(eventray.run(app, data=data, shards=2, unresponsive_s=unresponsive_s))

        yield start_app


# frozen processes


@pytest.mark.parametrize(
    ("placement", "victim"),
    [
        ("packed", pid_of_shard),
        ("packed", pid_of_view),
        ("dedicated", pid_of_shard),
        ("dedicated", pid_of_activation),
        ("dedicated", pid_of_directory),
    ],
)
def test_a_frozen_process_is_ended_and_clients_go_on(
    start: Start, tmp_path: Path, name: str, placement: str, victim: Callable[[Runtime, str], int]
) -> None:
    runtime = start(placement, SOON_S)
    runs, ids = str(tmp_path / "runs"), [f"{name}-{n}" for n in range(INSTANCES)]
    for id in ids:
        runtime.get(Tally, id).add.remote(runs).result()
    frozen = victim(runtime, ids[0])

    def commands() -> Iterator[eventray.Command]:
        for n in range(COMMANDS):
            if n == COMMANDS // 2:
                os.kill(frozen, signal.SIGSTOP)
            yield Tally.add.options(command_id=f"c{n}").to(ids[n % INSTANCES], runs)
        ids.append(f"{name}-new")  # a dedicated one has to be placed
        yield Tally.add.to(ids[-1], runs)

    outcomes = list(runtime.send_all(commands()))
    assert [outcome for outcome in outcomes if not isinstance(outcome, Receipt)] == []
    everything = COMMANDS + INSTANCES + 1
    assert sum(runtime.state(Tally, id).result().count for id in ids) == everything
    recent = runtime.view(Totals).of.options(after=runtime.heads().result(), timeout=60)
    assert recent.remote(ids).result() == everything
    assert {shard.state for shard in runtime.status().result().shards} == {"serving"}
    wait_until(lambda: is_gone(frozen))


@pytest.mark.parametrize("step", ["_insert", "_adopt"])
def test_a_shard_frozen_inside_a_commit_is_replaced_and_its_commands_take_effect_once(
    start: Start, tmp_path: Path, name: str, step: Step
) -> None:
    runtime = start("packed", SOON_S)
    runs, others = tmp_path / "runs", str(tmp_path / "others")
    frozen = runtime.status().result().shards[runtime._transport.shard_of(f"Tally/{name}")]
    freezing = Tally.freeze_in_commit.options(command_id="f").to(name, str(runs), step)
    [first, *after] = [runtime.send(freezing), *(runtime.get(Tally, name).add.remote(others) for _ in range(20))]
    wait_until(lambda: is_stopped(frozen.pid))
    duplicate = first.result().duplicate
    assert len(set(runs.read_text().split())) == 2
    assert [response.result().version for response in after] == list(range(2, 22))
    assert [meta.command_id for _, meta in runtime.history(Tally, name)].count("f") == 1
    wait_until(lambda: is_gone(frozen.pid))
    assert runtime.status().result().shards[frozen.index].epoch > frozen.epoch
    assert duplicate or step == "_insert"  # what was committed before the freeze is found, not done again


def test_a_shard_that_only_computes_for_long_is_left_alone(start: Start, name: str) -> None:
    runtime = start("packed", SOON_S)
    before = pid_of_shard(runtime, name)
    runtime.get(Tally, name).compute.remote(3 * SOON_S).result()
    assert pid_of_shard(runtime, name) == before


# successors that nobody asked Ray for, as in a partition


def second(runtime: Runtime, shell: type[Any], name: str, *arguments: Any) -> Any:
    """One more actor like one that the Directory has made."""
    options = actor_options(name, runtime.app_name)
    return actor_class(shell).options(**options).remote(runtime._transport.started.plan, *arguments)  # type: ignore[attr-defined]


def test_the_new_shard_of_a_run_kills_a_frozen_holder_of_its_lock(start: Start, tmp_path: Path, name: str) -> None:
    runtime = start("packed", NEVER_S)
    runs = str(tmp_path / "runs")
    runtime.get(Tally, name).add.remote(runs).result()
    frozen = runtime.status().result().shards[runtime._transport.shard_of(f"Tally/{name}")]
    os.kill(frozen.pid, signal.SIGSTOP)
    waiting = [runtime.get(Tally, name).add.remote(runs) for _ in range(20)]
    directory = runtime._transport._directory  # type: ignore[attr-defined]
    successor = second(runtime, Shard, "another-shard", directory, frozen.index)
    try:
        asyncio.run(call_patiently(successor.wake, patience_s=60))
        wait_until(lambda: is_gone(frozen.pid))
    finally:
        kill(successor)
    assert [response.result().version for response in waiting] == list(range(2, 22))
    assert runtime.status().result().shards[frozen.index].epoch > frozen.epoch + 1


def test_a_shard_whose_file_a_stranger_took_over_ends_and_its_successor_serves(
    start: Start, tmp_path: Path, name: str
) -> None:
    runtime = start("packed", SOON_S)
    runs = str(tmp_path / "runs")
    runtime.get(Tally, name).add.remote(runs).result()
    status = runtime.status().result()
    before = status.shards[runtime._transport.shard_of(f"Tally/{name}")]
    with contextlib.closing(sqlite3.connect(Path(status.data) / f"shard-{before.index:04d}.db")) as stranger:
        stranger.execute("UPDATE info SET value = value + 1 WHERE key = 'epoch'")
        stranger.commit()
    assert runtime.get(Tally, name).add.remote(runs).result().version == 2
    after = runtime.status().result().shards[before.index]
    assert after.epoch == before.epoch + 2
    assert is_gone(before.pid)


def batch(channel: ActorChannel, id: str, number: int, prefix: str, runs: Path, *commands: str) -> Batch:
    """Commands for an instance, with the ids `prefix-0`, `prefix-1`, ..."""
    args = aggregate_model(Tally).commands["add"].encode((str(runs),), {})
    items = [
        CommandItem("Tally", id, command, args, f"{prefix}-{n}", True, None, b"") for n, command in enumerate(commands)
    ]
    return Batch("by-hand", channel.epoch, number, number, (), items, False)


async def answers(channel: ActorChannel, sent: Batch) -> list[Kind]:
    reply = await channel.submit(sent)
    found = [*reply.answers]
    while reply.pending:
        reply = await channel.collect(sent.client, sent.number)
        found += reply.answers
    return [kind for _, kind, _ in found]


def cut_off_activation(runtime: Runtime, id: str) -> Any:
    """An activation that the Directory does not know."""
    transport: Any = runtime._transport
    index = transport.shard_of(f"Tally/{id}")
    return second(runtime, ActivationShell, "cut-off", transport._directory, "Tally", id, index, None)


def test_a_superseded_activation_answers_nothing_and_runs_nothing_again(
    start: Start, tmp_path: Path, name: str
) -> None:
    runtime = start("dedicated", SOON_S)
    stale, fresh = tmp_path / "stale", tmp_path / "fresh"
    actor = cut_off_activation(runtime, name)

    async def freeze_and_go_on() -> list[Kind]:
        channel = await ActorChannel.open(actor, "by-hand")
        assert await answers(channel, batch(channel, name, 1, "first", stale, "add")) == [Kind.RECEIPT]
        pid = await actor.pulse.remote()
        os.kill(pid, signal.SIGSTOP)
        await asyncio.to_thread(wait_until, lambda: is_stopped(pid))
        late = asyncio.create_task(answers(channel, batch(channel, name, 2, "late", stale, "refuse", "add", "add")))
        receipt = await asyncio.to_thread(runtime.get(Tally, name).add.remote(str(fresh)).result)
        assert receipt.version == 2
        os.kill(pid, signal.SIGCONT)
        found = await late
        found += await answers(channel, batch(channel, name, 3, "later", stale, "add", "refuse"))
        return found

    try:
        found = asyncio.run(freeze_and_go_on())
    finally:
        kill(actor)
    assert found == [Kind.AGAIN] * 5
    ran_stale = stale.read_text().split()
    assert len(ran_stale) <= 1 + 3  # the first, and at most once each of the batch that met the superseded token
    assert len(fresh.read_text().split()) == 1
    ids = [meta.command_id for _, meta in runtime.history(Tally, name)]
    assert ids[0] == "first-0"
    assert len(ids) == 2


def test_two_activations_of_one_instance_take_turns_and_every_command_takes_effect_once(
    start: Start, tmp_path: Path, name: str
) -> None:
    runtime = start("dedicated", SOON_S)
    runs = str(tmp_path / "runs")
    actor = cut_off_activation(runtime, name)
    alice = runtime.get(Tally, name)

    async def send_to_both() -> None:
        numbers = count(1)
        for turn in range(TURNS):
            others = [alice.add.remote(runs) for _ in range(3)]
            kinds = [Kind.AGAIN]
            while Kind.AGAIN in kinds:  # as a Router does: greet it again, send again with the same ids
                channel = await ActorChannel.open(actor, "by-hand")
                sent = batch(channel, name, next(numbers), f"turn-{turn}", Path(runs), "add", "add", "refuse")
                kinds = await answers(channel, sent)
            assert kinds == [Kind.RECEIPT, Kind.RECEIPT, Kind.ERROR]
            for response in others:
                await response

    try:
        asyncio.run(send_to_both())
    finally:
        kill(actor)
    ids = [meta.command_id for _, meta in runtime.history(Tally, name)]
    assert len(ids) == len(set(ids)) == TURNS * 5
    with pytest.raises(Rejected, match=f"seen: {TURNS * 5}"):
        alice.refuse.remote(runs).result()
