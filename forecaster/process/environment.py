"""What libraries read from the environment, as far as a wrong value there ends in a panic, or in waiting."""

import re
import resource
from collections.abc import MutableMapping
from typing import NamedTuple

from forecaster.errors import ForecasterError, InvalidOptionError

_FILES = 48
"""So many files and connections are open at once. For lack of one, the driver that reads panics and waits."""


class _Rule(NamedTuple):
    """Which variables take which values. As text, because most environments have none of them."""

    names: str
    values: str
    wanted: str


_PREFIXES = ("POLARS_", "TOKIO_", "RAYON_", "ARROW_", "NUMPY_", "RUST_")

# The first rule that knows the name counts.
_RULES = (
    # With many more, a library starts threads for minutes, or is refused one.
    _Rule(
        r"POLARS_(MAX_THREADS|ASYNC_THREAD_COUNT|MAX_BLOCKING_THREAD_COUNT|PYTHON_SCAN_RESOLVE_THREADS)"
        r"|(TOKIO_WORKER|RAYON_NUM|ARROW_IO)_THREADS",
        r"0*([1-9]\d{0,2}|10[01]\d|102[0-4])",
        "a whole number from 1 to 1024",
    ),
    _Rule(
        r"POLARS_\w*_(SIZE|COUNT|LIMIT|SCANS|SINKS|INIT|CONCURRENCY|BYTES|BUDGET|MB|ROWS|BUCKETS|PARTITIONS?)",
        r"0*[1-9]\d{0,17}",
        "a whole number from 1",
    ),
    _Rule(
        r"POLARS_\w*_(MS|SECS|SECONDS|TTL|RETRIES|RATE|LEN|LENGTH|ATTEMPTS|TASKS)|NUMPY_MADVISE_HUGEPAGE",
        r"\d{1,18}",
        "a whole number",
    ),
    _Rule(r"POLARS_\w*_(FRACTION|RATIO|FACTOR|MULTIPLIER|THRESHOLD)", r"\d{1,18}(\.\d+)?|\.\d+", "a number"),
    # What a thread's stack takes is reserved when it is begun.
    _Rule(r"RUST_MIN_STACK", r"\d{1,9}", "a number of bytes below 1 GB"),
)

# These change what Polars does where this program counts on it, or are for those who write programs.
_NOT_FOR_US = (
    r"POLARS_(ENGINE_AFFINITY|FORCE_STREAMING|AUTO_STREAMING|STRICT_MODE|PANIC_ON_ERR|BACKTRACE_IN_ERR"
    r"|FORCE_PKG|PREFER_PKG|WARN_\w+|GEOPARQUET_\w+|IO_SINK_BYTES_BUFFERER_CONFIG|MEMORY_PREFETCH)"
)


def settle(environ: MutableMapping[str, str]) -> None:
    """Before libraries read it, refuse what they would panic about; some of it is taken out instead.

    Raises `InvalidOptionError`, which names the variable, and `ForecasterError` where too few files may be
    opened.
    """
    _allow_files()
    for name in [name for name in environ if name.startswith(_PREFIXES)]:
        if re.fullmatch(_NOT_FOR_US, name):
            del environ[name]
            continue
        rule = next((rule for rule in _RULES if re.fullmatch(rule.names, name)), None)
        if rule and not re.fullmatch(rule.values, environ[name], re.ASCII):
            raise InvalidOptionError(
                f"the variable {name} is {environ[name]!r}, and has to be {rule.wanted}",
                hint=f"set it right, or take it out: unset {name}",
            )


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        raise ForecasterError(
            f"this process may open only {hard} files, and needs {_FILES}",
            hint="allow more, as with: ulimit -n 1024",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
