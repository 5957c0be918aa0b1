"""Measure the model alone, on frames in memory, while nothing else runs."""

import time
from typing import NamedTuple

import polars as pl

from benchmarks.catalogue import Catalogue
from benchmarks.results import MODEL_STAGES
from forecaster.model import build_tracks, forecastable, skipped
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.postgres.catalogue import History, Source, export_snapshot
from forecaster.postgres.connection import connect
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import BATCH


class Data(NamedTuple):
    """The input of a run, batch by batch."""

    histories: list[History]
    mldr: pl.LazyFrame


def read(catalogue: Catalogue) -> Data:
    """Read all tracks of the catalogue, in batches like those of a run."""
    with connect(catalogue.dsn, repeatable_read=True) as connection:
        tables = read_tables(connection, catalogue.schema)
        source = Source(catalogue.dsn, tables, export_snapshot(connection))
        tracks = source.tracks()
        batches = [tracks.slice(start, BATCH) for start in range(0, len(tracks), BATCH)]
        return Data([source.history(batch) for batch in batches], source.mldr())


def measure(data: Data) -> dict[str, float]:
    """Measure the seconds of each stage, summed over the batches, computed as in a run."""
    parameters = Parameters()
    seconds = dict.fromkeys(MODEL_STAGES, 0.0)

    def timed(stage: str, frame: pl.LazyFrame, /) -> pl.LazyFrame:
        start = time.perf_counter()
        result = frame.collect()
        seconds[stage] += time.perf_counter() - start
        return result.lazy()

    for history in data.histories:
        tracks = build_tracks(history.records, history.facts, data.mldr, parameters, checkpoint=timed)
        start = time.perf_counter()
        pl.collect_all([project(forecastable(tracks), horizon=parameters.horizon), skipped(tracks)])
        seconds["projection"] += time.perf_counter() - start
    return seconds
