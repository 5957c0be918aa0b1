"""What is sent to Dask's workers, byte for byte: no password, and no signature in clear."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from distributed.protocol import pickle as dask_pickle

from forecaster.errors import InvalidOptionError, WorkerError
from forecaster.parquet.buckets import BucketCatalogue, BucketSink, work_on
from forecaster.parquet.catalogue import Catalogue
from forecaster.parquet.layout import Bucket
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.session import Shared
from forecaster.postgres.tracks import Database, Forecasts
from forecaster.run.batch import History, Work
from forecaster.run.config import RunConfig
from forecaster.run.engines.cluster import _outcome
from forecaster.run.engines.dask import Dask
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.load import load
from tests.faults import PASSWORD, PASSWORD_MARKS
from tests.tables import golden_mldr, golden_streams, initialise

_dumps: Callable[[object], bytes] = dask_pickle.dumps
"""As Dask does it."""

SIGNED = "https://127.0.0.1:1/mldr.parquet?X-Amz-Signature=f00ba5"


def test_of_a_run_on_tables(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server asks for none, so that the chunks can be worked here; with it or without."""
    initialise(embedded_database)
    load(embedded_database, "public", streams=golden_streams(), mldr=golden_mldr())
    sent: list[bytes] = []
    came: list[bytes] = []

    def in_this_process(_: object, work: Any, items: Any, **__: object) -> Iterator[tuple[Any, Any]]:
        for item in items:
            sent.append(_dumps((work, item)))
            again, whole = pickle.loads(sent[-1])
            outcome = again(whole)
            came.append(_dumps(outcome))
            yield item, outcome

    monkeypatch.setattr("forecaster.run.engines.dask.each", in_this_process)
    monkeypatch.setattr("forecaster.run.engines.dask.threads", lambda _: 1)
    monkeypatch.setattr(Dask, "_connected", lambda *_: None)
    with Dask() as engine:
        report = run(Database(replace(embedded_database, password=PASSWORD)), engine=engine)
    assert report.results == 247
    assert len(sent) > 1
    for data in (*sent, *came):
        assert not [mark for mark in PASSWORD_MARKS if mark.encode() in data]


def test_a_password_in_the_task_would_be_seen(embedded_database: Dsn) -> None:
    """That is what the test above looks for."""
    initialise(embedded_database)
    with open_source(embedded_database, "public") as source:
        dsn = replace(embedded_database, password=PASSWORD)
        shared = Shared(datetime.now(UTC), Report())
        task = Forecasts().work(replace(source, dsn=dsn, readers=None), None, RunConfig(), shared)
    assert PASSWORD_MARKS[0].encode() in _dumps(task.catalogue)


def work_of(mldr: str) -> Work[Bucket, History]:
    catalogue = BucketCatalogue(Catalogue("/data/streams", mldr, None), None)
    sink = BucketSink(catalogue, None, datetime.now(UTC))
    return work_on(catalogue, sink, {})


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1"])
@pytest.mark.parametrize("mldr", [SIGNED, "az://c/x?sig=f00ba5", "s3://KEY:f00ba5@bucket/x"])
def test_a_signature_is_not_sent_in_clear(address: str, mldr: str) -> None:
    with pytest.raises(InvalidOptionError, match="--mldr contains a signature") as caught:
        next(Dask(address)(work_of(mldr), [Bucket(0, 1)]))
    assert "f00ba5" not in f"{caught.value}{caught.value.hint}"


def test_a_job_without_one_has_nothing_to_hide() -> None:
    data = _dumps(replace(work_of("s3://bucket/mldr"), elsewhere=None))
    assert b"f00ba5" not in data


class _Failed:
    """A future whose worker failed with an error that nobody has foreseen."""

    def __init__(self, text: str) -> None:
        self.text = text

    def exception(self) -> Exception:
        return RuntimeError(self.text)


def test_what_a_worker_says_is_masked_and_short() -> None:
    text = f"cannot read {SIGNED} or postgresql://u:S3cret@h/db: " + "x" * 10_000
    error = _outcome(_Failed(text))  # type: ignore[arg-type]
    assert isinstance(error, WorkerError)
    assert "S3cret" not in str(error)
    assert "f00ba5" not in str(error)
    assert len(str(error)) < 2_100
