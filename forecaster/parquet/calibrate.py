"""Calibrate on a catalogue in files, bucket by bucket: the sums of the buckets add up exactly."""

from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl

from forecaster.model import until
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import PastSums
from forecaster.model.features import clean
from forecaster.parquet.buckets import BucketCatalogue
from forecaster.parquet.catalogue import Catalogue
from forecaster.parquet.layout import Bucket
from forecaster.run.calibrating import BATCH, Calibrating, calibrated, last_day, sums_of

if TYPE_CHECKING:
    from forecaster.run.report import Report


def calibrate(
    catalogue: Catalogue, asked: Calibrating, report: "Report", /, *, buckets: int | None = None
) -> Calibration:
    """Calibrate on all tracks; the number of buckets makes no difference.

    `buckets`: None: as laid out, else by the number of rows. Raises `CalibrationError` without a record to
    learn from, `BadFileError` and `SchemaMismatchError` for files that cannot be used.
    """
    with report.stages.stage("connect"):
        catalogue.check()
        number = catalogue.laid_out_in or buckets or catalogue.buckets()
        as_of = last_day(asked, asked.as_of or catalogue.last_day())
    report.stages.unit, report.pending = "buckets", number
    sums, source = PastSums.none(), BucketCatalogue(catalogue, None)
    for k in range(number):
        sums += _of_bucket(source, Bucket(k, number), asked, as_of, report)
    return calibrated(sums, asked, as_of, report.stages)


def _of_bucket(
    source: BucketCatalogue, bucket: Bucket, asked: Calibrating, as_of: date, report: "Report"
) -> PastSums:
    with report.stages.stage("read") as stage:
        stage.count = 1
        daily = source.daily(bucket).lazy()
        records = clean(until(daily, as_of)).drop("created_at").sort("cm_track_id", "date").collect()
        mldr = source.files.mldr_of(bucket, records["cm_artist_id"]).lazy()
    sums = PastSums.none()
    with report.stages.stage("origins") as stage:
        stage.count = 1
        for some in _by_tracks(records):
            sums += sums_of(some, mldr, asked, as_of)
    return sums


def _by_tracks(records: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cut records, ordered by track, into those of some tracks each: memory holds the arrays of one part."""
    lengths = records["cm_track_id"].rle().struct.field("len").cast(pl.Int64)
    ends = [0, *lengths.cum_sum().gather_every(BATCH, BATCH - 1), len(records)]
    for start, end in pairwise(ends):
        if end > start:
            yield records[start:end]
