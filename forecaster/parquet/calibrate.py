"""Calibrate on a catalogue in files, bucket by bucket: the sums of the buckets add up exactly."""

from datetime import date
from typing import TYPE_CHECKING

from forecaster.model import until
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import PastSums
from forecaster.model.calibrated.records import KnownRecords
from forecaster.model.features import clean
from forecaster.parquet.buckets import BucketCatalogue
from forecaster.parquet.catalogue import Catalogue
from forecaster.parquet.layout import Bucket
from forecaster.run.calibrating import Calibrating, calibrated, last_day, sums_of

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
    with report.stages.stage("origins") as stage:
        stage.count = 1
        return sums_of(KnownRecords.of(records, age_from=asked.age_from), mldr, asked, as_of)
