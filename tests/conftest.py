"""Fixtures that all tests share. Ray is started once, with its own temporary directory and no authentication."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray import App, Runtime

RAY_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}

Start = Callable[..., Runtime]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A Ray of our own for the whole session; its address is in RAY_ADDRESS for child processes."""
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray's sockets lie below it
    before = dict(os.environ)
    os.environ.update(RAY_ENVIRONMENT, RAY_TMPDIR=scratch)
    os.environ.pop("RAY_ADDRESS", None)
    (Path(scratch) / "ray").mkdir()
    import ray

    ray.init(num_cpus=2, include_dashboard=True, log_to_driver=False, _temp_dir=f"{scratch}/ray")
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    yield ray
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(params=["local", "packed", "dedicated"])
def placement(request: pytest.FixtureRequest) -> str:
    """Where instances live: in this process, in their shard's actor, or each in its own."""
    return str(request.param)


@pytest.fixture
def start(placement: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts the test app on the test's own data directory; ends it with the test."""
    from tests.bank_app import dedicated, packed

    if placement != "local":
        request.getfixturevalue("ray_cluster")

    with ExitStack() as running:

        def start_app(app: App | None = None, *, data: Path | None = None, **settings: Any) -> Runtime:
            app = app or (dedicated if placement == "dedicated" else packed)
            runtime = eventray.run(
                app, data=data or tmp_path / "data", shards=2, local=placement == "local", **settings
            )
            return running.enter_context(runtime)

        yield start_app


@pytest.fixture
def runtime(start: Start) -> Runtime:
    """The test app, serving."""
    return start()
