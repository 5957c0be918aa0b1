"""Settings of libraries, limits and encodings in the environment: one error, or they do not matter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forecaster.errors import EngineError, InvalidOptionError
from forecaster.process.environment import settle
from forecaster.process.unexpected import is_unexpected, translated
from forecaster.run.engines.cluster import _misfits
from tests.conftest import Cli
from tests.logs import MARK

NOTHING = ("run", "--source", "nowhere", "--sink", "out")  # is refused as soon as it looks at its source


@pytest.mark.parametrize(
    "setting",
    [
        "POLARS_MAX_THREADS=abc",
        "POLARS_MAX_THREADS=0",
        "POLARS_MAX_THREADS=99999999",
        "POLARS_MAX_THREADS=",
        "POLARS_ASYNC_THREAD_COUNT=0",
        "POLARS_IDEAL_MORSEL_SIZE=0",
        "POLARS_ROW_GROUP_PREFETCH_SIZE=x",
        "POLARS_MAX_CONCURRENT_SCANS=0",
        "POLARS_NUM_READERS_PRE_INIT=x",
        "POLARS_OVERRIDE_TOTAL_MEMORY_MB=x",
        "POLARS_FILE_CACHE_TTL=x",
        "POLARS_INFLIGHT_SINK_MORSEL_LIMIT=0",
        "POLARS_IDEAL_SINK_MORSEL_SIZE_BYTES=0",
        "POLARS_GROUP_BY_MIN_ROWS_PER_PARTITION=x",
        "POLARS_CLOUD_FOOTER_READ_SIZE=x",
        "TOKIO_WORKER_THREADS=0",
        "RUST_MIN_STACK=99999999999999",
        "NUMPY_MADVISE_HUGEPAGE=x",
    ],
)
def test_a_value_that_a_library_panics_about_is_an_error_that_names_the_variable(setting: str) -> None:
    name, _, value = setting.partition("=")
    with pytest.raises(InvalidOptionError, match=rf"{name} is '{value}'"):
        settle({name: value})


def test_what_is_right_stays_and_what_is_not_for_us_goes() -> None:
    right = {
        "POLARS_MAX_THREADS": "2",
        "POLARS_FILE_CACHE_TTL": "0",
        "POLARS_CLOUD_MAX_RETRIES": "0",
        "POLARS_TEMP_DIR": "/scratch",
        "POLARS_VERBOSE": "1",
        "TOKIO_WORKER_THREADS": "1024",
        "OTHER_SIZE": "x",
    }
    environ = right | {"POLARS_STRICT_MODE": "1", "POLARS_ENGINE_AFFINITY": "gpu", "POLARS_FORCE_PKG": "x"}
    settle(environ)
    assert environ == right


def test_the_command_says_it_before_anything_else(cli: Cli) -> None:
    result = cli(*NOTHING, env={"POLARS_MAX_THREADS": "0"})
    assert (result.returncode, result.stdout) == (2, "")
    assert MARK.sub("", result.stderr) == (
        "Error: the variable POLARS_MAX_THREADS is '0': expected a whole number from 1 to 1024\n"
        "  correct it, or remove it: unset POLARS_MAX_THREADS\n"
    )


def test_what_is_not_for_us_does_not_matter(cli: Cli) -> None:
    # Any of the first three breaks Polars, the last makes it warn.
    env = dict.fromkeys(("POLARS_FORCE_PKG", "POLARS_PREFER_PKG", "POLARS_ENGINE_AFFINITY"), "x")
    result = cli(*NOTHING, env={**env, "POLARS_WARN_UNSTABLE": "1", "POLARS_VERBOSE": "x"})
    assert result.returncode == 1
    assert "nowhere does not exist" in result.stderr
    assert "Warning" not in result.stderr


@pytest.mark.parametrize(("limit", "code"), [("-n 20", 1), ("-Sn 20", 2)])
def test_a_process_that_may_open_few_files(limit: str, code: int) -> None:
    script = f'ulimit {limit}; exec "$@"'
    result = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "forecaster", "run"],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "NUMPY_MADVISE_HUGEPAGE": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code
    assert ("may open only 20 files" in result.stderr) == (code == 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not enough memory"),
        (OSError(24, "Too many open files"), "too many files are open"),
        (RuntimeError("can't start new thread"), "no thread can be started"),
        (KeyError("x"), "unexpected KeyError 'x' ("),
        (ValueError("of no use"), "unexpected ValueError: of no use ("),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), "'\\udcff' is not text in UTF-8"),
    ],
)
def test_what_nobody_has_foreseen_is_one_line(error: Exception, said: str) -> None:
    with pytest.raises(type(error)) as caught:
        raise error
    assert is_unexpected(caught.value)
    told = translated(caught.value)
    assert said in f"{told}"
    assert told.hint
    assert told.__cause__ is error


def test_a_panic_is_unexpected_and_an_exit_is_not() -> None:
    class PanicException(BaseException):
        """As PyO3's."""

    assert is_unexpected(PanicException())
    assert not is_unexpected(SystemExit())
    assert not is_unexpected(KeyboardInterrupt())


