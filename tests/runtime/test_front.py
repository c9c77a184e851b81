"""What a process of an app has to import: its own shell, and nothing of the actors that it has handles of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eventray.runtime.directory import Directory
from eventray.runtime.front import actor_class
from eventray.runtime.remote import pickled
from eventray.runtime.shell_activation import ActivationShell
from eventray.runtime.shell_shard import Shard
from eventray.runtime.shell_view import ViewShell


def modules_after(code: str, *arguments: str) -> set[str]:
    """What a new process has imported when it has run some code."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)", *arguments]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_a_dedicated_activation_imports_no_sqlite_no_views_and_no_metrics() -> None:
    modules = modules_after("import eventray.runtime.shell_activation")
    needless = {"sqlite3", "aiosqlite", "ray.util.metrics", "eventray.runtime.hosting", "eventray.runtime.projector"}
    assert needless & modules == set()
    assert "eventray.runtime.activation" in modules


@pytest.mark.parametrize("shell", [ActivationShell, Directory, Shard, ViewShell])
def test_the_class_that_comes_with_the_handle_of_an_actor_brings_nothing_along(
    shell: type[object], tmp_path: Path
) -> None:
    made = actor_class(shell, "Named").__ray_metadata__.modified_class
    assert made.__name__ == "Named"
    (tmp_path / "class").write_bytes(pickled(made))
    code = "import pickle; assert hasattr(pickle.load(open(sys.argv[1], 'rb')), 'pulse')"
    modules = modules_after(code, str(tmp_path / "class"))
    assert shell.__module__ not in modules
    assert "sqlite3" not in modules
