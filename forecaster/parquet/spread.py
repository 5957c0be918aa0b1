"""The buckets of a catalogue over Dask's workers, which read and write the files themselves."""

from collections.abc import Iterator
from functools import partial

from forecaster.cluster import connected, each
from forecaster.parquet.buckets import Engine, Outcome, attempt
from forecaster.parquet.layout import Bucket
from forecaster.parquet.shard import Job


def spread_over(scheduler: str | None) -> Engine:
    """An engine for `run_buckets`: the workers of a scheduler, or of its own.

    Only the numbers of buckets travel, and what became of them.
    """

    def spread(job: Job, buckets: list[Bucket]) -> Iterator[tuple[Bucket, Outcome]]:
        with connected(scheduler) as client:
            yield from each(client, partial(attempt, job), buckets)

    return spread
