"""A client process of `app_kills`: callers that send transfers until its stdin ends. Prints each answer as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from dataclasses import asdict
from typing import Any

import eventray
from eventray import EventRayError, Receipt, Rejected, Runtime
from tests.chaos.bank import AGGREGATES, BURST, IDS, VAULTS, make_app
from tests.chaos.ledger import Told

COMMAND_TIMEOUT_S = 20.0
RETRIES_MAX = 30
RETRY_AFTER_S = 0.2
VAULT_CHANCE = 0.02  # of most it has to be started first: there are more than may be active


answers = sys.stdout


def tell(*facts: Any) -> None:
    """Tell who has started this process."""
    print(json.dumps(facts), file=answers, flush=True)


class Caller:
    """Sends one transfer after another, each in parts that do not wait for each other."""

    def __init__(self, runtime: Runtime, name: str, chance: random.Random) -> None:
        self._runtime = runtime
        self._name = name
        self._chance = chance
        self._number = 0

    async def transfer(self) -> None:
        """Withdraw from one account, then deposit to another what was not refused, each part with one id."""
        source, target = self._choose(), self._choose()
        while target == source:
            target = self._choose()
        parts = [(f"{self._name}-{self._number + n}", self._chance.randint(1, 40)) for n in range(BURST)]
        withdrawn = await asyncio.gather(*[self._send(source, "withdraw", id, amount) for id, amount in parts])
        paid = [part for part, told in zip(parts, withdrawn, strict=True) if told.outcome == "receipt"]
        await asyncio.gather(*[self._send(target, "deposit", id, amount) for id, amount in paid])

    def _choose(self) -> tuple[str, str]:
        vault = self._chance.random() < VAULT_CHANCE
        return IDS[self._chance.randrange(VAULTS)] if vault else IDS[self._chance.randrange(VAULTS, len(IDS))]

    def _send(self, account: tuple[str, str], command: str, command_id: str, amount: int) -> Any:
        """Send at once, so that the parts leave in order; the coroutine waits for the answer."""
        self._number += 1
        aggregate, id = account
        sign = -1 if command == "withdraw" else 1
        options = {"command_id": command_id, "timeout": COMMAND_TIMEOUT_S}
        value = getattr(AGGREGATES[aggregate], command).options(**options).to(id, amount)
        first = self._runtime.send(value)
        told = Told(self._name, self._number, f"{aggregate}/{id}", command_id, sign * amount, "unanswered")
        return self._answer(told, value, first, time.monotonic())

    async def _answer(self, told: Told, value: eventray.Command, response: Any, begun: float) -> Told:
        facts: dict[str, Any] = {"retries": 0}
        try:
            while facts["retries"] < RETRIES_MAX:
                try:
                    receipt: Receipt = await response
                except Rejected:
                    facts["outcome"] = "refused"
                    break
                except EventRayError as error:
                    facts["retries"] += 1
                    tell("error", type(error).__name__, str(error))
                    await asyncio.sleep(RETRY_AFTER_S)
                    response = self._runtime.send(value)
                else:
                    facts |= {"outcome": "receipt", "version": receipt.version}
                    facts |= {"shard": receipt.shard, "position": receipt.position}
                    break
        finally:
            answered = Told(**(asdict(told) | facts | {"seconds": time.monotonic() - begun}))
            tell("told", asdict(answered))
        return answered


async def call(app: str, name: str, seed: int, callers: int) -> None:
    chance = random.Random(seed)
    async with eventray.connect(make_app(app)) as runtime:
        tell("ready")
        ended = asyncio.Event()

        async def run(caller: Caller) -> None:
            while not ended.is_set():
                await caller.transfer()

        working = [
            asyncio.create_task(run(Caller(runtime, f"{name}-{n}", random.Random(chance.random()))))
            for n in range(callers)
        ]
        await asyncio.to_thread(sys.stdin.read)
        ended.set()
        await asyncio.gather(*working)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints to standard output when a process has died: nobody is to read that as an answer
    asyncio.run(call(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
