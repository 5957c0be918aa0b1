"""A small catalogue that is forecast night after night, and its history as the tables hold it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import polars as pl

from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.init import initialise
from forecaster.setup.load import load
from tests import sql

FIRST = date(2024, 1, 1)
ARTISTS = {1: 10, 2: 10, 3: 10, 4: 20, 5: 20, 6: 20, 7: 30, 8: 20}
"""The artist of each track. That of track 7 has no MLDR."""
HISTORY = "backtest_track_streams_forecast_history"
RUNS = "backtest_forecast_run"


@dataclass
class Nights:
    """The tables of a new database, and the day up to which each track has streams."""

    dsn: Dsn
    days: dict[int, int] = field(default_factory=dict)
    """Number of days of each track; its streams on day d are 100 * track + d % 7 * track."""

    def __post_init__(self) -> None:
        initialise(self.dsn, "public")

    def add_days(self, number: int, tracks: Iterable[int]) -> None:
        rows = [
            (track, ARTISTS[track], FIRST + timedelta(days=day), streams_on(track, day), day + 1)
            for track in tracks
            for day in range(self.days.get(track, 0), self.days.get(track, 0) + number)
        ]
        names = ("cm_track_id", "cm_artist_id", "date", "daily_streams", "days_from_release")
        load(self.dsn, "public", streams=pl.DataFrame(rows, schema=names, orient="row"))
        self.days |= {track: self.days.get(track, 0) + number for track in tracks}

    def rate(self, rates: Mapping[int, float]) -> None:
        """A new MLDR of these artists."""
        frame = pl.DataFrame({"cm_artist_id": list(rates), "mldr": list(rates.values())})
        load(self.dsn, "public", mldr=frame)

    def night(self, *ids: int, replace: bool = True, **parameters: Any) -> Report:
        config = RunConfig(parameters=Parameters(**parameters), ids=ids, replace=replace)
        report = Report()
        run(Database(self.dsn), config, report=report)
        return report

    def begin(self) -> "Nights":
        """Pass the first night: seven tracks with 120 days, of which one has no MLDR."""
        self.add_days(120, range(1, 8))
        self.rate({10: 0.02, 20: 0.03})
        self.night(replace=False)
        return self

    def last_day(self, track: int) -> date:
        return FIRST + timedelta(days=self.days[track] - 1)

    def months(self, track: int, run: int) -> list[float]:
        """Streams per month of the newest forecast of a track up to a run; empty without one."""
        found = sql.rows(
            self.dsn,
            f"SELECT months FROM {HISTORY} WHERE cm_track_id = {track} AND run_id <= {run} "
            "AND months IS NOT NULL ORDER BY run_id DESC LIMIT 1",
        )
        return [*found[0][0]] if found else []

    def totals(self, run: int, months: int = 24) -> dict[int, float]:
        """The total of each track's newest forecast up to a run."""
        each = {track: self.months(track, run)[:months] for track in ARTISTS}
        return {track: sum(values) for track, values in each.items() if values}


def streams_on(track: int, day: int) -> int:
    return 100 * track + day % 7 * track
