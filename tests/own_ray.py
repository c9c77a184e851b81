"""A Ray that nothing else uses, with its own temporary directory and no authentication."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RAY_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


@contextlib.contextmanager
def own_ray() -> Iterator[Any]:
    """Start it; its address is in RAY_ADDRESS for child processes until it ends."""
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray's sockets lie below it
    before = dict(os.environ)
    os.environ.update(RAY_ENVIRONMENT, RAY_TMPDIR=scratch)
    os.environ.pop("RAY_ADDRESS", None)
    (Path(scratch) / "ray").mkdir()
    import ray

    ray.init(
        num_cpus=2, resources={"agent": 3}, include_dashboard=True, log_to_driver=False, _temp_dir=f"{scratch}/ray"
    )
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    try:
        yield ray
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(scratch, ignore_errors=True)
