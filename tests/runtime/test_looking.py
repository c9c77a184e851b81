"""Which node a shard belongs to, by what is seen on the nodes. (Real nodes of one machine cannot have two disks.)"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from eventray import ShardUnavailable
from eventray.runtime.looking import Dealer, FileSeen, Seen, look
from eventray.runtime.nodes import Node
from eventray.store import Manifest

NODES = {id: Node(id, f"10.0.0.{n}", 1, 0, {}, {}) for n, id in enumerate("abc")}
FILE, OTHER_FILE = FileSeen(1, 7, 4096), FileSeen(1, 8, 8192)


def manifest(tmp_path: Path, shards: int = 1, *, created: bool = True, node: str = "") -> Manifest:
    made = Manifest.load_or_create(tmp_path / "data", app="bank", shards=shards)
    made.mark_all(list(range(shards)), "created" if created else "creating", node)
    return made


def seen(node: str, machine: str, *files: FileSeen) -> Seen:
    return Seen(NODES[node], machine, dict(enumerate(files)))


def test_what_was_never_made_is_dealt_round(tmp_path: Path) -> None:
    dealer = Dealer(manifest(tmp_path, 7, created=False), NODES)
    assert [dealer.node_for(index, []).id for index in range(7)] == list("abcabca")


def test_a_shard_is_where_its_file_is_whatever_was_recorded(tmp_path: Path) -> None:
    dealer = Dealer(manifest(tmp_path, node="a at 10.0.0.0"), NODES)
    assert dealer.node_for(0, [seen("a", "one"), seen("b", "two", FILE), seen("c", "three")]).id == "b"


def test_one_file_that_several_nodes_of_a_machine_see_is_one(tmp_path: Path) -> None:
    both = [seen("a", "one", FILE, FILE, FILE, FILE), seen("b", "one", FILE, FILE, FILE, FILE)]
    recorded = Dealer(manifest(tmp_path, 4, node="b at 10.0.0.1"), NODES)
    assert [recorded.node_for(index, both).id for index in range(4)] == list("bbbb")
    gone = Dealer(manifest(tmp_path, 4, node="z at 10.0.0.9"), NODES)
    assert Counter(gone.node_for(index, both).id for index in range(4)) == {"a": 2, "b": 2}


@pytest.mark.parametrize("other", [seen("b", "two", FILE), seen("b", "one", OTHER_FILE)])
@pytest.mark.parametrize("created", [True, False])
def test_two_files_for_one_shard_are_refused_and_both_are_named(tmp_path: Path, other: Seen, created: bool) -> None:
    dealer = Dealer(manifest(tmp_path, node="a at 10.0.0.0", created=created), NODES)
    with pytest.raises(ShardUnavailable, match=r"node a at 10\.0\.0\.0 .*node b at 10\.0\.0\.1") as refused:
        dealer.node_for(0, [seen("a", "one", FILE), other])
    assert refused.value.lost


def test_a_file_that_is_nowhere_is_never_made_again(tmp_path: Path) -> None:
    dealer = Dealer(manifest(tmp_path, node="a at 10.0.0.0"), NODES)
    with pytest.raises(ShardUnavailable, match=r"last seen on node a at 10\.0\.0\.0\. .* has .*/shard-0000\.db"):
        dealer.node_for(0, [seen(id, id) for id in NODES])


def test_while_its_node_could_not_be_looked_at_a_file_elsewhere_may_be_a_second_one(tmp_path: Path) -> None:
    dealer = Dealer(manifest(tmp_path, node="a at 10.0.0.0"), NODES, unseen={"a"})
    with pytest.raises(ShardUnavailable):
        dealer.node_for(0, [seen("b", "two", FILE)])


def test_a_shard_that_was_being_made_stays_on_its_node_and_starts_anew_only_without_it(tmp_path: Path) -> None:
    begun = manifest(tmp_path, created=False, node="b at 10.0.0.1")
    assert Dealer(begun, NODES).node_for(0, []).id == "b"
    rest = {id: node for id, node in NODES.items() if id != "b"}
    assert Dealer(begun, rest).node_for(0, [seen("a", "one"), seen("c", "three")]).id == "a"
    assert Dealer(begun, rest).node_for(0, [seen("a", "one"), seen("c", "three", FILE)]).id == "c"


def test_looking_tells_the_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "shard-0001.db").write_bytes(b"12345")
    machine, files = look(str(tmp_path), 3)
    assert machine == look(str(tmp_path / "nothing"), 3)[0]
    assert {index: file.size_bytes for index, file in files.items()} == {1: 5}
    assert files[1].inode == (tmp_path / "shard-0001.db").stat().st_ino
