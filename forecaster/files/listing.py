"""Find the files that a directory, a pattern or a URL means, by one rule for all three."""

import os
import re
import stat
import warnings
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePosixPath

import polars as pl

from forecaster.errors import BadFileError, ForecasterError
from forecaster.files.paths import check_name, refusing
from forecaster.process.numbers import counted
from forecaster.process.secrets import one_line
from forecaster.process.signals import interruptible

ENDINGS = (".parquet", ".parq", ".pq")
"""Endings of Parquet files, in upper or lower case. A name without an ending counts, too."""

EXPORT_HINT = "export the table as it is now to Parquet files in another directory, and name that"
STORE_HINT = "check the address, and what the store needs, such as AWS_REGION"

_WILD = "*?["
_HIDDEN = (".", "_")
_MARKS = (
    "_SUCCESS",
    "_metadata",
    "_common_metadata",
    "_started_*",
    "_committed_*",
    ".*.crc",
    ".DS_Store",
    ".keep",
    ".gitkeep",
)
# A version, or a number and a UUID: other programs have files of metadata as well.
_OF_ICEBERG = re.compile(r"(?:v\d+|\d+-[0-9a-f-]{32,36})(?:\.\w+)?\.metadata\.json(?:\.gz)?", re.IGNORECASE)
_OF_DELETIONS = {"file_path", "pos"}  # columns of a file that an Iceberg table keeps next to its data
_NOT_LISTED = ("http", "https")  # schemes of servers that cannot list their files

States = frozenset[int]
"""The numbers of parts of a pattern that the names so far may have matched."""


@dataclass(frozen=True)
class Listing:
    """The names in a place: those that are read, and those that are not."""

    where: str
    read: list[str] = field(default_factory=list)
    """The files to read, each one once."""
    passed_over: list[str] = field(default_factory=list)
    """Names that may hold data, but are not names of Parquet files; a directory ends in a slash."""
    again: list[str] = field(default_factory=list)
    """Other names of files that are read."""
    links: list[str] = field(default_factory=list)
    """Links to directories that are read."""

    def would_read(self, directory: Path) -> bool:
        """Whether files written into the directory would be read, too, even through a link."""
        place = place_of(self.where)
        return not is_url(self.where) and any(
            place.may_mean(directory, by=Path(by)) for by in (place.base, *self.links)
        )

    def warnings(self) -> list[str]:
        """Warn about names that are not read."""
        told = []
        if self.passed_over:
            first = one_line(min(self.passed_over))
            told.append(
                f"{self.where}: {counted(len(self.passed_over), 'name')} not read, the first is {first}: "
                f"a Parquet file ends in {', '.join(ENDINGS)} or nothing, and does not begin with . or _"
            )
        if self.again:
            told.append(
                f"{self.where}: {counted(len(self.again), 'link')} to files that have another name, the "
                f"first is {one_line(min(self.again))}: each file is read once"
            )
        return told


@dataclass(frozen=True)
class Place:
    """A directory or its URL, and a pattern that says which names below it are meant."""

    base: str
    pattern: tuple[str, ...] = ()
    """The parts of a pattern: `**` is any number of names. Everything below a match is meant, too."""

    @property
    def start(self) -> States:
        """The states before the first name."""
        return self._closed({0})

    def step(self, states: States, name: str) -> States:
        """Return the states after one more name; empty if neither it nor anything below it is meant."""
        end = len(self.pattern)
        stay = {i for i in states if i == end or self.pattern[i] == "**"}
        go_on = {i + 1 for i in states if i < end and _fits(name, self.pattern[i])}
        return self._closed(stay | go_on)

    def means(self, states: States) -> bool:
        """Whether the names so far are meant."""
        return len(self.pattern) in states

    def may_mean(self, path: Path, *, by: Path) -> bool:
        """Whether anything in a directory may be meant; `by`: the base, or a link below it."""
        root, path = by.resolve(), path.resolve()
        if not path.is_relative_to(root):
            return False
        states = self.start
        for name in (*by.relative_to(self.base).parts, *path.relative_to(root).parts):
            states = self.step(states, name)
        return bool(states)

    def is_hidden(self, name: str) -> bool:
        """Whether the name begins with . or _, unless a part of the pattern begins so, too."""
        return name.startswith(_HIDDEN) and not any(part.startswith(name[0]) for part in self.pattern)

    def is_parquet(self, name: str) -> bool:
        """Whether the name is that of a Parquet file."""
        ending = PurePosixPath(name).suffix
        asked = PurePosixPath(self.pattern[-1]).suffix if self.pattern else ""
        return not ending or ending.lower() in ENDINGS or (ending == asked and not is_pattern(asked))

    def _closed(self, states: set[int]) -> States:
        for i, part in enumerate(self.pattern):
            if part == "**" and i in states:
                states.add(i + 1)
        return frozenset(states)


