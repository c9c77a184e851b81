"""Nodes that go and come: what an app on three nodes does then. One scenario, run once as a child process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.own_ray import RAY_ENVIRONMENT
from tests.ray.nodes_scenario import COMMANDS

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 60.0  # of a command: what ends in `ShardUnavailable` does not wait for it


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    scratch = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: Ray's sockets lie below it
    (scratch / "ray").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= RAY_ENVIRONMENT | {"RAY_TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "tests.ray.nodes_scenario", str(tmp_path_factory.mktemp("nodes"))]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    yield json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(scratch, ignore_errors=True)


def check_refusal(refusal: dict[str, Any], node: str) -> None:
    assert refusal["message"].startswith("shard "), refusal
    assert f"was last seen on node {node[:12]} at " in refusal["message"]
    assert refusal["lost"]
    assert refusal["seconds"] < TIMEOUT_S / 2


def test_a_new_store_is_dealt_round_over_the_nodes(seen: dict[str, Any]) -> None:
    assert seen["spread"] == [2, 2, 2]
    assert seen["nodes of replicas"] == 3


def test_what_needs_a_lost_node_is_refused_at_once_and_told_where_its_file_was(seen: dict[str, Any]) -> None:
    assert set(seen["refused"]) == {"command", "state", "history", "heads"}
    for refusal in (*seen["refused"].values(), seen["dedicated lost"]):
        check_refusal(refusal, seen["node"])
    assert len(seen["status"]) == 2
    for status in seen["status"]:
        assert status["state"] == "unavailable"
        assert status["node"].startswith(f"{seen['node']} at ")
        assert seen["node"][:12] in status["reason"]


def test_commands_on_their_way_when_a_node_goes_end_in_a_receipt_or_say_that_their_shard_is_lost(
    seen: dict[str, Any],
) -> None:
    assert set(seen["across the loss"]) == {"Receipt", "ShardUnavailable"}


def test_all_other_shards_and_the_views_serve_on(seen: dict[str, Any]) -> None:
    assert set(seen["while lost"]) == {"Receipt", "ShardUnavailable"}
    assert seen["while lost"]["Receipt"] > COMMANDS / 3
    assert seen["views behind"] == [0, 0, 0, 0]
    assert seen["dedicated there"]["message"].startswith("answered Receipt")


def test_a_lost_shard_is_never_made_anew_nor_served_by_another_node_of_the_machine(seen: dict[str, Any]) -> None:
    assert seen["not taken by a sibling"]
    assert seen["made anew"] == seen["made anew by the next directory"] == seen["made anew at start"] == []


def test_a_node_that_comes_back_serves_its_shards_again_without_help(seen: dict[str, Any]) -> None:
    assert seen["taken by the new node"]
    assert set(seen["sent again"]) == {"Receipt"}
    check_nothing_lost(seen["when back"])


def check_nothing_lost(found: dict[str, Any]) -> None:
    assert found["receipts lost"] == 0
    assert found["stored"] == found["view"] == found["sent"]


def test_the_directory_survives_its_own_death(seen: dict[str, Any]) -> None:
    assert set(seen["directory killed"]) == {"Receipt"}


def test_the_directory_survives_its_own_death_while_a_node_is_lost(seen: dict[str, Any]) -> None:
    assert seen["still lost"]
    assert set(seen["directory killed while lost"]) == {"Receipt", "ShardUnavailable"}
    check_refusal(seen["refused by the next directory"], seen["node that came back"])


def test_an_app_starts_without_some_files_and_takes_them_when_they_are_there(seen: dict[str, Any]) -> None:
    assert seen["unavailable at start"] == 2
    assert set(seen["served at start"]) == {"Receipt", "ShardUnavailable"}
    assert set(seen["sent again after start"]) == {"Receipt"}


def test_shards_are_found_by_looking_where_all_nodes_are_new(seen: dict[str, Any]) -> None:
    check_nothing_lost(seen["when put back"])
