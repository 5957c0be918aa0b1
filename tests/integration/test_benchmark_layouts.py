"""The benchmark's tables hold the same rows in each layout, and they lie there as its name says."""

from functools import cache
from typing import Any

import pytest

from benchmarks.catalogue import Catalogue, execute, rows
from benchmarks.layouts import LAYOUTS, PARTITIONED, Layout, laid_out
from forecaster.postgres.dsn import Dsn
from forecaster.tables import STREAMS_TABLE
from tests.conftest import ServerNamed

TRACKS = 20
BY_NAME = {layout.name: layout for layout in LAYOUTS}


@pytest.fixture(scope="module")
def server(server_named: ServerNamed) -> Dsn:
    return server_named("embedded")


@cache
def made(server: Dsn, name: str) -> Catalogue:
    return laid_out(server, BY_NAME[name], TRACKS, say=lambda _: None)


def streams(catalogue: Catalogue, columns: str, order: str) -> list[tuple[Any, ...]]:
    table = catalogue.table(STREAMS_TABLE)
    return rows(catalogue.dsn, f"SELECT {columns} FROM {table} ORDER BY {order}").rows()


def test_by_day_each_day_comes_after_the_last_with_its_tracks_in_no_order(server: Dsn) -> None:
    lying = streams(made(server, "by day"), "date, cm_track_id", "ctid")
    assert [day for day, _ in lying] == sorted(day for day, _ in lying)
    newest = [track for day, track in lying if day == lying[-1][0]]
    assert len(newest) == TRACKS
    assert newest != sorted(newest)


def test_by_track_each_track_comes_after_the_last(server: Dsn) -> None:
    for name in ("by track", "by track, random uuid ids"):
        lying = streams(made(server, name), "cm_track_id, date", "ctid")
        assert lying == sorted(lying)


@pytest.mark.parametrize("name", [name for name in BY_NAME if not name.startswith("by track")])
def test_each_layout_has_the_same_rows(server: Dsn, name: str) -> None:
    columns = "cm_track_id, date, cm_artist_id, daily_streams, days_from_release"
    by_track = streams(made(server, "by track"), columns, "1, 2")
    assert streams(made(server, name), columns, "1, 2") == by_track


def test_a_copy_by_day_lies_as_its_original(server: Dsn) -> None:
    original, copy = (made(server, name) for name in ("by day", "by day, no key"))
    assert streams(copy, "date, cm_track_id", "ctid") == streams(original, "date, cm_track_id", "ctid")


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.group == PARTITIONED])
def test_a_month_has_a_partition(server: Dsn, layout: Layout) -> None:
    catalogue = made(server, layout.name)
    table = catalogue.table(STREAMS_TABLE)
    found = rows(
        server,
        f"""SELECT count(DISTINCT date_trunc('month', date))::bigint AS months FROM {table}
            GROUP BY tableoid ORDER BY min(date) DESC LIMIT {layout.partitions - 1}""",
    )
    assert {*found["months"]} == {1}
    partitions = f"SELECT count(*)::bigint FROM pg_inherits WHERE inhparent = '{table}'::regclass"
    assert rows(server, partitions).item() == layout.partitions
    keys = f"SELECT count(*)::bigint FROM pg_index WHERE indrelid = '{table}'::regclass AND indisunique"
    assert rows(server, keys).item() == (1 if layout.key else 0)


def test_tables_that_another_init_made_are_built_again(server: Dsn) -> None:
    catalogue = made(server, "by day")
    table = catalogue.table(STREAMS_TABLE)
    execute(server, f"CREATE INDEX of_another_init ON {table} (cm_artist_id)")
    assert laid_out(server, BY_NAME["by day"], TRACKS, say=lambda _: None) == catalogue
    indexes = f"SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = '{table}'::regclass"
    assert "of_another_init" not in str(rows(server, indexes).rows())
