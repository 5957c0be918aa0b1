"""What is implausible about a track: expressions on the rows of `build_tracks`."""

from collections.abc import Callable, Mapping

import polars as pl

_LEVEL = 30  # records whose mean is the level that a forecast starts from
_LAST = 3  # records that are all zero where a feed fills days with zeros
_BUSY = 10.0  # streams per day; with that many, three days without a stream are no coincidence
_SOME = 1.0  # streams per day; below it, a multiple of the mean says nothing


def suspicions(limits: Mapping[str, float], /) -> Mapping[str, pl.Expr]:
    """Return by the name of each check whether a track is suspicious; NULL where that cannot be judged.

    `limits`: the thresholds of the checks that are made.
    """
    earlier = (pl.col("streams_365") - pl.col("streams_30")) / (pl.col("records") - _LEVEL)
    before_last = (pl.col("streams_30") - pl.col("streams_3")) / (_LEVEL - _LAST)
    has_earlier = (pl.col("records") >= 2 * _LEVEL) & (earlier >= _SOME)
    is_busy = (pl.col("records") >= _LEVEL) & (before_last >= _BUSY)
    of_all: Mapping[str, Callable[[float], pl.Expr]] = {
        "zeros": lambda _share: pl.when(is_busy).then(pl.col("streams_3") == 0),
        "rates": lambda rate: pl.when(pl.col("mldr").is_finite()).then(pl.col("mldr").abs() > rate),
        "spike": lambda times: pl.when(has_earlier).then(pl.col("streams_30") / _LEVEL > times * earlier),
    }
    return {name: of(limits[name]) for name, of in of_all.items() if name in limits}
