"""A sink of forecasts: who may hold its locks, files in it that lie, and links that others have planted."""

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forecaster.errors import BadFileError, BucketsFailedError, ForecasterError, LockedError
from forecaster.files.directory import new_directory
from forecaster.files.paths import refuse_planted_links
from forecaster.parquet.layout import BUCKETS_MAX, Bucket, Layout, read_layout
from forecaster.parquet.lock import locked
from forecaster.parquet.session import Files, check
from forecaster.parquet.sink import Sink
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests.parquet import in_sink, with_ids, write_catalogue
from tests.tables import golden_streams
from tests.users import NOBODY, as_nobody, public_directory


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    streams = with_ids(golden_streams()).filter(pl.col("cm_track_id") <= 3)
    return write_catalogue(tmp_path_factory.mktemp("few") / "catalogue", streams)


Asked = tuple[Files, RunConfig]


@pytest.fixture
def config(few: Path, tmp_path: Path) -> Asked:
    return (Files(str(few), tmp_path / "sink", buckets=2), RunConfig())


@contextmanager
def with_umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


class TestLock:
    @pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
    def test_only_its_owner_can_open_it(self, tmp_path: Path, mask: int) -> None:
        path = tmp_path / ".lock"
        tmp_path.chmod(0o755)
        for _ in range(2):
            with with_umask(mask), locked(path, 0):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.chmod(0o644)  # as an earlier version has left it

    def test_in_a_directory_of_a_group_its_members_can(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o2775)
        with with_umask(0o022), locked(tmp_path / ".lock", 0):
            assert stat.S_IMODE((tmp_path / ".lock").stat().st_mode) == 0o660

    def test_not_if_it_is_of_another_group(self) -> None:
        with public_directory(0o775) as place:
            os.chown(place, 0, NOBODY)
            with locked(place / ".lock", 0):
                assert stat.S_IMODE((place / ".lock").stat().st_mode) == 0o600

    def test_another_user_cannot_hold_it(self) -> None:
        with public_directory() as place:
            path = place / ".lock"
            with locked(path, 0):
                pass
            with as_nobody(), pytest.raises(PermissionError):
                path.open("rb")
            with as_nobody(), pytest.raises(BadFileError, match=r"cannot be written: Permission denied"):
                locked(path, 0).__enter__()

    def test_who_holds_it_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / ".lock"
        held_by = rf"{path} is held by process {os.getpid()} on host \S+, since 20\d\d-.* UTC"
        with locked(path, 0), pytest.raises(LockedError, match=held_by):
            locked(path, 0.01).__enter__()
        assert path.read_bytes() == b""

    @pytest.mark.parametrize(
        "said", [b"", b"process 999999999 on host HERE, since 2024-01-01 00:00:00 UTC", b"\x1b[31m\xff" * 999]
    )
    def test_who_does_not_say_so_is_not_named(self, tmp_path: Path, said: bytes) -> None:
        path = tmp_path / ".lock"
        path.write_bytes(said.replace(b"HERE", os.uname().nodename.encode()))
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(LockedError, match=rf"is held by process {os.getpid()}$"):
                locked(path, 0).__enter__()

    def test_who_waits_says_for_whom(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = tmp_path / ".lock"
        caplog.set_level("INFO", "forecaster")
        with locked(path, 0), pytest.raises(LockedError), locked(path, 0.1):
            pass
        assert caplog.messages[0].startswith(f"waiting for process {os.getpid()} on host ")
        assert caplog.messages[0].endswith(f"UTC, which holds {path}")
        with locked(path, 0), pytest.raises(LockedError), locked(path, 0):
            pass
        assert len(caplog.messages) == 1

    @pytest.mark.parametrize("what", ["link", "pipe", "directory"])
    def test_what_is_no_file_is_refused(self, tmp_path: Path, what: str) -> None:
        path, other = tmp_path / ".lock", tmp_path / "other"
        make: dict[str, Callable[[], object]] = {
            "link": lambda: path.symlink_to(other),
            "pipe": lambda: os.mkfifo(path),
            "directory": path.mkdir,
        }
        make[what]()
        with pytest.raises(BadFileError, match=r"cannot be written|is not a regular file"):
            locked(path, 0).__enter__()
        assert not other.exists()


def changed(sink: Path, **fields: Any) -> None:
    """The manifest of bucket 0 with other fields, and the checksum that fits."""
    path = Sink(sink).manifest(Bucket(0, 2))
    manifest = json.loads(path.read_text()) | fields
    manifest.pop("checksum")
    manifest["checksum"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest))


