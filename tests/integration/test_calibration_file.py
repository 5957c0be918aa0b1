"""A calibration from a file: every command that takes one reads it, and names a file that it cannot use."""

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from forecaster.cli.calibration_file import read_file, write_file
from forecaster.errors import BadFileError
from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from forecaster.tables import INTERVALS
from tests import sql
from tests.calibrations import calibration
from tests.conftest import Cli
from tests.parquet import with_ids, write_catalogue
from tests.tables import golden_mldr, golden_streams, initialise, made_once

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 3)
D: date = STREAMS["date"].max()  # type: ignore[assignment]
ONE = calibration(D)
NAMED = ("--model", "calibrated", "--calibration", "one.json")


def test_commands_on_a_database(embedded_database: Dsn, called: Cli, tmp_path: Path) -> None:
    def make(new: Dsn) -> None:
        initialise(new)
        load(new, "public", streams=STREAMS, mldr=golden_mldr())

    made_once(embedded_database, "first_three", make)
    write_file(ONE, tmp_path / "one.json")
    env = {"DATABASE_URL": embedded_database.uri}
    for command in (("run",), ("dump", "--track-id", "1"), ("plot", "--track-id", "1", "--out", "1.svg")):
        ended = called(*command, *NAMED, env=env, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    assert sql.rows(embedded_database, f"SELECT DISTINCT calibration FROM {INTERVALS.name}") == [(ONE.id,)]


def test_commands_on_files(called: Cli, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "catalogue", with_ids(STREAMS))
    write_file(ONE, tmp_path / "one.json")
    where = ("--source", "catalogue", "--sink", "sink", *NAMED)
    for command in (("run",), ("shard", "0/1"), ("shard", "--check")):
        ended = called(*command, *where, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    [manifest] = (json.loads(path.read_text()) for path in (tmp_path / "sink" / "manifests").rglob("*.json"))
    assert manifest["asked"]["calibration"] == ONE.id


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "one.json cannot be read: No such file or directory"),
        (b"\xff", "one.json is not a calibration: it is not text in UTF-8"),
        (ONE.to_json().replace("0.11", "0.12").encode(), "one.json"),
    ],
)
@pytest.mark.parametrize("command", ["run", "shard"])
def test_a_file_that_cannot_be_used(
    called: Cli, tmp_path: Path, command: str, content: bytes | None, message: str
) -> None:
    write_catalogue(tmp_path / "catalogue", with_ids(STREAMS))
    if content is not None:
        (tmp_path / "one.json").write_bytes(content)
    bucket = ("0/1",) if command == "shard" else ()
    where = ("--source", "catalogue", "--sink", "sink", *NAMED, "--report", "report.json")
    ended = called(command, *bucket, *where, cwd=tmp_path)
    assert ended.returncode != 0
    assert message in ended.stderr
    assert message in json.loads((tmp_path / "report.json").read_text())["error"]
    assert not (tmp_path / "sink").exists()


def test_of_a_huge_file_only_the_beginning_is_read(called: Cli, tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(10**12)  # takes no room
    for path in (f"{tmp_path / 'huge.json'}", "/dev/zero"):
        with pytest.raises(BadFileError, match=r"is not a calibration: it is larger than 2,000,000 bytes"):
            read_file(path)
    ended = called("calibrate", "--show", f"{tmp_path / 'huge.json'}")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="cannot be read: Is a directory"):
        read_file(f"{tmp_path}")
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    with pytest.raises(BadFileError, match="cannot be read: Too many levels of symbolic links"):
        read_file(f"{tmp_path / 'loop.json'}")


def test_written_and_read_again(called: Cli, tmp_path: Path) -> None:
    write_file(ONE, tmp_path / "one.json")
    shown = called("calibrate", "--show", "one.json", "--export", "two.json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    assert read_file(f"{tmp_path / 'two.json'}") == ONE
    again = called("calibrate", "--show", "two.json", "--json", cwd=tmp_path)
    assert json.loads(again.stdout) == json.loads(ONE.to_json())
