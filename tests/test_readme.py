"""The README's code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

README = Path(__file__).parent.parent / "README.md"


def blocks() -> list[str]:
    """The Python blocks of the README, in order."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_quickstart_prints_what_it_promises(tmp_path: Path) -> None:
    script = blocks()[0].replace('data="bank-data"', f"data={str(tmp_path)!r}, local=True")
    path = tmp_path / "quickstart.py"
    path.write_text(script)
    lines = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:2] == ["[('alice', Decimal('50'))]", "0"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2"]


def test_the_other_blocks_run_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = blocks()
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    for block in (first.split("if __name__")[0], *others):
        exec(compile(block, "README.md", "exec"), module.__dict__)
