"""Fixtures that all tests share. Ray is started once, with its own temporary directory and no authentication."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import App, Runtime
from tests.bank_app import make_app
from tests.own_ray import own_ray
from tests.store import sample
from tests.terminal import Terminal

Start = Callable[..., Runtime]

# For what does not depend on where instances live: once in one process and once on Ray.
wherever_they_live = pytest.mark.parametrize("placement", ["local", "packed"], indirect=True, scope="session")

# For what does not depend on the transport either, or is seen on Ray in another test.
in_this_process = pytest.mark.parametrize("placement", ["local"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray of our own for the whole session; its address is in RAY_ADDRESS for child processes."""
    with own_ray() as ray:
        yield ray


@pytest.fixture(scope="session", params=["local", "packed", "dedicated"])
def placement(request: pytest.FixtureRequest) -> str:
    """Where instances live: in this process, in their shard's actor, or each in its own."""
    if request.param != "local":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


@pytest.fixture(scope="session")
def runtime(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One app that tests share, each with instances of its own (see `name`)."""
    data = tmp_path_factory.mktemp("shared")
    app = make_app(f"shared-{placement}", placement)
    with eventray.run(app, data=data, shards=2, local=placement == "local") as runtime:
        yield runtime


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An id that no other test uses."""
    return f"{request.node.name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def app(placement: str) -> App:
    """An app of the test's own."""
    return make_app(f"test-{uuid.uuid4().hex[:8]}", placement)


@pytest.fixture
def start(app: App, placement: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the test's own app on its own data directory, again and again; ends it with the test.

    With `local=True` in this process, wherever instances live: for a run that only prepares the store.
    """
    with ExitStack() as running:

        def start_app(**settings: Any) -> Runtime:
            settings = {"shards": 1, "local": placement == "local", **settings}
            return running.enter_context(eventray.run(app, data=tmp_path / "data", **settings))

        yield start_app


@pytest.fixture
def own_runtime(start: Start) -> Runtime:
    """The test's own app, serving."""
    return start()


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The command line, run in this process."""
    return Terminal(capsys, monkeypatch)


@pytest.fixture(scope="session")
def sound_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store with something of everything, closed; tests copy it before they change anything."""
    directory = tmp_path_factory.mktemp("sound") / "data"
    asyncio.run(sample.build(directory))
    return directory
