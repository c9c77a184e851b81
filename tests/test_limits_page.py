"""docs/commands.md names every limit of the engine, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

from eventray.runtime.config import Config

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"


def test_the_page_of_limits_names_each_with_its_default() -> None:
    rows = [row.split("|")[1:3] for row in PAGE.read_text().splitlines() if row.startswith("| `") and "_max`" in row]
    defaults = {
        name: value.strip()
        for names, values in rows
        for name, value in zip(re.findall(r"`(\w+)`", names), re.split(r", (?=\d)", values), strict=True)
    }
    config = Config()
    assert {name: _in_bytes(value) for name, value in defaults.items()} == {
        name: getattr(config, name) for name in Config.__slots__ if name.endswith("_max")
    }


def _in_bytes(text: str) -> int:
    number, _, unit = text.partition(" ")
    return int(number.replace(",", "")) * {"": 1, "MiB": 1 << 20}[unit]