def test_where_an_unforeseen_error_came_from_shows_with_vv() -> None:
    code = "import sys\nsys.modules['forecaster.run.session'] = None\n"
    code += "from forecaster.__main__ import start\nstart()"
    for level, shows in (("-v", False), ("-vv", True)):
        result = subprocess.run(
            [sys.executable, "-c", code, "run", level],
            env={"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://u@127.0.0.1:1/x"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert "Error: unexpected ModuleNotFoundError" in result.stderr
        assert "Traceback" in result.stderr if shows else "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[loggers]\nkeys=root\n", "dask.yaml' is malformed"),
        ("distributed:\n  logging: 5\n", "dask.yaml"),
        ("distributed:\n  comm:\n    retry:\n      count: x\n", "distributed.comm.retry.count is 'x'"),
        (None, "dask.yaml cannot be read"),
    ],
)
def test_settings_of_dask_that_cannot_work(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / ".config" / "dask" / "dask.yaml"
    file.parent.mkdir(parents=True)
    if text is None:
        file.symlink_to("nowhere")
    else:
        file.write_text(text)
    error = _of_dask(tmp_path)
    assert error["kind"] == EngineError.__name__
    assert said in error["message"] + error["hint"]
    assert f"{file}" in error["message"] + error["hint"]


def test_a_variable_of_dask_is_named(tmp_path: Path) -> None:
    error = _of_dask(tmp_path, DASK_DISTRIBUTED__WORKER__MEMORY__TARGET="x")
    assert "distributed.worker.memory.target is 'x'" in error["message"]
    assert "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET" in error["hint"]
    error = _of_dask(tmp_path, DASK_CONFIG="/nonexistent/dask.yaml")
    assert "/nonexistent/dask.yaml cannot be read" in error["message"]


def test_settings_of_the_same_kind_as_the_defaults() -> None:
    default = {"a": {"b-c": 1, "time": "30s"}, "size": "10 MiB", "off": False, "env": {"X": 1}}
    fits = {"a": {"b_c": 2.5, "time": "5 minutes"}, "size": "1GB", "off": "lz4", "env": {"X": "y"}}
    assert not [*_misfits("x", fits, default)]
    assert not [*_misfits("x", {"a": {"b-c": "inf", "time": None}, "size": 5}, default)]
    wrong = {"a": {"b-c": "2", "time": "soon"}, "size": "big", "env": "y"}
    assert len([*_misfits("x", wrong, default)]) == 4


def _of_dask(home: Path, **variables: str) -> dict[str, str]:
    """The error that loading Dask in a new process ends with."""
    code = (
        "import json\nfrom forecaster.run.engines.cluster import connected\n"
        "try:\n    connected(None).__enter__()\n"
        "except Exception as error:\n"
        "    said = {'kind': type(error).__name__, 'message': str(error), 'hint': error.hint or ''}\n"
        "    print(json.dumps(said))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], "HOME": f"{home}", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    error: dict[str, str] = json.loads(result.stdout)
    return error


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8:strict"])
def test_names_that_the_terminal_cannot_show(encoding: str) -> None:
    surrogate = os.fsdecode(b"m\xff.csv")
    for name, said in (("m\u97f3\u202e.csv", b"does not exist"), (surrogate, b"is not in UTF-8")):
        result = subprocess.run(
            [sys.executable, "-m", "forecaster", "run", "--source", name, "--sink", "out"],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert result.returncode == 1
        assert b"Traceback" not in result.stderr
        assert said in result.stderr
