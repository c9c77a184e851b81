"""History as a Ray Dataset: tasks read the shards, several for a long one, and give what the driver reads."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import eventray
from eventray.data import heads_of
from eventray.runtime import dataset_ray
from eventray.runtime.dataset_plan import Stretch
from tests.bank_app import Account, Deposited, Opened, make_app

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data")  # of Ray about its own settings


def read(ray: Any, dataset: Any) -> Any:
    return pa.concat_tables(ray.get(dataset.to_arrow_refs())).sort_by(
        [("meta_shard", "ascending"), ("meta_position", "ascending")]
    )


def test_tasks_read_what_the_driver_reads(ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_ray, "TASK_EVENTS", 7)
    app = make_app("ray-data", "packed")
    with eventray.run(app, data=tmp_path / "data", shards=2, read_page_events=3) as runtime:
        nothing = runtime.to_dataset((Opened, Deposited))
        assert nothing.schema().base_schema.equals(runtime.to_arrow((Opened, Deposited)).schema)
        assert read(ray_cluster, nothing).num_rows == 0
        commands = [Account.deposit.to(f"a{n % 5}", Decimal(n)) for n in range(1, 41)]
        list(runtime.send_all(commands[:25]))
        heads = runtime.heads().result()
        list(runtime.send_all(commands[25:]))

        first = runtime.to_dataset((Deposited,), at=heads)
        assert heads_of(first) == heads  # said before anything is read
        second = runtime.to_dataset((Deposited,), after=heads_of(first))
        tables = [read(ray_cluster, dataset) for dataset in (first, second)]
        assert [table.num_rows for table in tables] == [25, 15]
        driver = [runtime.to_arrow((Deposited,), at=heads), runtime.to_arrow((Deposited,), after=heads)]
        assert all(mine.equals(its) for mine, its in zip(tables, driver, strict=True))
        assert second.sum("amount") == sum(range(26, 41))
        assert len(runtime.to_pandas((Deposited,))) == 40
        assert runtime.to_parquet(tmp_path / "files", (Deposited,)) == heads_of(tmp_path / "files")


@pytest.mark.parametrize(
    ("stretch", "expected"),
    [
        (Stretch(0, 0, 0), [(0, 0)]),
        (Stretch(0, 5, 5), [(5, 5)]),
        (Stretch(0, 5, 15), [(5, 15)]),
        (Stretch(0, 5, 16), [(5, 15), (15, 16)]),
        (Stretch(0, 0, 25), [(0, 10), (10, 20), (20, 25)]),
    ],
)
def test_a_long_stretch_is_read_by_several_tasks(
    stretch: Stretch, expected: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_ray, "TASK_EVENTS", 10)
    assert [(part.after, part.until) for part in dataset_ray.parts(stretch)] == expected
