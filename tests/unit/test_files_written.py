"""Files go out: the old file stays or the new one takes its place, and what fails leaves no trace."""

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.atomic import write_text
from forecaster.files.tables import check_output_path, read_table, write_table
from tests.files import TYPED, refusal, saved


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.json"])
def test_a_file_that_is_replaced_keeps_its_mode_and_its_links(tmp_path: Path, name: str) -> None:
    def write(path: Path) -> None:
        write_text('{"a": "ü"}', path) if name == "t.json" else write_table(TYPED, path)

    target = saved(tmp_path / name, "old" * 10_000)
    target.chmod(0o640)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / name
    link.symlink_to(target)
    write(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    if name == "t.json":
        assert target.read_bytes() == '{"a": "ü"}'.encode()
    else:
        assert read_table(target).height == TYPED.height
    before = os.umask(0o027)
    try:
        write(tmp_path / f"new-{name}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / f"new-{name}").stat().st_mode) == 0o640
    assert {p.name for p in tmp_path.iterdir()} == {name, f"new-{name}", "elsewhere"}


def test_a_directory_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"the directory .* does not exist") as error:
        check_output_path(tmp_path / "no" / "t.csv")
    assert error.value.hint == "create it first"
    saved(tmp_path / "file", "")
    with pytest.raises(BadFileError, match=r"the directory .* does not exist"):
        write_table(TYPED, tmp_path / "file" / "t.csv")
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(BadFileError, match="exists but is not a regular file"):
        write_table(TYPED, tmp_path / "t.csv")
    with pytest.raises(BadFileError, match="exists but is not a regular file"):
        write_text("", Path(os.devnull))  # else a plain file would be in its place
    with pytest.raises(InvalidOptionError, match="name of a file to write is empty"):
        check_output_path(Path(), any_ending=True)
    with pytest.raises(BadFileError, match="too long"):
        write_text("", tmp_path / ("n" * 300))
    assert {p.name for p in tmp_path.iterdir()} == {"file", "t.csv"}


@contextmanager
def not_as_root() -> Iterator[None]:
    """As a user whom permissions concern."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_without_permission_nothing_is_written(short_dir: Path, mode: int) -> None:
    directory = short_dir / "closed"
    directory.mkdir()
    path = saved(directory / "t.csv", "a\n1\n")
    directory.chmod(mode)
    try:
        with not_as_root():
            for use in (check_output_path, lambda path: write_table(TYPED, path)):
                with pytest.raises(
                    BadFileError, match=f"no permission to write to the directory {directory}"
                ):
                    use(path)
    finally:
        directory.chmod(0o700)
    assert [p.read_text() for p in directory.iterdir()] == ["a\n1\n"]


def test_without_permission_nothing_is_read(short_dir: Path) -> None:
    for name in ("t.csv", "t.parquet"):
        path = short_dir / name
        write_table(TYPED, path)
        path.chmod(0)
        with not_as_root():
            error = refusal(path)
        assert "cannot be read: Permission denied" in str(error)
        assert error.hint is None


def test_who_reads_the_old_file_reads_it_to_the_end(tmp_path: Path) -> None:
    path = saved(tmp_path / "t.csv", "a\n1\n")
    with path.open() as reader:
        write_table(TYPED, path)
        assert reader.read() == "a\n1\n"


def test_a_frame_that_the_format_cannot_hold_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = saved(tmp_path / "t.csv", "a\n1\n")
    with pytest.raises(BadFileError, match=r"cannot be written.*nested"):
        write_table(pl.DataFrame({"a": [[1]]}), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["a\n1\n"]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    # The limit on the size of a file is met in the middle of writing, as the end of a disk is.
    program = """
import resource, signal, sys
from pathlib import Path
import polars as pl
from forecaster.errors import BadFileError
from forecaster.files.atomic import write_text
from forecaster.files.tables import write_table
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
frame = pl.DataFrame({"a": pl.int_range(100_000, eager=True).hash()})
for path in map(Path, sys.argv[1:]):
    try:
        write_text("x" * 10_000, path) if path.suffix == ".json" else write_table(frame, path)
    except BadFileError as error:
        print(error)
"""
    paths = [saved(tmp_path / f"t.{ending}", "as it was") for ending in ("csv", "csv.gz", "parquet", "json")]
    result = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True
    )
    assert result.stdout.count("cannot be written") == result.stdout.count("File too large") == len(paths)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["as it was"] * len(paths)


# An interrupt just between the opening of a file and the next step leaves the closing to Python.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    old, new = (pl.DataFrame({"a": pl.repeat(value, 50_000, eager=True)}) for value in ("old", "new"))
    seen = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for milliseconds in range(12):
            write_table(old, path)
            timer = threading.Timer(
                milliseconds / 1_000, signal.pthread_kill, [threading.main_thread().ident, signal.SIGUSR1]
            )
            with suppress(KeyboardInterrupt):
                timer.start()
                write_table(new, path)
                timer.join()
            timer.join()
            assert list(tmp_path.iterdir()) == [path]
            frame = read_table(path)
            assert frame.equals(old) or frame.equals(new)
            seen.append(frame["a"][0])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "old" in seen, "no interrupt came before the end"
