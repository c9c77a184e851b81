"""The session of `examples.agents`: a conversation between a user, a model and its tools, as events.

What the model will do next follows from the state alone, so any process can go on with it. The model is a stand-in: a
pure function of the seed and the conversation.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from eventray import Aggregate, Event, Meta, Projection, Rejected, command, query

THINGS = ("tent", "rope", "axe", "stove", "bread", "paddle", "map")  # what the model has words for


class Started(Event):
    goal: str
    seed: int  # of the model


class Prompted(Event):  # a turn begins
    text: str


class ToolCalled(Event):  # the session waits for the result
    tool: str
    argument: str
    thought: str


class ToolReturned(Event):
    result: str


class Answered(Event):  # the turn ends
    text: str


class Forked(Event):  # what stands before it is the past of another session, up to that version
    source: str
    version: int


Past = tuple[str, dict[str, str | int]]  # an event as an argument: its class by name, and its fields
COPIED: dict[str, Callable[..., Event]] = {
    cls.__name__: cls for cls in (Started, Prompted, ToolCalled, ToolReturned, Answered, Forked)
}


@dataclass(frozen=True)
class Call:
    """A tool call of the turn; the result is None while it is waited for."""

    tool: str
    argument: str
    result: str | None = None


class Session(Aggregate):
    """A conversation between a user, a model and its tools."""

    goal: str = ""
    seed: int = 0
    turns: int = 0  # that ended in an answer
    prompt: str = ""  # of the turn that is not answered yet
    calls: list[Call] = []  # of that turn
    total: str = ""  # what was found last

    @property
    def awaited(self) -> Call | None:
        """The tool call whose result is not there yet."""
        return self.calls[-1] if self.calls and self.calls[-1].result is None else None

    @command
    def start(self, goal: str, seed: int) -> Started:
        """Begin."""
        if self.goal:
            raise Rejected(f"{self.id} has a goal already: {self.goal}")
        return Started(goal, seed)

    @command
    def ask(self, text: str) -> Prompted:
        """Say something to the model, when it has answered what was said before."""
        if not self.goal or self.prompt:
            raise Rejected(f"{self.id} is in the middle of a turn" if self.goal else f"{self.id} has not started")
        return Prompted(text)

    @command(blocking=True)  # a real model takes its time: nothing else in the process waits for it
    def think(self) -> ToolCalled | Answered:
        """Let the model make its next move."""
        if not self.prompt or self.awaited:
            raise Rejected(f"{self.id} waits for {'a tool' if self.awaited else 'a prompt'}")
        return model(self.seed, self.prompt, self.total, self.calls)

    @command
    def take_result(self, result: str) -> ToolReturned:
        """Go on with what the tool said."""
        if not self.awaited:
            raise Rejected(f"{self.id} waits for no tool")
        return ToolReturned(result)

    @command
    def fork(self, source: str, version: int, past: list[Past]) -> list[Event]:
        """Begin with the past of another session."""
        if self.version:
            raise Rejected(f"{self.id} has a past of its own")
        return [*(COPIED[name](**fields) for name, fields in past), Forked(source, version)]

    def apply(self, event: Started | Prompted | ToolCalled | ToolReturned | Answered | Forked) -> None:
        match event:
            case Started(goal, seed):
                self.goal, self.seed = goal, seed
            case Prompted(text):
                self.prompt, self.calls = text, []
            case ToolCalled(tool, argument):
                self.calls.append(Call(tool, argument))
            case ToolReturned(result):
                self.calls[-1] = replace(self.calls[-1], result=result)
            case Answered():
                self.turns, self.prompt, self.total = self.turns + 1, "", self.calls[-1].result or ""
            case Forked():
                pass  # it is told, and changes nothing


@dataclass
class Spent:
    """What a session has used."""

    turns: int = 0
    tool_calls: int = 0
    tokens: int = 0  # words, here


class Usage(Projection):
    """What every session has used itself; a copied past was paid for by its source."""

    spent: dict[str, Spent] = {}

    def apply(self, event: Prompted | ToolCalled | ToolReturned | Answered | Forked, meta: Meta) -> None:
        spent = self.spent.setdefault(meta.id, Spent())
        match event:
            case Forked():
                self.spent[meta.id] = Spent()
                return
            case Answered():
                spent.turns += 1
            case ToolCalled():
                spent.tool_calls += 1
            case _:
                pass
        spent.tokens += sum(len(text.split()) for text in vars(event).values())

    @query
    def by_session(self) -> dict[str, Spent]:
        """All sessions."""
        return self.spent


def model(seed: int, prompt: str, total: str, calls: list[Call]) -> ToolCalled | Answered:
    """Stands in for a language model: for the same conversation the same words, for another seed others."""
    dice = random.Random(f"{seed} {prompt} {len(calls)}")
    things = [thing for thing in THINGS if thing in re.findall(r"\w+", prompt)]
    random.Random(seed).shuffle(things)
    if len(calls) < len(things):
        thought = dice.choice(["I do not know this one.", "Better to look than to guess.", "Next on the list."])
        return ToolCalled("look_up", things[len(calls)], thought)
    if len(calls) == len(things):
        known = [total] * bool(total) + [call.result or "0" for call in calls]
        people = re.search(r"\d+", prompt)
        thought = dice.choice(["Now the sum.", "Let me calculate.", "I have all the numbers."])
        return ToolCalled("calculate", f"{known[0]} / {people[0]}" if people else " + ".join(known), thought)
    opening = dice.choice(["It comes to", "That makes", "I find"])
    return Answered(f"{opening} {calls[-1].result} kg.")
