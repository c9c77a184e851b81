"""Puts figures into a page, between marks, so that its text is written once and its tables are made anew."""

from __future__ import annotations

import re
from pathlib import Path


def put(page: Path, name: str, text: str) -> None:
    """Replace what a page has between `<!-- figures: name -->` and `<!-- end -->`.

    Raises:
        ValueError: the page has no such place.
    """
    place = re.compile(rf"(<!-- figures: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    filled, places = place.subn(lambda found: f"{found[1]}{text}{found[2]}", page.read_text())
    if places != 1:
        raise ValueError(f"{page} has {places} places for the figures {name!r}")
    page.write_text(filled)
