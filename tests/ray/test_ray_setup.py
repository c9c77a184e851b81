"""Ray absent, out of reach, or asking for a token that we do not have: one typed error that says what to do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

TRY = """
import sys
{before}
import eventray
from tests.bank_app import make_app
try:
    with eventray.{call}:
        print("connected")
except eventray.RayUnavailable as error:
    print("RayUnavailable", error)
"""
HOST = """
import sys
import ray
from eventray.runtime.ray_setup import ensure_ray
ensure_ray()
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def attempt(call: str, environment: dict[str, str], *, before: str = "") -> str:
    code = TRY.format(call=call, before=before)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


CHECK = """
from eventray.runtime.ray_setup import check_protected, joined_ray
with joined_ray():
    check_protected()
"""


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """An environment with a home and a Ray directory of its own, and Ray's own choice of authentication."""
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray's sockets lie below it
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    (Path(scratch) / "ray").mkdir()
    yield own | {"HOME": scratch, "RAY_TMPDIR": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def guarded(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a machine on which eventray has started Ray; RAY_ADDRESS names it."""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    address = next(line.split()[1] for line in host.stdout if line.startswith("address"))
    yield environment | {"RAY_ADDRESS": address}
    host.communicate()


def test_ray_that_is_not_installed_is_named(environment: dict[str, str]) -> None:
    hidden = "sys.modules['ray'] = None"
    out = attempt("run(make_app('a', 'packed'), data='unused')", environment, before=hidden)
    assert out.startswith("RayUnavailable")
    assert "pip install" in out


def test_ray_that_is_out_of_reach_is_named(environment: dict[str, str]) -> None:
    out = attempt("connect('a')", environment | {"RAY_ADDRESS": "127.0.0.1:9"})
    assert out.startswith("RayUnavailable")
    assert "RAY_ADDRESS" in out


def test_a_ray_that_we_start_asks_for_a_token_and_keeps_it_private(guarded: dict[str, str]) -> None:
    token = Path(guarded["HOME"]) / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    wrong = guarded | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    out = attempt("connect('a')", wrong)
    assert out.startswith("RayUnavailable")
    assert "token" in out
    good = guarded | {"RAY_AUTH_MODE": "token"}  # the token is in its home
    with_token = attempt(f"run(make_app('a', 'packed'), data={str(Path(guarded['HOME']) / 'data')!r}, shards=1)", good)
    assert with_token.strip().endswith("connected")
    subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, env=good, check=True)  # `eventray serve` takes it


def test_the_token_of_a_ray_that_the_program_has_started_becomes_private(environment: dict[str, str]) -> None:
    data = str(Path(environment["HOME"]) / "data")
    before = "import ray; ray.init()"
    assert "connected" in attempt(f"run(make_app('a', 'packed'), data={data!r}, shards=1)", environment, before=before)
    token = Path(environment["HOME"]) / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
