"""Extrapolate a measurement of `benchmarks.buckets` to larger catalogues: cores, memory, disk and hours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.tables import table

TRACKS = (10_000_000, 100_000_000)
MORE_CORES = (16, 64)
ENGINES = ("local", "dask")


def needs(result: dict[str, Any]) -> str:
    """Format a Markdown table: the arithmetic, the largest measured size, and the needs of larger ones.

    One star: extrapolated to more tracks. Two stars: also to more cores.
    """
    largest = result["sizes"][-1]
    laid_out = [many for many in result["many_buckets"] if many["tracks"] == largest["tracks"]]
    rates = _Rates.of(largest, laid_out, result["environment"]["cores"])
    measured, *larger = (list(rates.needs(tracks)) for tracks in (largest["tracks"], *TRACKS))
    return table(
        (
            "",
            "arithmetic",
            f"{largest['tracks']:,} tracks, measured",
            *(f"{tracks // 1_000_000} million tracks *" for tracks in TRACKS),
        ),
        (
            (
                need.name + (" **" if need.extrapolated else ""),
                need.arithmetic,
                "" if need.extrapolated else need.shown,
                *(said[number].shown for said in larger),
            )
            for number, need in enumerate(measured)
        ),
    )


@dataclass(frozen=True)
class _Need:
    name: str
    arithmetic: str
    value: float
    is_hours: bool = False
    extrapolated: bool = False
    """Whether it is extrapolated to more cores than the machine has."""

    @property
    def shown(self) -> str:
        """The value with three digits, or all before the point; less than an hour in minutes."""
        if self.is_hours:
            return f"{self.value:,.1f} h" if self.value >= 1 else f"{self.value * 60:.1f} min"
        return f"{self.value:,.0f}" if self.value >= 100 else f"{self.value:.3g}"


@dataclass(frozen=True)
class _Rates:
    """Measured rates of one size: per track, row, bucket, second and core."""

    cores: int
    days: float
    """Daily rows per track."""
    horizon: float
    """Forecast rows per track."""
    bytes_per_daily_row: float
    bytes_per_forecast_row: float
    tracks_per_bucket: float
    rows_per_core: float
    """Daily rows per second and core, with the slower engine."""
    worker_gb: float
    """Peak memory of the largest process."""
    rows_prepared: float
    """Daily rows per second that `prepare` lays out, with the slowest number of buckets."""
    buckets_prepared: int

    @classmethod
    def of(cls, size: dict[str, Any], laid_out: Sequence[dict[str, Any]], cores: int) -> "_Rates":
        rounds, rows = size["rounds"], size["daily_rows"]
        slowest = max((size, *laid_out), key=lambda one: one["prepare"]["seconds"])
        seconds = max(median(measured[engine]["seconds"] for measured in rounds) for engine in ENGINES)
        return cls(
            cores=cores,
            days=rows / size["tracks"],
            horizon=size["forecast_rows"] / size["tracks"],
            bytes_per_daily_row=size["in_bytes"] / rows,
            bytes_per_forecast_row=size["out_bytes"] / size["forecast_rows"],
            tracks_per_bucket=size["tracks"] / size["buckets"],
            rows_per_core=rows / seconds / cores,
            worker_gb=max(measured[engine]["peak_mb"] for measured in rounds for engine in ENGINES) / 1e3,
            rows_prepared=rows / slowest["prepare"]["seconds"],
            buckets_prepared=slowest["buckets"],
        )

    def needs(self, tracks: int) -> Iterator[_Need]:
        rows = tracks * self.days
        core_hours = rows / self.rows_per_core / 3600
        a_second = "million a second"
        yield _Need("daily rows, billion", f"tracks x {self.days:.0f}", rows / 1e9)
        yield _Need(
            "store for them, GB",
            f"daily rows x {self.bytes_per_daily_row:.2f} bytes",
            rows * self.bytes_per_daily_row / 1e9,
        )
        yield _Need(
            "store for the forecasts, GB",
            f"tracks x {self.horizon:.1f} months x {self.bytes_per_forecast_row:.2f} bytes",
            tracks * self.horizon * self.bytes_per_forecast_row / 1e9,
        )
        yield _Need("buckets", f"tracks / {self.tracks_per_bucket:,.0f}", tracks / self.tracks_per_bucket)
        yield _Need(
            f"`prepare` on {self.cores} cores, at the speed for {self.buckets_prepared:,} buckets",
            f"daily rows / {self.rows_prepared / 1e6:.2f} {a_second}",
            rows / self.rows_prepared / 3600,
            is_hours=True,
        )
        yield _Need(
            "`run`, core time of the slower engine",
            f"daily rows / {self.rows_per_core / 1e6:.2f} {a_second}",
            core_hours,
            is_hours=True,
        )
        for cores in (self.cores, *MORE_CORES):
            more = cores > self.cores
            yield _Need(
                f"on {cores} cores",
                f"core time / {cores}",
                core_hours / cores,
                is_hours=True,
                extrapolated=more,
            )
            yield _Need(
                f"memory of {cores} workers, GB",
                f"{cores} x {self.worker_gb:.2f} GB",
                cores * self.worker_gb,
                extrapolated=more,
            )
