"""What a command writes: where it lies, and what counts if it cannot be written."""

import gzip
import os
import stat
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forecaster.errors import BadFileError
from forecaster.files.atomic import write_text
from forecaster.files.paths import refuse_planted_links
from forecaster.files.tables import check_output_path, read_table, write_table
from forecaster.postgres.dsn import Dsn

SOMEBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to somebody else")


def test_of_a_failed_run_whose_report_cannot_be_written_the_first_error_counts(
    embedded_database: Dsn, tmp_path: Path
) -> None:
    # No file may grow from the start, as on a disk that is full.
    program = 'ulimit -f 0 && exec "$0" -m forecaster run --schema nowhere --report r.json --json'
    result = subprocess.run(
        ["sh", "-c", program, sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATABASE_URL": embedded_database.uri},
    )
    assert result.returncode == 4
    said = result.stderr.splitlines()
    warning, error = (next(line for line in said if line.startswith(word)) for word in ("Warning", "Error"))
    assert "r.json cannot be written: File too large" in warning
    assert "the tables in schema 'nowhere' do not fit" in error
    assert "do not fit" in result.stdout
    assert [*tmp_path.iterdir()] == []


def open_to_all(directory: Path) -> Path:
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


@as_root
def test_a_link_that_somebody_planted_is_not_followed(tmp_path: Path) -> None:
    shared = open_to_all(tmp_path / "shared")
    (tmp_path / "private").mkdir()
    victim = tmp_path / "private" / "page.html"
    victim.write_text("as it was")
    file_link, directory_link, own = shared / "page.html", shared / "out", shared / "own.html"
    file_link.symlink_to(victim)
    directory_link.symlink_to(victim.parent)
    own.symlink_to(file_link)
    for link in (file_link, directory_link):
        os.lchown(link, SOMEBODY, SOMEBODY)
    for path, link in (
        (file_link, file_link),
        (directory_link / "page.html", directory_link),
        (own, file_link),
        (shared / ".." / "shared" / "page.html", file_link),
    ):
        for write in (refuse_planted_links, lambda path: check_output_path(path, any_ending=True)):
            with pytest.raises(BadFileError, match=f"the link {link} belongs to another user, nobody"):
                write(path)
        with pytest.raises(BadFileError, match="belongs to another user"):
            write_text("new", path)
    assert victim.read_text() == "as it was"


@as_root
def test_links_of_ones_own_and_of_the_owner_of_the_directory_are_followed(tmp_path: Path) -> None:
    shared, closed = open_to_all(tmp_path / "shared"), tmp_path / "closed"
    closed.mkdir()
    for directory, owner in ((shared, 0), (shared, SOMEBODY), (closed, SOMEBODY)):
        link = directory / f"{owner}.html"
        link.symlink_to(tmp_path / f"of-{directory.name}-{owner}")
        os.lchown(link, owner, -1)
        if directory == shared:
            os.chown(shared, owner, -1)
        write_text("new", link)
        assert link.is_symlink()
        assert link.read_text() == "new"


@as_root
def test_the_mode_of_a_file_that_somebody_planted_is_not_kept(tmp_path: Path) -> None:
    shared = open_to_all(tmp_path / "shared")
    planted = shared / "report.json"
    planted.write_text("")
    planted.chmod(0o666)
    os.chown(planted, SOMEBODY, -1)
    before = os.umask(0o022)
    try:
        write_text("new", planted)
    finally:
        os.umask(before)
    assert stat.S_IMODE(planted.stat().st_mode) == 0o644


def test_links_that_never_end_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.html").symlink_to("b.html")
    (tmp_path / "b.html").symlink_to("a.html")
    with pytest.raises(BadFileError):
        write_text("new", tmp_path / "a.html" / "c.html")


def test_what_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(110):
            file.write(b"\0" * 1_000_000)
    with pytest.raises(BadFileError, match=r"bomb\.csv\.gz unpacks to more than 100 MB") as error:
        read_table(path)
    assert error.value.hint is not None
    assert "gunzip" in error.value.hint


def test_more_rows_than_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(pl.DataFrame({"a": range(5_000), "b": 1}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").shape == (5_000, 2)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 8 * 10_000 - 1}.__getitem__)
    with pytest.raises(BadFileError, match=r"t\.parquet says that it has 5,000 rows of 2 columns") as error:
        read_table(tmp_path / "t.parquet")
    assert error.value.hint == "split the file, or remove columns that are not needed"


def test_a_parquet_file_with_a_name_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"m\xfcsik.parquet")
    path.touch()
    with pytest.raises(BadFileError, match=r"m\\udcfcsik\.parquet' is not in UTF-8"):
        read_table(path)


def test_a_column_of_too_many_levels_is_refused(tmp_path: Path) -> None:
    deep = pa.int64()
    for _ in range(1_000):  # over which Polars ends the process
        deep = pa.list_(deep)
    path = tmp_path / "deep.parquet"
    pq.write_table(pa.table({"a": [1], "b": pa.array([None], deep)}), path)
    with pytest.raises(BadFileError, match=r"deep\.parquet cannot be read: .*too deeply nested"):
        read_table(path)
