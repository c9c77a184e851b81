"""A terminal for tests of the command line."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from eventray.runtime import cli


class Terminal:
    """Runs the command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def run(self, *words: object, expect: int = 0) -> str:
        """What it prints; on standard error when it is expected to fail."""
        self._monkeypatch.setattr(sys, "argv", ["eventray", *map(str, words)])
        self._monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = self._capsys.readouterr()
        assert (ended.value.code or 0) == expect, said
        return said.err if expect == cli.FAILED else said.out

    def json(self, *words: object, expect: int = 0) -> Any:
        """The object that it prints with --json."""
        return json.loads(self.run(*words, "--json", expect=expect))
