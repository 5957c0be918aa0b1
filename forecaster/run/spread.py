"""The buckets of a catalogue over Dask's workers, which read and write the files themselves."""

from collections.abc import Iterator
from functools import partial

from forecaster.errors import InvalidOptionError
from forecaster.parquet.layout import Bucket
from forecaster.process.secrets import masked
from forecaster.run.bucket import Job
from forecaster.run.buckets import Engine, Outcome, attempt
from forecaster.run.engines.dask import connected, each

_ENCRYPTED = "tls://"


def spread_over(scheduler: str | None) -> Engine:
    """An engine for `run_buckets`: the workers of a scheduler, or of its own.

    Only names and the numbers of buckets travel, and what became of them. Raises `InvalidOptionError` for a
    name with a secret in it that others could read on the way.
    """

    def spread(job: Job, buckets: list[Bucket]) -> Iterator[tuple[Bucket, Outcome]]:
        if scheduler is not None and not scheduler.startswith(_ENCRYPTED):
            _check_names(job)
        with connected(scheduler) as client:
            yield from each(client, partial(attempt, job), buckets)

    return spread


def _check_names(job: Job) -> None:
    for option, where in (("--source", job.catalogue.streams), ("--mldr", job.catalogue.mldr)):
        if masked(where) != where:
            raise InvalidOptionError(
                f"{option} has a signature or a password in it, which would go to the workers unencrypted",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the store needs, where the "
                "workers run; or use a scheduler at tls://",
            )
