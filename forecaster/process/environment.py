"""Check the environment variables and limits that make libraries panic or hang when they are wrong."""

import re
import resource
from collections.abc import MutableMapping
from typing import NamedTuple

from forecaster.errors import ForecasterError, InvalidOptionError

_FILES = 48
"""Files and connections that are open at once. With a lower limit, the reading driver panics and hangs."""


class _Rule(NamedTuple):
    """Which variables take which values. Patterns are text: most environments never need them compiled."""

    names: str
    values: str
    wanted: str


_PREFIXES = ("POLARS_", "TOKIO_", "RAYON_", "ARROW_", "NUMPY_", "RUST_")

# The first rule that matches the name counts.
_RULES = (
    # With many more, a library starts threads for minutes, or the system refuses one.
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
    # The memory of a thread's stack is reserved when the thread starts.
    _Rule(r"RUST_MIN_STACK", r"\d{1,9}", "a number of bytes below 1 GB"),
)

# These change behaviour of Polars that this program relies on, or are meant for developers.
_NOT_FOR_US = (
    r"POLARS_(ENGINE_AFFINITY|FORCE_STREAMING|AUTO_STREAMING|STRICT_MODE|PANIC_ON_ERR|BACKTRACE_IN_ERR"
    r"|FORCE_PKG|PREFER_PKG|WARN_\w+|GEOPARQUET_\w+|IO_SINK_BYTES_BUFFERER_CONFIG|MEMORY_PREFETCH)"
)


def settle(environ: MutableMapping[str, str]) -> None:
    """Check the environment before libraries read it; remove variables that are not for this program.

    Raises `InvalidOptionError`, which names the variable with a value that a library would panic about, and
    `ForecasterError` if the process may open too few files.
    """
    _allow_files()
    for name in [name for name in environ if name.startswith(_PREFIXES)]:
        if re.fullmatch(_NOT_FOR_US, name):
            del environ[name]
            continue
        rule = next((rule for rule in _RULES if re.fullmatch(rule.names, name)), None)
        if rule and not re.fullmatch(rule.values, environ[name], re.ASCII):
            raise InvalidOptionError(
                f"the variable {name} is {environ[name]!r}: expected {rule.wanted}",
                hint=f"correct it, or remove it: unset {name}",
            )


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        raise ForecasterError(
            f"this process may open only {hard} files, and needs {_FILES}",
            hint="allow more, for example with: ulimit -n 1024",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))
