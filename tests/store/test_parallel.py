from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from eventray.domain.errors import StoreCorrupted, StoreUnavailable
from eventray.store.parallel import side_by_side

HERE = "tests.store.test_parallel:"


def double(job: Mapping[str, Any], say: Callable[[int], None]) -> int:
    for _ in range(job["n"]):
        say(1)
    return 2 * int(job["n"])


def refuse(job: Mapping[str, Any], say: Callable[[int], None]) -> None:
    raise StoreCorrupted(f"shard {job['n']}", "it is torn", "A/1", 7)


def vanish(job: Mapping[str, Any], say: Callable[[int], None]) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("processes", [None, 1, 2])
def test_results_are_in_the_order_of_the_jobs_and_progress_adds_up(processes: int | None) -> None:
    told: list[tuple[str, int, int]] = []
    jobs = [{"n": n} for n in (3, 1, 2)]
    found = side_by_side(
        f"{HERE}double", jobs, phase="count", total=6, progress=lambda *news: told.append(news), processes=processes
    )
    assert found == [6, 2, 4]
    assert told == [("count", n, 6) for n in range(1, 7)]


@pytest.mark.parametrize("processes", [None, 2])
def test_an_error_arrives_as_what_it_is(processes: int | None) -> None:
    with pytest.raises(StoreCorrupted, match="it is torn") as caught:
        side_by_side(f"{HERE}refuse", [{"n": 0}], phase="", total=1, progress=None, processes=processes)
    assert (caught.value.path, caught.value.stream, caught.value.version) == ("shard 0", "A/1", 7)


def test_a_process_that_ends_early_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(StoreUnavailable, match="ended with 3"):
        side_by_side(f"{HERE}vanish", [{"n": 0}], phase="", total=1, progress=None, processes=2)
