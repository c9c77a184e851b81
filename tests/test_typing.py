"""mypy --strict finds the mistakes in what a user writes, and nothing where there are none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

USER_FILE = """
from __future__ import annotations

from decimal import Decimal

import eventray
from eventray import Aggregate, App, Command, Event, Meta, Packed, Projection, Receipt, Rejected, Response
from eventray import command, query, upcast
from eventray.testing import given


class Opened(Event):
    owner: str


class Deposited(Event, name="deposited", version=2):
    amount: Decimal
    note: str = ""


@upcast(Deposited, from_version=1)
def add_note(fields: dict[str, object]) -> dict[str, object]:
    return {**fields, "note": ""}


class Account(Aggregate, snapshot_every=500):
    owner: str | None = None
    balance: Decimal = Decimal(0)

    @command
    def open(self, owner: str) -> Opened | None:
        if self.owner is not None:
            raise Rejected(f"{self.id} belongs to {self.owner} since version {self.version}")
        return Opened(owner)

    @command
    def deposit(self, amount: Decimal) -> Deposited:
        return Deposited(amount)

    @command(blocking=True)
    def audit(self, depth: int = 1) -> list[Opened | Deposited]:
        return []

    def apply(self, event: Opened | Deposited) -> None:
        match event:
            case Opened(owner):
                self.owner = owner
            case Deposited(amount):
                self.balance += amount


class Balances(Projection):
    total: dict[str, Decimal] = {}

    def apply(self, event: Opened | Deposited, meta: Meta) -> None:
        match event:
            case Opened():
                self.total[meta.id] = Decimal(0)
            case Deposited(amount):
                self.total[meta.id] += amount

    @query
    def top(self, n: int = 10) -> list[tuple[str, Decimal]]:
        return sorted(self.total.items(), key=lambda kv: -kv[1])[:n]


bank = App("bank", aggregates=[Account], projections=[Balances], placement={Account: Packed()})


async def right(runtime: eventray.Runtime) -> None:
    alice, view = runtime.get(Account, "alice"), runtime.view(Balances)
    receipt: Receipt = alice.deposit.remote(Decimal(50)).result(timeout=1.0)
    waiting: Response[Receipt] = alice.open.options(command_id="tx", expected_version=0).remote(owner="Alice")
    again: Receipt = await waiting
    audited: Receipt = alice.audit.remote(depth=3).result()
    best: list[tuple[str, Decimal]] = view.top.options(after=[receipt, again, audited], timeout=1).remote(5).result()
    sent: Command = Account.deposit.options(command_id="tx-17").to("alice", Decimal(50))
    event: Deposited = Account(balance=Decimal(9)).deposit(Decimal(1))
    print(best, sent, event, Deposited(Decimal(1), "x"), Deposited(amount=Decimal(1)))
    given(Account, [Opened("a")]).when(Account.deposit, Decimal(1)).then(event).then_state(balance=Decimal(1))
    given(Balances, [(event, "alice")]).query(Balances.top, 3).then([("alice", Decimal(1))])


def wrong(runtime: eventray.Runtime) -> None:
    alice, view = runtime.get(Account, "alice"), runtime.view(Balances)
    alice.deposit.remote("x")  # wrong: arg-type
    alice.deposit.options(command_id="tx").remote(5)  # wrong: arg-type
    alice.open.remote()  # wrong: call-arg
    alice.deposit.options(commandid="tx")  # wrong: call-arg
    Account.deposit.to("a", 5.0)  # wrong: arg-type
    Deposited(3)  # wrong: arg-type
    Deposited(Decimal(3)).amount = Decimal(4)  # wrong: misc
    Account(balanc=3)  # wrong: call-arg
    Account("Alice")  # wrong: call-arg
    x: int = view.top.remote().result()  # wrong: assignment
    view.top.remote("5")  # wrong: arg-type
    given(Account).when(Account.deposit, "x")  # wrong: arg-type
"""


def test_mypy_finds_exactly_the_planted_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "user.py"
    path.write_text(USER_FILE)
    planted = {
        (number, match[1])
        for number, line in enumerate(USER_FILE.splitlines(), start=1)
        if (match := re.search(r"# wrong: ([a-z-]+)$", line))
    }
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--cache-dir", str(tmp_path / "cache"), str(path)],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {
        (int(match[1]), match[2])
        for line in done.stdout.splitlines()
        if (match := re.match(r".*user\.py:(\d+): error: .*\[([a-z-]+)\]$", line))
    }
    assert len(planted) == 12
    assert found == planted, done.stdout + done.stderr
