"""send_all paces itself: as many on the way as are answered well within their timeout."""

from __future__ import annotations

from decimal import Decimal

import pytest

from eventray import Command, Overloaded, Receipt
from eventray.runtime import sending
from eventray.runtime.config import Config
from eventray.runtime.response import Response
from eventray.runtime.sending import SendAll
from tests.bank_app import Account


class Server:
    """Runs commands one after another, each for the same time, on a clock of its own."""

    def __init__(self, each_s: float) -> None:
        self.now = 0.0
        self.each_s = each_s
        self.free_at = 0.0
        self.waits: list[float] = []
        self.full_for = 0
        self.slept: list[float] = []

    def send(self, command: Command) -> Response[Receipt]:
        if self.full_for:
            self.full_for -= 1
            refused: Response[Receipt] = Response()
            refused.set_exception(Overloaded("this client", 1, "commands and queries", 0.5))
            return refused
        self.free_at = max(self.free_at, self.now) + self.each_s
        self.waits.append(self.free_at - self.now)
        return Running(self, self.free_at)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, time_s: float) -> None:
        self.slept.append(time_s)


class Running(Response[Receipt]):
    __slots__ = ("_ends_at", "_server")

    def __init__(self, server: Server, ends_at: float) -> None:
        super().__init__()
        self._server = server
        self._ends_at = ends_at

    def done(self) -> bool:
        return self._server.now >= self._ends_at

    def result(self, timeout: float | None = None) -> Receipt:
        self._server.now = max(self._server.now, self._ends_at)
        return Receipt("Account/a", 1, 0, 1, (), "id", False)


def commands(number: int) -> list[Command]:
    return [Account.deposit.to("a", Decimal(1))] * number


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server(1.0)
    monkeypatch.setattr("eventray.runtime.sending.time", server)
    return server


def test_slow_commands_do_not_wait_for_each_other_until_they_time_out(server: Server) -> None:
    config = Config(command_timeout_s=80.0)
    assert len(list(SendAll(server.send, commands(500), config, False))) == 500
    assert max(server.waits) < config.command_timeout_s
    assert max(server.waits[200:]) <= config.command_timeout_s / sending.PARTS_OF_TIMEOUT + 2


def test_quick_commands_fill_the_window(server: Server) -> None:
    server.each_s = 0.0001
    list(SendAll(server.send, commands(20_000), Config(send_all_commands_max=5_000), False))
    assert max(server.waits) == pytest.approx(5_000 * server.each_s, rel=0.01)


def test_a_slow_consumer_does_not_make_commands_look_slow(server: Server) -> None:
    server.each_s = 0.0001
    ahead = 0
    for received, _ in enumerate(SendAll(server.send, commands(1_000), Config(), False)):
        server.now += 60.0
        ahead = max(ahead, len(server.waits) - received)
    assert ahead > 2 * sending.WINDOW_FIRST


def test_what_is_not_admitted_is_sent_again_when_there_is_room(server: Server) -> None:
    server.full_for = 3
    assert len(list(SendAll(server.send, commands(5), Config(), False))) == 5
    assert server.slept == [0.5] * 3
