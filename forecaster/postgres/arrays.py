"""Insert forecasts as arrays: fewer bytes and round trips than a COPY, but more work for the server."""

import polars as pl

from forecaster.postgres.connection import Connection, query
from forecaster.postgres.rows import needs_ids
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE

_OF_A_MONTH = ("forecasted_value", "segment_used", "time_used")


def fits_in_arrays(tables: Tables) -> bool:
    """Whether forecasts can be stored so: the server makes the ids, and no policy refuses rows.

    And no column of the months is numeric: its values go as text, and for each track the server would walk
    through the array of texts from its beginning.
    """
    return (
        FORECAST_TABLE not in tables.filtered
        and not needs_ids(tables, FORECAST_TABLE)
        and not any(tables.type(FORECAST_TABLE, column) == "numeric" for column in _OF_A_MONTH)
    )


def insert_arrays(connection: Connection, tables: Tables, rows: pl.DataFrame, *, horizon: int) -> None:
    """Insert fitted rows of whole tracks, with the months 1 to `horizon` each. The caller commits.

    What all months of a track share is sent once for each track.
    """
    rows = rows.sort("cm_track_id", "month")
    each = rows.select(_OF_A_MONTH)
    once = rows.gather_every(horizon).drop("month", *_OF_A_MONTH)
    shared = ", ".join(f"${number}" for number, _ in enumerate(once, 1))
    its = f"[t.number * {horizon} - {horizon - 1}:t.number * {horizon}]"
    selected = [f"t.{values.name}{_cast(tables, values)}" for values in once] + [
        f"unnest(${number}{its})" for number, _ in enumerate(each, once.width + 1)
    ]
    query(
        connection,
        f"""
        INSERT INTO {tables.name(FORECAST_TABLE)} ({", ".join([*once.columns, *each.columns])}, month)
        SELECT {", ".join(selected)}, generate_series(1, {horizon})
        FROM unnest({shared}) WITH ORDINALITY AS t ({", ".join(once.columns)}, number)""",
        tuple(map(_sent, (*once, *each))),
    )


def _sent(values: pl.Series) -> pl.Series:
    """Return numbers as they are, and all else as text, because not every type can be that of an array."""
    if _is_number(values):
        return values
    return values.bin.encode("hex") if values.dtype == pl.Binary else values.cast(pl.String)


def _cast(tables: Tables, values: pl.Series) -> str:
    return "" if _is_number(values) else f"::{tables.type(FORECAST_TABLE, values.name)}"


def _is_number(values: pl.Series) -> bool:
    return values.dtype.is_integer() or values.dtype.is_float()
