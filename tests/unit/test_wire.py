"""Numbers on the wire: what is unpacked is what was packed."""

import struct
from collections.abc import Sequence

import polars as pl
import pytest

from forecaster.postgres.wire import unpacked, unpacked_ids

LARGEST = 1.7976931348623157e308
MIXED = [0.0, 0.5, 2147483647.0, -2147483647.0, -2147483648.0, 2147483648.0, 9007199254740993.0, 5e-324]


def sent(tracks: Sequence[Sequence[float] | None]) -> pl.DataFrame:
    """What the server sends of these tracks, written down once more."""

    def is_whole(number: float) -> bool:
        return abs(number) < 2**31 and number == int(number)

    def of(numbers: Sequence[float] | None) -> tuple[bytes | None, bytes | None]:
        if numbers is None:
            return None, None
        integers = [int(n) if is_whole(n) else -(2**31) for n in numbers]
        others = [n for n in numbers if not is_whole(n)]
        return (
            struct.pack(f">{len(integers)}i", *integers),
            struct.pack(f">{len(others)}d", *others) if others else None,
        )

    columns = {"cm_track_id": pl.Int64, "streams": pl.Binary, "others": pl.Binary}
    return pl.DataFrame(
        [(track, *of(numbers)) for track, numbers in enumerate(tracks)], schema=columns, orient="row"
    )


@pytest.mark.parametrize(
    "tracks",
    [
        [[1.0, 2.0, 3.0], [0.0], [-7.0] * 365],  # as 32 bits
        [[2.0**31, -(2.0**53)], [2.0**31, 1.0]],  # integers of more
        [[0.25, LARGEST, -LARGEST, 5e-324], [1e-300]],  # floats
        [MIXED, [1.0], MIXED[::-1], [0.5], [4.0, 4.0]],
        [None, [1.0], None, [0.5, 2.0], [], None],
        [None, None],
        [[]],
        [],
    ],
)
def test_round_trip(tracks: Sequence[Sequence[float] | None]) -> None:
    wire = sent(tracks)
    received = unpacked(wire)
    assert received.schema == {"cm_track_id": pl.Int64, "streams": pl.List(pl.Float64)}
    assert received["streams"].to_list() == [list(numbers or []) for numbers in tracks]
    assert received["cm_track_id"].to_list() == list(range(len(tracks)))
    # of a frame in pieces, as drivers return it, and of a part of one
    again = unpacked(pl.concat([wire, wire], rechunk=False))
    assert again["streams"].to_list() == received["streams"].to_list() * 2
    assert unpacked(wire[1:])["streams"].to_list() == received["streams"].to_list()[1:]


def test_days() -> None:
    """Sent where one is missing; where none is, they follow from the last one."""
    back = [[0, 1, 2], [0, 2, 3], [], [0, 400, 32767]]
    sent_days = [None, struct.pack(">3h", *back[1]), None, struct.pack(">3h", *back[3])]
    wire = sent([[1.0] * len(days) for days in back]).with_columns(
        pl.Series("days", sent_days, dtype=pl.Binary), pl.Series("last_day", [100, 200, None, 40_000])
    )
    days = unpacked(wire)["days"]
    assert days.dtype == pl.List(pl.Int32)
    assert days.to_list() == [[100, 99, 98], [200, 198, 197], [], [40_000, 39_600, 7_233]]
    assert unpacked(wire[1:])["days"].to_list() == days.to_list()[1:]
    assert unpacked(wire.with_columns(days=pl.lit(None))[:1])["days"].to_list() == [[100, 99, 98]]
    assert unpacked(wire[:0])["days"].to_list() == []


@pytest.mark.parametrize("ids", [[], [7], [1, -(2**63), 2**63 - 1]])
def test_ids(ids: list[int]) -> None:
    packed = struct.pack(f">{len(ids)}q", *ids) if ids else None
    wire = pl.DataFrame({"ids": [packed, None, packed]}, schema={"ids": pl.Binary})
    assert unpacked_ids(wire).to_list() == ids * 2
    assert unpacked_ids(wire).dtype == pl.Int64


def test_rows_without_any_number_may_have_no_type() -> None:
    """A driver may not know the type of a column in which all is NULL."""
    wire = pl.DataFrame({"cm_track_id": [1], "streams": [None], "others": [None]})
    assert unpacked(wire)["streams"].to_list() == [[]]
