"""Which rows a table cannot hold, and why: by track, whatever the table lets through."""

import math
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rows import fit, ingest
from forecaster.postgres.tables import read_tables
from forecaster.tables import FORECAST_TABLE
from tests import sql
from tests.tables import create_tables

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


FORECASTS = pl.Schema(
    {
        "month": pl.Int64(),
        "forecasted_value": pl.Float64(),
        "segment_used": pl.Int64(),
        "time_used": pl.Int64(),
        "cm_track_id": pl.Int64(),
        "cm_artist_id": pl.Int64(),
        "training_data_id": pl.Int64(),
        "created_at": pl.Datetime("us", "UTC"),
    }
)


def forecasts(**changes: Any) -> pl.DataFrame:
    """One month of tracks 7, 8 and 9, with something else in that of track 8."""
    usual: dict[str, Any] = dict.fromkeys(FORECASTS, 1) | {"created_at": EPOCH}
    rows = [usual | {"cm_track_id": track} | (changes if track == 8 else {}) for track in (7, 8, 9)]
    return pl.DataFrame(rows, schema=FORECASTS, strict=False)


@pytest.mark.parametrize("column", FORECASTS)
def test_a_forecast_without_a_value_is_refused_whatever_the_table_lets_through(
    embedded_database: Dsn, column: str
) -> None:
    create_tables(embedded_database, value="double precision")
    with connect(embedded_database) as connection:
        tables = read_tables(connection, "public")
    fitted = fit(forecasts(**{column: None}), tables, FORECAST_TABLE)
    refused = [mask.to_list() for mask in fitted.problems.values()]
    assert refused == ([] if column == "training_data_id" else [[False, True, False]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"forecasted_value": math.nan}, "forecasted_value: a value that does not fit double precision"),
        ({"forecasted_value": math.inf}, "forecasted_value: a value that does not fit double precision"),
        ({"month": 2**15}, "month: a value that does not fit smallint"),
        ({"segment_used": 2**31}, "segment_used: a value that does not fit integer"),
        ({"training_data_id": None, "time_used": None}, "time_used: NULL, but a value is required"),
    ],
)
def test_which_track_cannot_be_stored_and_why(embedded_database: Dsn, changes: Any, reason: str) -> None:
    create_tables(embedded_database, value="double precision")
    with connect(embedded_database) as connection:
        tables = read_tables(connection, "public")
    assert fit(forecasts(**changes), tables, FORECAST_TABLE).by("cm_track_id") == {8: reason}


@pytest.mark.parametrize("type_", ["numeric(9)", "numeric(12, 3)", "few"])
def test_a_numeric_column_of_limited_precision(embedded_database: Dsn, type_: str) -> None:
    sql.run(embedded_database, "CREATE DOMAIN few AS numeric(11, 2)")
    create_tables(embedded_database, value=type_)
    with connect(embedded_database) as connection:
        tables = read_tables(connection, "public")
        refused = fit(forecasts(forecasted_value=10**9), tables, FORECAST_TABLE).by("cm_track_id")
        assert refused == {8: "forecasted_value: a value that does not fit numeric"}
        assert ingest(connection, tables, FORECAST_TABLE, forecasts(forecasted_value=10**9 - 1)) == 3
        connection.commit()
    largest = f"SELECT max(forecasted_value)::bigint FROM {FORECAST_TABLE}"
    assert sql.rows(embedded_database, largest) == [(10**9 - 1,)]
