"""Calibrate on a catalogue in files, bucket by bucket: the sums of the buckets add up exactly."""

from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING

from forecaster.model import until
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import PastSums
from forecaster.model.calibrated.records import KnownRecords
from forecaster.model.features import clean
from forecaster.parquet.buckets import BucketCatalogue
from forecaster.parquet.catalogue import Catalogue
from forecaster.parquet.layout import Bucket
from forecaster.run.calibrating import (
    Calibrating,
    InWorker,
    added_up,
    calibrated,
    sums_of,
)
from forecaster.run.engines.dask import Dask

if TYPE_CHECKING:
    from forecaster.run.report import Report
    from forecaster.run.stages import Stages


def calibrate(
    catalogue: Catalogue,
    asked: Calibrating,
    report: "Report",
    /,
    *,
    buckets: int | None = None,
    workers: Dask | None = None,
) -> Calibration:
    """Calibrate on all tracks; the number of buckets, and who sums them up, makes no difference.

    `buckets`: None: as laid out, else by the number of rows; `workers`: None: this process. Raises
    `CalibrationError` without a record to learn from, `BadFileError` and `SchemaMismatchError` for files that
    cannot be used, `InvalidOptionError` for a secret that would be sent unencrypted, and what the engine
    raises.
    """
    if workers is not None and not workers.is_encrypted:
        BucketCatalogue(catalogue, None).refuse_secrets()
    with report.stages.stage("connect"):
        catalogue.check()
        number = catalogue.laid_out_in or buckets or catalogue.buckets()
        as_of = asked.last_day(catalogue.last_day())
    report.stages.unit, report.pending = "buckets", number
    past = _PastOfBuckets(BucketCatalogue(catalogue, None), asked, as_of)
    every = [Bucket(k, number) for k in range(number)]
    if workers is None:
        sums = reduce(PastSums.take, (past(bucket, report.stages) for bucket in every), PastSums.none())
    else:
        results = workers.results(InWorker(past), every)
        sums = added_up(((1, packed) for _, packed in results), report.stages)
    return calibrated(sums, asked, as_of, report.stages)


@dataclass(frozen=True)
class _PastOfBuckets:
    """Sums up the past of the tracks of a bucket. It has only names: it is sent to workers."""

    source: BucketCatalogue
    asked: Calibrating
    as_of: date

    def __call__(self, bucket: Bucket, stages: "Stages", /) -> PastSums:
        with stages.stage("read") as stage:
            stage.count = 1
            daily = self.source.daily(bucket).lazy()
            records = clean(until(daily, self.as_of)).drop("created_at").sort("cm_track_id", "date").collect()
            mldr = self.source.files.mldr_of(bucket, records["cm_artist_id"]).lazy()
        with stages.stage("origins") as stage:
            stage.count = 1
            known = KnownRecords.of(records, age_from=self.asked.age_from)
            return sums_of(known, mldr, self.asked, self.as_of)
