"""`eventray dead-letters`: what views left behind, from a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import eventray
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
        said = terminal.run("dead-letters", "list", "letters", "Totals")
        assert "Account/alice@1" in said
        assert "0:2" in said
        first, second = terminal.json("dead-letters", "list", "letters", "Totals")
        assert (first["id"], first["event_id"], second["id"]) == ("0:1", "Account/alice@1", "0:2")
        assert "raise ValueError" in terminal.run("dead-letters", "show", "letters", "Totals", "0:1")
        assert "failed again" in terminal.run("dead-letters", "retry", "letters", "Totals", "0:1", expect=1)
        fault.unlink()
        assert terminal.json("dead-letters", "retry", "letters", "Totals", "0:1") == {"0:1": ""}
        assert terminal.run("dead-letters", "drop", "letters", "Totals") == "1 dropped\n"
        assert "no dead letters" in terminal.run("dead-letters", "list", "letters", "Totals")
        assert "there are Totals, Strict" in terminal.run("dead-letters", "list", "letters", "Sums", expect=2)
        assert "0:1" in terminal.run("dead-letters", "show", "letters", "Totals", "0:1", expect=2)
