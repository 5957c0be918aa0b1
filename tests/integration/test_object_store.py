"""Catalogues in an object store: a server that speaks S3, and Polars' own readers."""

import io
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.listing import list_files
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from forecaster.parquet.session import Files, check
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests.conftest import Cli
from tests.faults import until
from tests.parquet import expected, in_sink, with_ids, write_catalogue
from tests.tables import golden_streams

OF = 3


def put(url: str, data: bytes = b"") -> None:
    headers = {"Content-Type": "application/octet-stream"}  # not a form, which the server would wait for
    request = urllib.request.Request(url, data=data, headers=headers, method="PUT")
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200


@pytest.fixture(scope="module")
def variables() -> Iterator[dict[str, str]]:
    """What a program has to know to reach the store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                put(f"{address}/music")
            except urllib.error.URLError:
                return False
            return True

        try:
            until(answers)
            yield {
                "AWS_ENDPOINT_URL": address,
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "id",
                "AWS_SECRET_ACCESS_KEY": "secret",
            }
        finally:
            process.kill()


@pytest.fixture(scope="module")
def store(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket with the golden catalogue, as it came in `plain` and laid out in `laid-out`."""
    directory = tmp_path_factory.mktemp("store")
    prepare_files(find_catalogue(str(write_catalogue(directory / "plain"))), OF, directory / "laid-out")
    for path in directory.rglob("*"):
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            put(f"{variables['AWS_ENDPOINT_URL']}/music/{name}", path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield "s3://music"


def test_laid_out(store: str, tmp_path: Path) -> None:
    config = (Files(f"{store}/laid-out", tmp_path / "sink"), RunConfig())
    report = run(*config)
    assert report.buckets == OF
    assert_frame_equal(in_sink(tmp_path / "sink"), expected())
    assert run(*config).left_alone == OF
    assert check(*config).failed == {}


def test_as_it_came(store: str, tmp_path: Path) -> None:
    run(Files(f"{store}/plain", tmp_path / "directory"))
    rates = f"{store}/plain/mldr/rates.parquet"
    run(Files(f"{store}/plain/streams/*.parquet", tmp_path / "pattern", rates))
    for sink in ("directory", "pattern"):
        assert_frame_equal(in_sink(tmp_path / sink), expected())


def test_it_can_be_laid_out_from_there(store: str, tmp_path: Path) -> None:
    prepare_files(find_catalogue(f"{store}/plain"), 2, tmp_path / "out")
    run(Files(str(tmp_path / "out"), tmp_path / "sink"))
    assert_frame_equal(in_sink(tmp_path / "sink"), expected())


@pytest.mark.parametrize("place", ["nothing", "../nobucket/x"])
def test_what_is_not_there(store: str, tmp_path: Path, place: str) -> None:
    url = f"s3://{place.removeprefix('../')}" if place.startswith("..") else f"{store}/{place}"
    with pytest.raises(BadFileError, match="cannot be read"):
        run(Files(url, tmp_path / "sink"))
    assert not (tmp_path / "sink").exists()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    url = "https://127.0.0.1:9/x.parquet"
    with pytest.raises(BadFileError) as caught:
        run(Files(url, tmp_path / "sink", url))
    assert f"{caught.value}" == f"{url} cannot be read: HTTP error: error sending request"
    assert "check the address" in str(caught.value.hint)


def test_the_command_says_what_is_missing(
    store: str, variables: dict[str, str], tmp_path: Path, cli: Cli
) -> None:
    sink = tmp_path / "sink"
    source = f"{store}/plain/streams"
    result = cli("shard", "0/2", "--source", source, "--sink", str(sink), env=variables)
    assert result.returncode == 1
    assert f"{source}/streams cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(InvalidOptionError, match="is a URL"):
        run(Files(source, Path(f"{store}/forecasts")))


def test_one_rule_for_urls_and_directories(store: str, variables: dict[str, str], tmp_path: Path) -> None:
    rows = golden_streams().filter(pl.col("cm_track_id") <= 3)
    directory = write_catalogue(tmp_path / "same", rows, files=1)
    [file] = (directory / "streams").iterdir()
    for name in (
        "UP.PARQUET",
        "b.parq",
        "000000_0",
        "day.parquet/part-0",
        "_x/0.parquet",
        "a.csv",
        "_SUCCESS",
    ):
        (directory / "streams" / name).parent.mkdir(exist_ok=True)
        shutil.copy(file, directory / "streams" / name)
    for path in directory.rglob("*"):
        if path.is_file():
            name = path.relative_to(tmp_path).as_posix()
            put(f"{variables['AWS_ENDPOINT_URL']}/music/{name}", path.read_bytes())
    for pattern in (
        "",
        "/*",
        "/**",
        "/**/*.parquet",
        "/*.parquet",
        "/[b-z]*.p*",
        "/_*/*",
        "/*.csv",
        "/day.parquet",
    ):
        of_url = list_files(f"{store}/same/streams{pattern}")
        found = list_files(f"{directory}/streams{pattern}")
        there = [path.removeprefix(str(tmp_path)) for path in (*found.read, *found.passed_over)]
        assert [path.removeprefix(store) for path in (*of_url.read, *of_url.passed_over)] == there
        assert there
    for number, where in enumerate((str(directory), f"{store}/same")):
        report = run(Files(where, tmp_path / str(number)))
        assert (report.pending, report.duplicate_rows) == (3, 4 * len(rows))
        [warning] = report.warnings
        assert f"{where}/streams: 2 names not read, the first is {where}/streams/_x/: a Parquet" in warning


def test_columns_in_the_path(store: str, variables: dict[str, str], tmp_path: Path) -> None:
    streams = with_ids(golden_streams().filter(pl.col("cm_track_id") <= 3))
    rates = write_catalogue(tmp_path / "by track", streams) / "mldr"
    for (track,), rows in streams.partition_by("cm_track_id", as_dict=True).items():
        data = io.BytesIO()
        rows.drop("cm_track_id").write_parquet(data)
        place = f"{variables['AWS_ENDPOINT_URL']}/music/by-track/cm_track_id={track}"
        put(f"{place}/a%20%255B%2525.parquet", data.getvalue())
    run(Files(f"{store}/by-track", tmp_path / "sink", str(rates)))
    assert_frame_equal(in_sink(tmp_path / "sink"), expected(streams))


@pytest.mark.parametrize(
    "sign", ["_delta_log/0.json", ".hoodie/hoodie.properties", "metadata/v1.metadata.json"]
)
@pytest.mark.parametrize("place", ["", "deep/", "deep/date=2024-01-31/"])
def test_tables_are_refused(
    store: str, variables: dict[str, str], tmp_path: Path, sign: str, place: str
) -> None:
    root = f"tables/{sign[1:4]}-{len(place)}"
    for name in (f"{place}{sign}", "deep/date=2024-01-31/part-0.parquet"):
        put(f"{variables['AWS_ENDPOINT_URL']}/music/{root}/{name}", b"{}")
    rates = f"{store}/plain/mldr/rates.parquet"
    day = "/deep/date=2024-01-31"
    for source in ("", day, "/deep/*/part-*.parquet", f"{day}/part-0.parquet"):
        with pytest.raises(BadFileError, match="is a table of"):
            run(Files(f"{store}/{root}{source}", tmp_path / "sink", rates))


def test_rows_in_no_bucket(store: str, variables: dict[str, str], tmp_path: Path) -> None:
    url = f"{variables['AWS_ENDPOINT_URL']}/music"
    for number in range(2):
        put(f"{url}/stray/streams/bucket={number}/0.parquet", b"x")
    put(f"{url}/stray/layout.json", b'{"buckets": 1, "version": 1}')
    with pytest.raises(BadFileError, match="in 1 buckets, counted from 0, and holds bucket=1 as well"):
        run(Files(f"{store}/stray", tmp_path / "sink", f"{store}/plain/mldr/rates.parquet"))


@pytest.mark.parametrize("text", [b"[" * 200_000, b"\xff", b"", b"null"])
def test_a_layout_that_lies(store: str, variables: dict[str, str], text: bytes) -> None:
    place = f"lies-{len(text)}-{text[:1].hex()}"
    put(f"{variables['AWS_ENDPOINT_URL']}/music/{place}/layout.json", text)
    with pytest.raises(BadFileError, match=rf"{place}/layout\.json"):
        find_catalogue(f"{store}/{place}")
