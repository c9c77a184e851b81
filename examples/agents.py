"""Agents that outlive their processes: durable sessions, each an actor of its own that holds a resource of its own.

Every prompt, tool call, result and answer of a session is an event. Three sessions run side by side, each in its own
process with one `agent` of Ray's resources (with a real model: `num_gpus=0.5`). One is killed with SIGKILL while a
tool's result is on its way, and goes on where it was: its transcript is that of an undisturbed run, which is checked.
Then its history up to a version becomes a what-if session: the same past, another result, and what follows from it.

The model is a stand-in: a pure function of the seed and the conversation. It runs in the session's process; tools run
in the driver, for commands have no effects. The driver remembers nothing: a session's state says what comes next.

    python -m examples.agents

Starts a Ray of its own, or joins that of RAY_ADDRESS: `ray start --head --resources='{"agent": 3}'`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest
from typing import Annotated

import ray
import typer
from ray.util.state import list_actors
from rich.console import Console
from rich.table import Table

import eventray
from eventray import App, Command, Dedicated, Event, EventRayError
from examples.agent_session import Answered, Prompted, Session, Spent, Started, ToolCalled, ToolReturned, Usage

SLOTS = 3  # of the resource: as many sessions are active at once, a further one takes the room of an idle one
WEIGHTS_KG = {"tent": "2.1", "rope": "3.4", "axe": "0.7", "stove": "0.4", "bread": "0.9", "paddle": "1.2", "map": "0.1"}


def look_up(thing: str) -> str:
    """A tool: the weight of a thing."""
    return WEIGHTS_KG[thing]


def calculate(formula: str) -> str:
    """A tool: `2.1 + 3.4`, or `5.5 / 2`."""
    if "/" in formula:
        amount, parts = map(Decimal, formula.split("/"))
        return str(round(amount / parts, 2))
    return str(sum(map(Decimal, formula.split("+"))))


TOOLS = {"look_up": look_up, "calculate": calculate}


@dataclass(frozen=True)
class Task:
    """What a user wants of a session."""

    goal: str
    seed: int
    prompts: tuple[str, ...]


TASKS = {
    "ann": Task("the Alps", 1, ("What do tent, rope and axe weigh?", "Add stove and bread.", "Split it between 2.")),
    "bob": Task("the river", 2, ("What do paddle, tent and map weigh?", "Add bread.", "Split it between 3.")),
    "eve": Task("the night", 3, ("What do stove, map and bread weigh?", "Add rope and axe.", "Split it between 4.")),
}
VICTIM, WHAT_IF, LIGHTER_KG = "ann", "ann~what-if", "0.1"


def make_app(resource: str) -> App:
    """The app, each of its sessions holding one of the resource."""
    where = Dedicated(resources={resource: 1}, max_active=SLOTS)
    return App("agents", aggregates=[Session], projections=[Usage], placement={Session: where})


def next_command(state: Session, task: Task) -> Command | None:
    """What a session needs next, tools included; None when its task is done.

    The id is made of the session and its step: sent again, by whoever, after whatever crash, it happens once. A tool is
    asked again when the driver dies before its result is stored: one with effects takes the step as its own key, too.
    """
    step = f"{state.id}@{state.version}"
    if not state.goal:
        return Session.start.options(command_id=step).to(state.id, task.goal, task.seed)
    if state.awaited:
        result = TOOLS[state.awaited.tool](state.awaited.argument)
        return Session.take_result.options(command_id=step).to(state.id, result)
    if state.prompt:
        return Session.think.options(command_id=step).to(state.id)
    if state.turns < len(task.prompts):
        return Session.ask.options(command_id=step).to(state.id, task.prompts[state.turns])
    return None


Disturb = Callable[[Session], None]  # called while a step is on its way, with the state that it stands on


async def step(runtime: eventray.Runtime, id: str, task: Task, disturb: Disturb = lambda _: None) -> bool:
    """One step of a session, from wherever it stands; whether there was one left."""
    state = await runtime.state(Session, id)
    if (sending := next_command(state, task)) is None:
        return False
    response = runtime.send(sending)
    disturb(state)
    await response
    return True


async def carry_on(runtime: eventray.Runtime, tasks: dict[str, Task], disturb: Disturb = lambda _: None) -> None:
    """Bring sessions to the end of their tasks, side by side."""

    async def finish(id: str, task: Task) -> None:
        while await step(runtime, id, task, disturb):
            pass

    await asyncio.gather(*(finish(id, task) for id, task in tasks.items()))


async def transcript(runtime: eventray.Runtime, id: str) -> list[Event]:
    """What was said in a session."""
    return [event async for event, _ in runtime.history(Session, id)]


async def fork(runtime: eventray.Runtime, source: str, version: int, id: str) -> None:
    """Begin a session with the past of another."""
    past = [(type(event).__name__, vars(event)) for event in (await transcript(runtime, source))[:version]]
    await runtime.send(Session.fork.options(command_id=f"{id}@0").to(id, source, version, past))


async def undisturbed(app: App) -> dict[str, list[Event]]:
    """The transcripts of the same tasks, in this process, where nothing is killed."""
    with tempfile.TemporaryDirectory() as data:
        async with eventray.run(app, data=data, local=True) as runtime:
            await carry_on(runtime, TASKS)
            return {id: await transcript(runtime, id) for id in TASKS}


async def pids_of(runtime: eventray.Runtime) -> dict[str, int]:
    """The process of every active session."""
    status = await runtime.status()
    return {one.stream.removeprefix("Session/"): one.pid for one in status.activations if one.pid}


def actors_table(pids: dict[str, int]) -> Table:
    """The sessions, as `ray list actors` has them."""
    table = Table("actor", "pid", "holds", title="sessions in Ray")
    here = ray.get_runtime_context().gcs_address  # this machine may run several
    actors = list_actors(here, filters=[("class_name", "=", "Session"), ("state", "=", "ALIVE")], detail=True)
    held = {str(actor.name): actor.required_resources for actor in actors if actor.ray_namespace == "agents"}
    for id, pid in sorted(pids.items()):
        holds = ", ".join(f"{amount:g} {what}" for what, amount in (held.get(f"Session/{id}") or {}).items())
        table.add_row(f"Session/{id}", str(pid), holds)
    return table


def told(event: Event | None) -> str:
    """An event, for people."""
    match event:
        case Started(goal, seed):
            return f"started: pack for {goal}, seed {seed}"
        case Prompted(text):
            return f"user: {text}"
        case ToolCalled(tool, argument, thought):
            return f"model: {thought} {tool}({argument})"
        case ToolReturned(result):
            return f"tool: {result}"
        case Answered(text):
            return f"model: {text}"
        case _:
            return str(event or "")


def transcript_table(id: str, events: list[Event], killed_at: int) -> Table:
    """A whole session, with the place where it was killed."""
    table = Table("version", "event", title=f"history of Session/{id}")
    for version, event in enumerate(events, start=1):
        table.add_row(str(version), told(event))
        if version == killed_at:
            table.add_row("", "SIGKILL: the process is gone, the result is on its way to it", style="bold red")
    return table


def fork_table(version: int, real: list[Event], forked: list[Event]) -> Table:
    """Two continuations side by side; what differs is bold."""
    table = Table("", VICTIM, WHAT_IF, title=f"after version {version} of Session/{VICTIM}: as it went, and what if")
    for left, right in zip_longest(real, forked):
        differs = left != right
        table.add_row("!=" if differs else "", told(left), told(right), style="bold" if differs else "dim")
    return table


def usage_table(usage: dict[str, Spent]) -> Table:
    """What the view says."""
    table = Table("session", "turns", "tool calls", "tokens", title="view/Usage")
    for id, spent in sorted(usage.items()):
        table.add_row(id, str(spent.turns), str(spent.tool_calls), str(spent.tokens))
    return table


async def show(runtime: eventray.Runtime, console: Console, expected: dict[str, list[Event]]) -> bool:
    """Three sessions, a kill, a fork; whether every transcript is the expected one."""
    await asyncio.gather(*(step(runtime, id, task) for id, task in TASKS.items()))
    pids = await pids_of(runtime)
    console.print(await asyncio.to_thread(actors_table, pids))

    version = 0

    def kill_once(state: Session) -> None:
        nonlocal version
        if state.id == VICTIM and state.turns == 1 and state.awaited and not version:
            version = state.version
            os.kill(pids[VICTIM], signal.SIGKILL)

    await carry_on(runtime, TASKS, kill_once)
    real = await transcript(runtime, VICTIM)
    console.print(transcript_table(VICTIM, real, version))
    now = (await pids_of(runtime))[VICTIM]
    console.print(f"{VICTIM} was killed in process {pids[VICTIM]} and went on in process {now}")
    same = [id for id in TASKS if await transcript(runtime, id) == expected[id]]
    console.print(f"as in an undisturbed run, event by event: {', '.join(same)} ({len(same)} of {len(TASKS)})\n")

    await fork(runtime, VICTIM, version, WHAT_IF)
    lighter = Session.take_result.options(command_id=f"{WHAT_IF}@{version + 1}").to(WHAT_IF, LIGHTER_KG)
    await runtime.send(lighter)
    await carry_on(runtime, {WHAT_IF: TASKS[VICTIM]})
    console.print(fork_table(version, real[version:], (await transcript(runtime, WHAT_IF))[version + 1 :]))
    console.print(
        f"active: {', '.join(sorted(await pids_of(runtime)))}; of {SLOTS} slots, {WHAT_IF} took an idle one\n"
    )

    usage = await runtime.view(Usage).by_session.options(after=await runtime.heads()).remote()
    console.print(usage_table(usage))
    return len(same) == len(TASKS)


async def run(resource: str, console: Console, errors: Console) -> None:
    """Run the app; exit with 1 when a transcript is wrong, with 2 when Ray has too little of the resource."""
    app = make_app(resource)
    expected = await undisturbed(app)
    with tempfile.TemporaryDirectory() as data:
        async with eventray.run(app, data=data, shards=2) as runtime:
            found = (await asyncio.to_thread(ray.cluster_resources)).get(resource, 0)
            if found < SLOTS:
                errors.print(
                    f"this Ray has {found:g} of the resource {resource!r}, the sessions need {SLOTS}: start it with "
                    f"`ray start --head --resources='{{\"{resource}\": {SLOTS}}}'`, or unset RAY_ADDRESS",
                    markup=False,
                )
                raise typer.Exit(2)
            if not await show(runtime, console, expected):
                errors.print("a transcript is not that of the undisturbed run")
                raise typer.Exit(1)


def main(
    resource: Annotated[str, typer.Option(help="The custom resource of Ray that each session holds one of.")] = "agent",
) -> None:
    """Three durable agent sessions side by side; one is killed and goes on, its past is forked."""
    console, errors = Console(file=sys.stdout), Console(stderr=True, soft_wrap=True)
    try:
        with redirect_stdout(sys.stderr):  # Ray tells of killed workers on stdout
            if not os.environ.get("RAY_ADDRESS"):
                ray.init("local", resources={resource: SLOTS}, log_to_driver=False)
            asyncio.run(run(resource, console, errors))
    except EventRayError as error:
        errors.print(f"{type(error).__name__}: {error}", markup=False)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
