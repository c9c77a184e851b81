"""SIGTERM while commands run in this process: what a receipt was given for is kept, and the files are free at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import eventray
from tests.bank_app import Account, make_app

ROOT = Path(__file__).parent.parent.parent
TOLD = 200

DRIVER = """
import signal, sys
from decimal import Decimal
import eventray
from tests.bank_app import Account, make_app
if {handler}:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as the README says
sent = []
try:
    with eventray.run(make_app("terminated", "packed"), data=sys.argv[1], shards=2, local=True) as runtime:
        while True:
            sent = [runtime.get(Account, f"a{{n}}").deposit_twice.remote(Decimal(1)) for n in range(10)]
            for response in sent:
                receipt = response.result()
                print("told", receipt.stream, receipt.version, flush=True)
finally:
    print("undone", sum(not response.done() for response in sent), flush=True)
"""


@pytest.mark.parametrize("handler", [False, True])
def test_sigterm_loses_no_receipt_and_frees_the_files(tmp_path: Path, handler: bool) -> None:
    command: list[str | Path] = [sys.executable, "-c", DRIVER.format(handler=handler), tmp_path / "data"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        lines = [driver.stdout.readline() for _ in range(TOLD)]
        os.kill(driver.pid, signal.SIGTERM)
        lines += driver.stdout.readlines()
    assert driver.returncode == (0 if handler else -signal.SIGTERM)
    if handler:
        assert lines.pop() == "undone 0\n"  # what was sent was answered before the end
    told: dict[str, int] = {}
    for word, stream, at in (line.split() for line in lines if line.endswith("\n")):
        assert word == "told"
        told[stream] = int(at)
    with eventray.run(make_app("terminated", "packed"), data=tmp_path / "data", local=True) as again:
        for stream, version in told.items():
            state = again.state(Account, stream.partition("/")[2]).result()
            assert state.version >= version
            assert state.version % 2 == 0  # a command's two events, or none
            assert state.balance == state.version
