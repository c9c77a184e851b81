"""`eventray dead-letters` and `eventray rebuild`: care for views, from a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import eventray
from eventray.runtime.rebuild import Rebuild, Rebuilt
from tests.bank_app import Account
from tests.parking_app import Totals, make_app
from tests.terminal import Terminal


def test_dead_letters_are_listed_shown_tried_again_and_dropped(
    ray_cluster: Any, terminal: Terminal, tmp_path: Path
) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    with eventray.run(make_app("letters"), data=tmp_path / "data", shards=1) as runtime:
        for id in ("alice", "bob"):
            runtime.get(Account, id).open.remote(str(fault)).result()
        runtime.view(Totals).seen.options(after=runtime.heads().result()).remote().result()
        said = terminal.run("dead-letters", "list", "Totals", "--app", "letters")
        assert "Account/alice@1" in said
        assert "0:2" in said
        first, second = terminal.json("dead-letters", "list", "Totals", "--app", "letters")
        assert (first["id"], first["event_id"], second["id"]) == ("0:1", "Account/alice@1", "0:2")
        assert "raise ValueError" in terminal.run("dead-letters", "show", "Totals", "0:1", "--app", "letters")
        assert "failed again" in terminal.run("dead-letters", "retry", "Totals", "0:1", "--app", "letters", expect=1)
        fault.unlink()
        assert terminal.json("dead-letters", "retry", "Totals", "0:1", "--app", "letters") == {"0:1": ""}
        assert terminal.run("dead-letters", "drop", "Totals", "--app", "letters") == "1 dropped\n"
        assert "no dead letters" in terminal.run("dead-letters", "list", "Totals", "--app", "letters")
        assert "there are Totals, Strict" in terminal.run("dead-letters", "list", "Sums", "--app", "letters", expect=2)
        assert "0:1" in terminal.run("dead-letters", "show", "Totals", "0:1", "--app", "letters", expect=2)


def test_a_view_is_made_anew_or_given_up_with_ctrl_c(
    ray_cluster: Any, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    with eventray.run(make_app("anew"), data=tmp_path / "data", shards=1) as runtime:
        runtime.get(Account, "alice").open.remote(str(fault)).result()
        runtime.view(Totals).seen.options(after=runtime.heads().result()).remote().result()
        fault.unlink()

        def pressed(rebuild: Rebuild, timeout: float | None = None) -> Rebuilt:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Rebuild, "result", pressed)
            patched.setattr("eventray.runtime.rebuild_ray._fold", _endless)
            terminal.run("rebuild", "Totals", "--app", "anew", expect=130)
        seen: Any = runtime.view(Totals).seen.remote().result()
        assert seen == ([], 0)
        assert "Totals: 1 events in" in terminal.run("rebuild", "Totals", "--app", "anew")
        seen = runtime.view(Totals).seen.remote().result()
        assert seen == ([str(fault)], 0)
        done = terminal.json("rebuild", "Totals", "--app", "anew")
        assert (done["view"], done["events"]) == ("Totals", 1)
        assert "there are Totals, Strict" in terminal.run("rebuild", "Sums", "--app", "anew", expect=2)


def _endless(*_: Any) -> Iterator[int]:
    """A fold that looks at nothing, again and again."""
    waiter = threading.Event()
    while True:
        waiter.wait(0.1)
        yield 0