LIES: list[dict[str, Any]] = [
    {"tracks": "3"},
    {"rows": -1},
    {"rows": True},
    {"forecast": 10**400},
    {"bucket": 0.0},
    {"asked": []},
    {"created_at": None},
    {"skipped_by_reason": ["no_mldr"]},
    {"skipped_by_reason": {"no_mldr": "1"}},
    {"refused": {"cm_track_id": 1}},
    {"refused": [{"cm_track_id": [1], "reason": "x"}]},
    {"refused": [{"cm_track_id": 1, "reason": "\x1b[31m"}]},
    {"stages": {"read": "1"}},
    {"stages": {"read": float("nan")}},
    {"seconds": float("inf")},
    {"seconds": 10**400},
    {"versions": {"polars": 1}},
    {"files": "forecasts"},
    {"files": [["path", "bytes", "sha256"]]},
    {"files": [{"path": 1, "bytes": 1, "sha256": ""}]},
    {"more": 1},
]


class TestLies:
    """Files of the right checksum, or none, that hold something else than is written there."""

    @pytest.mark.parametrize("fields", LIES, ids=str)
    def test_a_manifest_of_other_types(self, config: Asked, fields: dict[str, Any]) -> None:
        assert config[0].sink
        run(*config)
        changed(config[0].sink, **fields)
        [problem] = check(*config).failed.values()
        assert f"{Sink(config[0].sink).manifest(Bucket(0, 2))} is not a manifest" in problem
        assert run(*config).left_alone == 1  # the other one

    @pytest.mark.parametrize(
        "files",
        [
            [],
            [{"path": "../../etc/passwd", "bytes": 1, "sha256": ""}],
            [{"path": "/dev/zero", "bytes": 0, "sha256": ""}] * 2,
        ],
    )
    def test_a_manifest_of_other_files(self, config: Asked, files: list[Any]) -> None:
        assert config[0].sink
        run(*config)
        changed(config[0].sink, files=files)
        assert check(*config).failed == {0: "its manifest names other files than the bucket's"}
        assert run(*config).left_alone == 1

    @pytest.mark.parametrize(
        "text",
        [
            "[" * 200_000,
            '{"a":' * 200_000,
            "null",
            "7",
            "[]",
            '"x"',
            "\0",
            "9" * 5_000,
            '{"checksum": []}',
            "",
        ],
        ids=lambda text: text[:20],
    )
    @pytest.mark.parametrize("name", ["layout.json", "manifests/bucket=0/manifest.json"])
    def test_json_that_is_something_else(self, config: Asked, text: str, name: str) -> None:
        assert config[0].sink
        run(*config)
        (config[0].sink / name).write_text(text)
        if name == "layout.json":
            with pytest.raises(BadFileError, match=r"layout\.json is"):
                run(*config)
        else:
            assert "manifest.json is" in check(*config).failed[0]
            assert run(*config).left_alone == 1

    def test_one_nested_as_deeply_as_can_be_read(self, config: Asked) -> None:
        assert config[0].sink
        run(*config)
        path = Sink(config[0].sink).manifest(Bucket(0, 2))
        fields = json.loads(path.read_text())
        for depth in range(700, 1_100, 10):
            text = json.dumps(fields | {"asked": {}}).replace(
                '"asked": {}', f'"asked": {"[" * depth}{"]" * depth}'
            )
            path.write_text(text.replace(f"{'[' * depth}", '{"x":' * depth).replace("]" * depth, "}" * depth))
            assert list(check(*config).failed) == [0]

    @pytest.mark.parametrize("what", ["directory", "pipe", "large", "link in a circle"])
    @pytest.mark.parametrize("name", ["layout.json", "manifests/bucket=0/manifest.json"])
    def test_what_is_no_file(self, config: Asked, what: str, name: str) -> None:
        assert config[0].sink
        run(*config)
        path = config[0].sink / name
        path.unlink()
        match what:
            case "directory":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "large":
                with path.open("wb") as file:
                    file.truncate(10**12)
            case _:
                path.symlink_to(path)
        if name == "layout.json":
            with pytest.raises(BadFileError, match=rf"{path.name} (is|exists but is not|cannot be read)"):
                run(*config)
        else:
            assert f"{path} " in check(*config).failed[0]

    @pytest.mark.parametrize("buckets", [-1, 0, BUCKETS_MAX + 1, 10**400, 4.0, True, "4", None])
    def test_a_layout_of_so_many_buckets(self, tmp_path: Path, buckets: object) -> None:
        (tmp_path / "layout.json").write_text(json.dumps({"buckets": buckets, "version": 1}))
        with pytest.raises(BadFileError, match=r"layout\.json is not what"):
            read_layout(str(tmp_path))
        (tmp_path / "layout.json").write_text(str(Layout(BUCKETS_MAX)))
        assert read_layout(str(tmp_path)) == Layout(BUCKETS_MAX)

    def test_skipped_tracks_of_other_columns(self, config: Asked) -> None:
        assert config[0].sink
        run(*config)
        path = Sink(config[0].sink).skipped(Bucket(0, 2))
        pl.DataFrame({"cm_track_id": ["x"]}).write_parquet(path)
        files = Sink(config[0].sink).describe(Sink(config[0].sink).forecasts(Bucket(0, 2)), path)
        changed(config[0].sink, files=files)
        with pytest.raises(BadFileError, match="skipped cannot be read"):
            run(*config)


