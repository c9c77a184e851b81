"""A shard in another process, when its actor is not where it was last seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from eventray.domain.errors import ShardUnavailable
from eventray.runtime.front import actor_class
from eventray.runtime.remote import PATIENCE_S, RemoteShard

HEAD = 7


class Answers:
    """As the actor of a shard with seven events."""

    async def call(self, method: str) -> tuple[bool, Any]:
        assert method == "fetch_head"
        return True, HEAD


@pytest.fixture(scope="module")
def actors(ray_cluster: Any) -> Iterator[tuple[Any, Any]]:
    """One that is dead for good, and one that took its place."""
    dead, alive = [actor_class(Answers).options(num_cpus=0).remote() for _ in range(2)]
    ray.kill(dead)
    yield dead, alive
    ray.kill(alive)


async def test_a_shard_whose_actor_is_gone_is_located_once(actors: tuple[Any, Any]) -> None:
    dead, alive = actors
    asked: list[int] = []

    async def locate(index: int) -> Any:
        asked.append(index)
        return alive

    shard = RemoteShard(3, locate, PATIENCE_S, dead)
    assert [await shard.fetch_head(), await shard.fetch_head()] == [HEAD, HEAD]
    assert asked == [3]


async def test_it_is_located_again_when_it_moves_once_more(actors: tuple[Any, Any]) -> None:
    dead, alive = actors
    places = [dead, dead, alive]

    async def locate(index: int) -> Any:
        return places.pop(0)

    assert await RemoteShard(3, locate, PATIENCE_S).fetch_head() == HEAD
    assert places == []


async def test_one_that_is_lost_ends_the_call_at_once(actors: tuple[Any, Any]) -> None:
    asked: list[int] = []

    async def locate(index: int) -> Any:
        asked.append(index)
        raise ShardUnavailable(index, "its file is on a node that is lost", lost=True)

    with pytest.raises(ShardUnavailable, match="a node that is lost") as caught:
        await RemoteShard(3, locate, PATIENCE_S, actors[0]).fetch_head()
    assert caught.value.lost
    assert asked == [3]


async def test_one_that_is_not_found_is_given_up_after_its_patience(actors: tuple[Any, Any]) -> None:
    async def locate(index: int) -> Any:
        return actors[0]

    with pytest.raises(ShardUnavailable):
        await RemoteShard(3, locate, 0.0, actors[0]).fetch_head()
