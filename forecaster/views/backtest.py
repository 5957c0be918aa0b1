"""Score forecasts against later streams: stored forecasts, or new ones as of earlier days."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import chain

import polars as pl

from forecaster.errors import InvalidOptionError, NoForecastError
from forecaster.model.parameters import DAYS_PER_MONTH, Parameters
from forecaster.postgres.backtest import LaterDays
from forecaster.postgres.catalogue import Source, open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.past_runs import Chosen, tracks_outside
from forecaster.process.numbers import counted
from forecaster.process.signals import interruptible
from forecaster.scoring import Evaluation, evaluate_batches
from forecaster.scoring.theta import check_theta
from forecaster.tables import STREAMS_TABLE
from forecaster.views.actuals import differing, joined, negative, read_actuals
from forecaster.views.bounds import stored_bounds
from forecaster.views.origins import stored_forecasts
from forecaster.views.past import Origins, PastModel, made_at, shown_range, spans_of
from forecaster.views.past_runs import RECORDED, of_runs, past_runs

STORED_TWICE = "month_stored_twice"
"""Reason why the stored forecast of a track is not scored, in addition to `LEFT_OUT` of the evaluation."""


@dataclass(frozen=True)
class Rolling:
    """Cutoffs at the same distance."""

    since: date
    """The first."""
    every: int = DAYS_PER_MONTH
    """Days from one to the next."""

    def until(self, last: date) -> list[date]:
        """List the cutoffs up to this one."""
        number = max(0, (last - self.since).days // self.every + 1)
        return [self.since + timedelta(days=self.every * i) for i in range(number)]


@dataclass(frozen=True)
class BacktestConfig:
    """Configuration of a backtest. Raises `InvalidOptionError` if the values contradict each other."""

    dsn: Dsn
    schema: str = "public"
    parameters: Parameters = field(default_factory=Parameters)
    """With cutoffs, the parameters of the forecasts. Without, only `as_of` counts: the as-of date of stored
    forecasts of which no run recorded it."""
    cutoffs: tuple[date, ...] = ()
    """Make forecasts from the days before each of these. Empty: score the stored ones."""
    actuals: str | None = None
    """Table or file with later streams. None: only the streams table."""
    track_ids: tuple[int, ...] = ()
    """Score only these tracks. Empty: all."""
    months: int | None = None
    """Without cutoffs, score only the first `months` of the stored forecasts. None: all."""
    later_rates: bool = False
    """With cutoffs, use the stored MLDR if none is known at the cutoff. It may depend on later days."""
    model: str = "production"
    """With cutoffs, the model that makes the forecasts; of `MODELS_OF_CALIBRATION`, with the production model
    beside it."""
    level: int | None = None
    """With cutoffs, the days whose mean forecasts start from, 7 or 30. None: as the model has it."""
    mldr: float | pl.DataFrame | None = None
    """With cutoffs, use these MLDR instead of all others: one for all artists, or cm_artist_id and mldr."""
    runs: Chosen = field(default_factory=Chosen)
    """Without cutoffs, score only the forecasts of these runs."""
    rolling: Rolling | None = None
    """Further cutoffs, as many as can be scored."""
    theta: bool = False
    """Score Theta and a combination as well. They need the extra of that name."""

    @property
    def makes_forecasts(self) -> bool:
        """Whether forecasts are made, as of earlier days."""
        return bool(self.cutoffs or self.rolling)

    def __post_init__(self) -> None:
        if self.theta:
            check_theta()
        if self.model != "production" and self.track_ids:
            raise InvalidOptionError(
                f"--track-id and --model {self.model} contradict each other",
                hint="omit --track-id: a calibration is one of a whole catalogue; --out has each track",
            )
        if self.makes_forecasts and self.runs:
            raise InvalidOptionError(
                "--run and --runs contradict --cutoff",
                hint="omit --cutoff: runs have made their forecasts, --cutoff makes new ones",
            )
        if self.makes_forecasts and self.parameters.as_of:
            raise InvalidOptionError(
                "--as-of and --cutoff contradict each other",
                hint="omit --as-of: with --cutoff, the age is that on the last date before the cutoff",
            )


@dataclass(frozen=True)
class Backtest:
    """The scores of a backtest, with its warnings."""

    evaluation: Evaluation
    known_by: str
    """The source of the as-of dates: history, by created_at, --as-of, or cutoff."""
    skipped: Mapping[str, int]
    """Number of tracks without a forecast that can be scored, by reason; over all cutoffs."""
    later_rates: int
    """Number of tracks forecast with an MLDR that may depend on later days; over all cutoffs."""
    actuals_left_out: Mapping[str, int]
    """Number of rows of the actuals that were left out, by reason. Empty without actuals."""
    warnings: list[str]
    made_with: Sequence[str] = ()
    """For each cutoff with a calibration of its own: what the forecasts were made with."""


def backtest(config: BacktestConfig) -> Backtest:
    """Score forecasts against the streams of the 30-day months after their origins.

    Days up to an origin come from the streams table alone. After it, days of the actuals replace those of the
    table. Raises `NoForecastError` if there is nothing to score, `BadFileError` and `SchemaMismatchError` for
    actuals that cannot be used, and what reading raises.
    """
    with open_source(config.dsn, config.schema) as source:
        tracks = _tracks(source, config.track_ids)
        days = source.days(tracks).sort("cm_track_id", "date")
        if config.makes_forecasts:
            config = replace(config, cutoffs=tuple(_cutoffs(config, days)))
            origins = _made(source, tracks, days, config)
        else:
            origins = _stored(source, tracks, days, config)
        return _scored(origins, tracks, days, config)  # reads the forecasts of runs batch by batch


def _scored(origins: Origins, tracks: pl.Series, days: pl.DataFrame, config: BacktestConfig) -> Backtest:
    warnings, later = [*origins.warnings], LaterDays(days, {})
    if config.actuals is not None:
        given = read_actuals(config.dsn, config.schema, config.actuals, tracks)
        warnings += differing(days, given.days, origins.spans)
        later = LaterDays(joined(days, given.days), given.left_out)
    warnings += negative(later.days, origins.spans)
    actuals = None if later.days is days else later.days
    try:
        evaluation = interruptible(
            lambda: evaluate_batches(
                origins.batches,
                days,
                actuals,
                cutoffs=config.cutoffs,
                theta=config.theta,
                totals=origins.factors,
            ),
            cancel=None,
        )
    except NoForecastError as error:
        facts = [f"{error}", *_facts(origins, days, later), *warnings]
        is_known = config.cutoffs or origins.known_by == RECORDED
        states = "" if is_known else "; --as-of DATE gives the last day that the forecasts used"
        raise NoForecastError("; ".join(facts), hint=f"{error.hint}{states}") from error
    warnings += _unscored(evaluation)
    return Backtest(
        _with_days(replace(evaluation, horizon=config.months), origins.started),
        origins.known_by,
        origins.skipped,
        origins.later_rates,
        later.left_out,
        warnings,
        origins.made_with,
    )


def _with_days(evaluation: Evaluation, started: pl.DataFrame | None) -> Evaluation:
    """Add to the scores by run the day on which each began."""
    if evaluation.by_run is None or started is None:
        return evaluation
    by_run = evaluation.by_run.join(started, on="run", how="left", maintain_order="left")
    return replace(evaluation, by_run=by_run.select("run", "started", pl.all().exclude("run", "started")))


def _tracks(source: Source, wanted: Sequence[int]) -> pl.Series:
    tracks = source.tracks(wanted or None)
    if unknown := sorted(set(wanted) - set(tracks)):
        raise NoForecastError(
            f"no streams of these tracks: {', '.join(map(str, unknown))}", hint="check the ids, and --schema"
        )
    return tracks


def _cutoffs(config: BacktestConfig, days: pl.DataFrame) -> list[date]:
    """List all cutoffs, in order. Raises `NoForecastError` if there is none."""
    cutoffs, rolling = set(config.cutoffs), config.rolling
    last = days["date"].max()
    if rolling and isinstance(last, date):
        # A month can be scored if it is over, or if the streams after the last day are given.
        months_end = 1 if config.actuals else 1 - DAYS_PER_MONTH
        found = rolling.until(last + timedelta(days=months_end))
        if not found and not cutoffs:
            raise NoForecastError(
                f"no month after {rolling.since} is over: the streams end on {last}",
                hint="give an earlier day with --since",
            )
        cutoffs |= set(found)
    return sorted(cutoffs)


def _made(source: Source, tracks: pl.Series, days: pl.DataFrame, config: BacktestConfig) -> Origins:
    if days.is_empty():
        problem = "has no usable row" if len(tracks) else "is empty"
        raise NoForecastError(
            f"the table {STREAMS_TABLE} in schema {config.schema!r} {problem}",
            hint="load daily streams with `forecaster load`, or name another schema with --schema",
        )
    model = PastModel(config.model, config.later_rates, config.level, config.mldr)
    return made_at(config.cutoffs, source, tracks, days, config.parameters, model=model)


def _stored(source: Source, tracks: pl.Series, days: pl.DataFrame, config: BacktestConfig) -> Origins:
    """Take the forecasts of runs, and those that are stored but in no run."""
    as_of, among = config.parameters.as_of, tracks if config.track_ids else None
    past = past_runs(source, config.runs, among, months=config.months, as_of=as_of)
    if past is None:
        return _in_table(source, among, config)
    outside = pl.Series(dtype=pl.Int64) if config.runs else tracks_outside(source, among)
    if outside.is_empty():
        return of_runs(past, days)
    return _both(of_runs(past, days), _in_table(source, outside, config))


def _both(recorded: Origins, others: Origins) -> Origins:
    spans = pl.concat([recorded.spans, others.spans]).group_by("cm_track_id")
    return replace(
        recorded,
        batches=chain(others.batches, recorded.batches),
        spans=spans.agg(pl.col("first").min(), pl.col("last").max()),
        known_by=f"{recorded.known_by}, else {others.known_by}",
        skipped=dict(Counter(recorded.skipped) + Counter(others.skipped)),
        warnings=[*recorded.warnings, *others.warnings],
    )


def _in_table(source: Source, tracks: pl.Series | None, config: BacktestConfig) -> Origins:
    """Take the forecasts from their table, where nothing but `created_at` tells what they knew."""
    as_of = config.parameters.as_of
    rows, warnings = stored_forecasts(source, tracks, as_of=as_of)
    is_doubled = pl.struct("cm_track_id", "month").is_duplicated().any().over("cm_track_id")
    doubled = rows.filter(is_doubled)["cm_track_id"].unique().sort()
    rows = rows.filter(~pl.col("cm_track_id").is_in(doubled.implode()))
    if len(doubled):
        warnings.append(
            f"tracks left out because one of their months is stored twice: {len(doubled):,}, the first is "
            f"{doubled[0]}; fix it with `forecaster run --replace --track-id {doubled[0]}`"
        )
    if as_of:
        warnings = [*_seen(source.cutoffs(rows["cm_track_id"].unique()), as_of), *warnings]
    if config.months:
        rows = rows.filter(pl.col("month") <= config.months)
    forecasts = rows.rename({"cutoff": "as_of"}).with_columns(cutoff=pl.lit(None, pl.Date))
    bounds = stored_bounds(source, forecasts["cm_track_id"].unique())
    if len(bounds):
        forecasts = forecasts.join(bounds, on=["cm_track_id", "month"], how="left", maintain_order="left")
    skipped = {STORED_TWICE: len(doubled)} if len(doubled) else {}
    known_by = "--as-of" if as_of else "by created_at"
    return Origins([forecasts], spans_of(forecasts), known_by, skipped, warnings)


def _seen(cutoffs: pl.DataFrame, as_of: date) -> Iterator[str]:
    """Yield a warning if stored forecasts may have used days after the given as-of date."""
    found = cutoffs.filter(pl.col("is_known") & (pl.col("cutoff") > as_of))["cm_track_id"]
    if len(found):
        yield (
            f"by created_at, {counted(len(found), 'track')} had streams after --as-of {as_of} when the "
            f"forecast was stored (first: track {found[0]}): the scores include days that these forecasts "
            "may have used"
        )


def _unscored(evaluation: Evaluation) -> Iterator[str]:
    found = evaluation.by_cutoff.filter(windows=0)["cutoff"]
    if len(found):
        yield f"no month can be scored at {', '.join(map(str, found))}"


def _facts(origins: Origins, days: pl.DataFrame, later: LaterDays) -> Iterator[str]:
    """Yield the known facts about the origins, and about the days before and after them."""
    spans = origins.spans.join(days, on="cm_track_id", how="semi")
    known = pl.concat([spans["first"], spans["last"]])
    if len(known):
        yield f"as of {shown_range(known)} ({origins.known_by})"
    if len(later.days):
        yield f"the days with streams are {shown_range(later.days['date'])}"
    left_out = [f"{reason} {count:,}" for reason, count in later.left_out.items() if count]
    if left_out:
        yield f"rows left out of --actuals: {', '.join(left_out)}"