class TestReplace:
    def test_a_reader_never_sees_part_of_a_file(self, config: Asked) -> None:
        """Whoever has opened one reads on in it, as it was; its name leads to the new one, which is whole."""
        assert config[0].sink
        run(*config)
        before = in_sink(config[0].sink)
        paths = [path for path in sorted(config[0].sink.rglob("bucket=*/*.*")) if path.name != ".lock"]
        assert len(paths) == 6
        opened = [path.open("rb") for path in paths]
        whole = [path.read_bytes() for path in paths]
        run(Files(config[0].source, config[0].sink, buckets=2), RunConfig(replace=True))
        for file, path, bytes_ in zip(opened, paths, whole, strict=True):
            with file:
                assert file.read() == bytes_
                assert os.fstat(file.fileno()).st_ino != path.stat().st_ino
        assert in_sink(config[0].sink).equals(before)
        assert paths[0].read_bytes() != whole[0]  # of another instant


class TestPlantedLinks:
    """In a directory in which everybody may make links, another user's are not followed."""

    @pytest.fixture
    def sticky(self) -> Iterator[Path]:
        with public_directory(0o1777) as place:
            yield place

    def plant(self, link: Path, to: Path) -> None:
        to.mkdir(exist_ok=True)
        link.symlink_to(to)
        os.lchown(link, NOBODY, NOBODY)

    def test_as_a_sink(self, few: Path, sticky: Path, tmp_path: Path) -> None:
        self.plant(sticky / "out", tmp_path / "ours")
        for sink in (sticky / "out", sticky / "out" / "deeper"):
            with pytest.raises(BadFileError, match=r"link .*out belongs to another user"):
                run(Files(str(few), sink))
        assert not list((tmp_path / "ours").iterdir())

    @pytest.mark.parametrize("name", ["forecasts", "skipped", "manifests"])
    def test_within_a_sink(self, few: Path, sticky: Path, tmp_path: Path, name: str) -> None:
        self.plant(sticky / name, tmp_path / "ours")
        with pytest.raises(ForecasterError, match=f"link .*{name} belongs to another user"):
            run(Files(str(few), sticky))
        assert not list((tmp_path / "ours").iterdir())

    def test_as_what_prepare_makes(self, sticky: Path, tmp_path: Path) -> None:
        self.plant(sticky / "out", tmp_path / "ours")
        with (
            pytest.raises(BadFileError, match=r"link .*out belongs to another user"),
            new_directory(sticky / "out", replaces=None),
        ):
            pass
        self.plant(sticky / ".new.0123.tmp", tmp_path / "ours")  # as if one had been left behind
        os.mkfifo(sticky / ".new.4567.tmp")
        (tmp_path / "ours" / "precious").touch()
        with new_directory(sticky / "new", replaces=None):
            pass
        assert (tmp_path / "ours" / "precious").exists()

    def test_whose_are_followed(self, sticky: Path) -> None:
        (sticky / "root's").symlink_to("/")
        with as_nobody():
            (sticky / "theirs").symlink_to("/")
            refuse_planted_links(sticky / "root's")
        with pytest.raises(BadFileError, match=r"link .*theirs belongs to another user"):
            refuse_planted_links(sticky / "theirs" / "x")
        os.chown(sticky, NOBODY, NOBODY)
        refuse_planted_links(sticky / "theirs" / "x")  # of the directory's owner
        os.chown(sticky, 0, 0)
        sticky.chmod(0o777)
        refuse_planted_links(sticky / "theirs")  # where they may replace anything anyway

    def test_by_way_of_links_of_ours(self, sticky: Path, tmp_path: Path) -> None:
        self.plant(sticky / "theirs", tmp_path / "ours")
        (tmp_path / "a").symlink_to(sticky / "x" / ".." / "theirs")
        (sticky / "x").mkdir()
        (tmp_path / "b").symlink_to("a/deeper")
        with pytest.raises(BadFileError, match=r"link .*theirs belongs to another user"):
            refuse_planted_links(tmp_path / "b")
        (tmp_path / "loop").symlink_to("loop")
        refuse_planted_links(tmp_path / "loop")  # whoever opens it says so


def test_a_sink_that_cannot_be_locked_fails_by_name(config: Asked) -> None:
    assert config[0].sink
    run(*config)
    lock = Sink(config[0].sink).lock(Bucket(1, 2))
    lock.unlink()
    shutil.copytree(lock.parent, lock)
    with pytest.raises(BucketsFailedError, match=r"1 of 2 buckets failed \(1\).*cannot be written"):
        run(Files(config[0].source, config[0].sink, buckets=2), RunConfig(replace=True))
