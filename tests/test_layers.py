"""Imports go downwards only, and `import eventray` is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_layers_hold() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_eventray_imports_no_ray() -> None:
    code = "import sys, eventray, eventray.store, eventray.testing; assert 'ray' not in sys.modules, 'ray was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_but_the_ray_modules_of_the_runtime_imports_ray() -> None:
    places = {"lease.py", "looking.py", "nodes.py", "placing.py", "sharding.py", "watching.py"}
    allowed = {
        "directory.py",
        "metrics_ray.py",
        "ray_setup.py",
        "remote.py",
        "front.py",
        "shell.py",
        "shell_activation.py",
        "tailing.py",
        "transport_ray.py",
        *places,
    }
    allowed |= {"rebuild_ray.py", "dataset_ray.py", "dataset.py"}  # the last one for a type only
    users = {
        path.name
        for folder in ("domain", "store", "runtime")
        for path in (ROOT / folder).glob("*.py")
        if any(line.strip().startswith(("import ray", "from ray")) for line in path.read_text().splitlines())
    }
    assert users <= allowed