def list_files(where: str) -> Listing:
    """List the files that a directory, a pattern, a file, or a URL of one of them means.

    Raises `BadFileError` if they cannot be listed, and for a table of Delta Lake, Hudi or Iceberg.
    """
    found = _at_url(where) if is_url(where) else _in_directory(where)
    for names in (found.read, found.passed_over, found.again):
        names.sort()
    for path in found.read:
        check_name(path)
    return found


def is_url(where: str) -> bool:
    """Whether the name is a URL, of a place in an object store."""
    return "://" in where


def is_pattern(where: str) -> bool:
    """Whether the name contains wildcards."""
    return any(sign in where for sign in _WILD)


def names_files(where: str) -> bool:
    """Whether the name is a pattern or that of a file, not of a directory."""
    return is_pattern(where) or where.lower().endswith(ENDINGS)


def is_mark(name: str) -> bool:
    """Whether it is a file that other programs write next to their data. It never has rows; no warning."""
    return any(fnmatchcase(name, mark) for mark in _MARKS)


def place_of(where: str) -> Place:
    """Split a pattern into its fixed beginning and the rest. For a directory, there is no rest."""
    if not is_url(where) and os.path.exists(where):  # noqa: PTH110 - raises nothing
        return Place(where)  # even if its name contains wildcards
    parts = where.split("/")
    first = next((i for i, part in enumerate(parts) if is_pattern(part)), len(parts))
    return Place("/".join(parts[:first]) or "/", tuple(parts[first:]))


def refuse_tables(where: str) -> None:
    """Raise `BadFileError` for files of a table of Delta Lake, Hudi or Iceberg: its log says which count."""
    base = place_of(where).base
    if is_url(where):
        _refuse_table_at_url(base)
        return
    for path in dict.fromkeys((base, os.path.realpath(base))):
        refuse_table_around(Path(path))


def _fits(name: str, part: str) -> bool:
    return fnmatchcase(_folded(name), _folded(part))


