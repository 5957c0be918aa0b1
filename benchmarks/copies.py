"""`python -m benchmarks.copies SPEC`: the cheapest plain process that moves the bytes of a command."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

_PIECE = 2**20  # bytes


def main() -> None:
    """Copy rows out to nowhere, bytes in, and a file; print the seconds without the start of the process.

    SPEC is JSON: `url`; `out`, statements whose result is thrown away; `into`, pairs of a statement and the
    file with its bytes, in one transaction; `write`, None, or a pair of a file to copy and its target. For
    Parquet, the copy is read and written by Polars.
    """
    spec: dict[str, Any] = json.loads(sys.argv[1])
    with psycopg.connect(spec["url"]) as connection, connection.cursor() as cursor:
        start = time.perf_counter()
        for statement in spec["out"]:
            with cursor.copy(statement) as copy:
                for _ in copy:
                    pass
        for statement, path in spec["into"]:
            with cursor.copy(statement) as copy, Path(path).open("rb") as file:
                while piece := file.read(_PIECE):
                    copy.write(piece)
        connection.commit()
    if spec["write"]:
        _write(*map(Path, spec["write"]))
    Path(spec["seconds"]).write_text(f"{time.perf_counter() - start}")


def _write(source: Path, target: Path) -> None:
    if source.suffix != ".parquet":
        shutil.copyfile(source, target)
        return
    import polars as pl  # noqa: PLC0415 - only the commands that write such a file need it

    pl.read_parquet(source).write_parquet(target)


if __name__ == "__main__":
    main()