def _folded(name: str) -> str:
    """Write the ending of a Parquet file in lower case, to compare names."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}{dot}{ending.lower()}" if f".{ending.lower()}" in ENDINGS else name


def _pass_over(found: Listing, path: str, name: str) -> None:
    if not is_mark(name):
        found.passed_over.append(path)


def _table(names: Sequence[str]) -> str | None:
    """Return the format of the table that a path with these names belongs to; None without a table."""
    if "_delta_log" in names:
        return "Delta Lake"
    if any(name.startswith(".hoodie") for name in names):
        return "Apache Hudi"
    is_iceberg = any(one == "metadata" and _OF_ICEBERG.fullmatch(name) for one, name in pairwise(names))
    return "Apache Iceberg" if is_iceberg else None


def _refuse(where: str, table: str | None) -> None:
    if table:
        raise BadFileError(
            f"{where} is a table of {table}: only its log says which files and rows count, and forecaster "
            "does not read that log",
            hint=EXPORT_HINT,
        )


def _in_directory(where: str) -> Listing:
    place = place_of(where)
    with refusing(where, "read"):
        if not place.pattern and not _is_there(where):
            return Listing(where)
        if not place.pattern and not stat.S_ISDIR(mode := Path(where).stat().st_mode):
            if stat.S_ISREG(mode):
                return Listing(where, [where])
            raise BadFileError(
                f"{where} is neither a file nor a directory", hint="name a file or a directory"
            )
        found, is_directory = Listing(where), Path(place.base).is_dir()
    if is_directory:
        _walk(place, found)
    return found


def _is_there(where: str) -> bool:
    """Whether the name exists, even as a dangling link. A lack of permission is an error."""
    try:
        os.lstat(where)
    except FileNotFoundError:
        return False
    return True


def _walk(place: Place, found: Listing) -> None:
    """Walk through everything that is meant; follow links, and read nothing twice."""
    seen: set[tuple[object, ...]] = set()
    pending = [(place.base, place.start)]
    while pending:
        directory, states = pending.pop()
        for entry in _entries(directory):
            after = place.step(states, entry.name)
            if not after:
                continue
            if place.is_hidden(entry.name):
                _pass_over(found, entry.path + ("/" if os.path.isdir(entry.path) else ""), entry.name)  # noqa: PTH112 - raises nothing
                continue
            with refusing(entry.path, "read"):
                state = entry.stat()
            if entry.is_symlink():
                refuse_table_around(Path(os.path.realpath(entry.path)))
            is_directory = stat.S_ISDIR(state.st_mode)
            if not is_directory and not (place.means(after) and _is_data(place, entry, state, found)):
                continue
            # Another name of a directory may match another part of the pattern.
            key = (state.st_dev, state.st_ino, after if is_directory else None)
            if key in seen:
                found.again.append(entry.path)
            elif is_directory:
                pending.append((entry.path, after))
                found.links.extend([entry.path] if entry.is_symlink() else [])
            else:
                found.read.append(entry.path)
            seen.add(key)


def _entries(directory: str) -> list[os.DirEntry[str]]:
    """List a directory, links last, so that a file is read by its own name, not by a link."""
    with refusing(directory, "listed"), os.scandir(directory) as listed:
        entries = sorted(listed, key=lambda entry: (entry.is_symlink(), entry.name))
    for entry in entries:
        _refuse(directory, _table([entry.name]))
        if entry.name == "metadata":
            _refuse(directory, _iceberg(directory))
    return entries


def _is_data(place: Place, entry: os.DirEntry[str], state: os.stat_result, found: Listing) -> bool:
    if not place.is_parquet(entry.name):
        _pass_over(found, entry.path, entry.name)
        return False
    if not stat.S_ISREG(state.st_mode):
        raise BadFileError(
            f"{entry.path} is neither a file nor a directory", hint="move it to another directory"
        )
    return bool(state.st_size or PurePosixPath(entry.name).suffix)  # else a mark, without content


def refuse_deletions(path: str, names: Collection[str], *, lacks: bool) -> None:
    """Raise `BadFileError` for a delete file of Iceberg; if it `lacks` a column, read the footer, too."""
    if {*names} >= _OF_DELETIONS or (lacks and "delete-type" in pl.read_parquet_metadata(path)):
        raise BadFileError(
            f"{path} lists rows that an Apache Iceberg table has deleted from other files", hint=EXPORT_HINT
        )


def refuse_table_around(path: Path) -> None:
    """Raise `BadFileError` for a directory that is a table of these formats, or lies in one."""
    for directory in (path, *path.parents):
        there = [name for name in ("_delta_log", ".hoodie") if os.path.isdir(directory / name)]  # noqa: PTH112 - raises nothing
        _refuse(str(directory), _table(there) or _iceberg(str(directory)))


def _iceberg(directory: str) -> str | None:
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(f"{directory}/metadata")  # noqa: PTH208 - names
    return next(filter(None, (_table(("metadata", name)) for name in names)), None)


def _at_url(where: str) -> Listing:
    place, found = place_of(where), Listing(where)
    if where.partition("://")[0] in _NOT_LISTED:
        return Listing(where, [where])
    try:
        with refusing(where, "read", hint=STORE_HINT):
            names = _expand([f"{place.base}/**/*"])
    except BadFileError:
        if place.pattern or not names_files(where):
            raise
        names = []  # a user who may read a file may not be allowed to list it
    if not names and not place.pattern and names_files(where):
        return Listing(where, [where])
    for name in names:
        _sort_in(place, name, found)
    return found


def _sort_in(place: Place, path: str, found: Listing) -> None:
    parts = path.removeprefix(place.base).strip("/").split("/")
    states = place.start
    for i, part in enumerate(parts):
        _refuse("/".join([place.base, *parts[:i]]), _table(parts[i : i + 2]))
        if not (states := place.step(states, part)):
            return
        if place.is_hidden(part):
            hidden = "/".join([place.base, *parts[: i + 1]]) + ("/" if parts[i + 1 :] else "")
            if hidden not in found.passed_over[-1:]:
                _pass_over(found, hidden, part)
            return
    if place.means(states):
        if place.is_parquet(parts[-1]):
            found.read.append(path)
        else:
            _pass_over(found, path, parts[-1])


def _refuse_table_at_url(base: str) -> None:
    scheme, _, rest = base.partition("://")
    if scheme in _NOT_LISTED:
        return
    parts = rest.split("/")
    for end in range(len(parts), 0, -1):
        directory = f"{scheme}://{'/'.join(parts[:end])}"
        signs = ("_delta_log/*", ".hoodie/*", "metadata/*.metadata.json*")
        there: Iterable[str] = ()
        # A user who may list a place may not be allowed to list its parents.
        with suppress(BadFileError), refusing(directory, "read"):
            there = _expand([f"{directory}/{sign}" for sign in signs])
        for path in there:
            _refuse(directory, _table(path.removeprefix(directory).strip("/").split("/")))


def _expand(patterns: Sequence[str]) -> list[str]:
    """List the matching objects by Polars, with the credentials with which it reads them."""
    # The schema is given, so that no file is read for it.
    scan = pl.scan_parquet(list(patterns), schema={"cm_track_id": pl.Int64}, hive_partitioning=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the store's region, which is found automatically
        try:
            # Not documented, but meant for other engines: the only way to get the paths that Polars found.
            node = interruptible(lambda: scan._ldf.visit().view_current_node(), cancel=None)  # noqa: SLF001
            # A frame without rows means that there are no objects.
            return [] if type(node).__name__ == "DataFrameScan" else list(map(str, node.paths))
        except (AttributeError, TypeError) as error:
            raise ForecasterError(
                f"Polars {pl.__version__} does not tell forecaster which files an object store holds",
                hint="install Polars 2.1, or copy the files to a local directory",
            ) from error
