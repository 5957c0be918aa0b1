"""A calibration in words and tables."""

import math
from collections.abc import Iterator, Sequence

from forecaster.cli.grid import Grid
from forecaster.model.calibrated.calibrate import FEWEST_ORIGINS, HANDICAP
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.rates import FEWEST_TRACKS, GROUPS, LENGTHS
from forecaster.model.calibrated.uncertainty import MEASURED, PERCENTS, PRIOR_ORIGINS, OwnErrors, student_t
from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.process.numbers import counted

_NAMES = {"0-6": "0 to 6", "6-12": "6 to 12", "12-": "12 and more"}


def told(calibration: Calibration) -> Iterator[str]:
    """Yield the lines that say what was found."""
    since = f", days from {calibration.first_day}" if calibration.first_day else ""
    yield f"calibration {calibration.id}"
    yield f"{counted(calibration.tracks, 'track')}{since} to {calibration.as_of}"
    yield ""
    yield from _rates(calibration)
    yield ""
    yield from _rows(calibration)
    yield from _choice(calibration)
    yield from _rated(calibration)
    yield ""
    yield from _errors(calibration)
    yield ""
    yield from trust(calibration)


def trust(calibration: Calibration) -> Iterator[str]:
    """Say how far the catalogue's own past carries the figures."""
    first = calibration.first_day
    days = (calibration.as_of - first).days + 1 if first else 0
    history = f"{days // DAYS_PER_MONTH:,} months of history"
    own = _own(calibration)
    if not own:
        whole = f"{LENGTHS[0]} full weeks of {counted(FEWEST_TRACKS, 'track')}"
        yield f"{history}, no origin (it needs {whole} before it):"
        yield "intervals rest on other catalogues alone"
        return
    last = own[-1]
    those = f"{counted(last.origins, 'origin')} of {counted(last.month, 'month')}"
    yield f"{history}, {counted(len(calibration.origins), 'origin')};"
    yield f"{those} count as {last.independent:.1f} independent ones, other catalogues as {PRIOR_ORIGINS}:"
    yield f"intervals rest mostly on {_mostly(own)}"


def _own(calibration: Calibration) -> tuple[OwnErrors, ...]:
    """Return what the catalogue's own origins show of the model that suits it best, by month."""
    choice = calibration.choice
    return calibration.errors_of(choice.weight, choice.level).own


def _mostly(own: Sequence[OwnErrors]) -> str:
    """Say what counts more: its own origins, which are fewer the further they look ahead, or the others."""
    last = max((one.month for one in own if one.independent > PRIOR_ORIGINS), default=0)
    if last in (0, MEASURED):
        return "this catalogue" if last else "other catalogues"
    return f"this catalogue up to month {last}, then on other catalogues"


def _rates(calibration: Calibration) -> Iterator[str]:
    yield "decay rates per month by age (above 0: streams fall), with the number of tracks"
    rates = calibration.rates
    names = [_NAMES.get(group, group) for group in GROUPS]
    grid = Grid(["over", *names, "all ages"], left={"over"})
    yield from grid.lines(
        [
            [
                f"{weeks} weeks",
                *(f"{rate:.4f} ({number:,})" for rate, number in zip(of, complete, strict=True)),
                f"{whole:.4f} ({sum(complete):,})",
            ]
            for weeks, of, complete, whole in zip(
                LENGTHS, rates.rates, rates.complete, rates.whole, strict=True
            )
        ]
    )


def _rows(calibration: Calibration) -> Iterator[str]:
    rows, held_out = calibration.rows, calibration.rows_loss
    if rows.fitted is None:
        yield "rows: the shipped ones"
    else:
        yield f"rows: the shipped ones, and one fitted to this catalogue with weight {rows.weight:.2f}"
    if held_out.before is not None and held_out.after is not None:
        yield (
            f"  loss on {held_out.origins} origins held out in time:\n"
            f"  {held_out.before:.3f} with the shipped rows, {held_out.after:.3f} with the fitted one"
        )


def _choice(calibration: Calibration) -> Iterator[str]:
    choice = calibration.choice
    yield f"model: {_model(choice.weight)}, from the last {choice.level} days"
    yield f"  {_why(calibration)}"
    flat = [
        ("the last {} days go on", level, loss) for level, loss in zip((7, 30), choice.flat, strict=False)
    ]
    cells = [
        [_model(one.weight), f"{one.level}", *map(_number, (one.loss, one.mean, one.worst))]
        for one in choice.tried
    ]
    cells += [[name.format(level), f"{level}", _number(loss), "", ""] for name, level, loss in flat]
    if cells:
        yield ""
        more = HANDICAP[DAYS_PER_MONTH] - 1
        yield "loss: geometric mean of the WAPE over the origins; beside it, mean and worst"
        yield f"from {DAYS_PER_MONTH} days, it counts {more:.0%} more: the last week is the surer start"
        yield from Grid(["model", "days", "loss", "mean", "worst"], left={"model"}).lines(cells)


def _rated(calibration: Calibration) -> Iterator[str]:
    """Say how much the production model knew in the past: a run has the rates of today."""
    if not calibration.origins:
        return
    yield ""
    without = "production has 0 at an origin where no decay rate (MLDR) was known"
    if (artists := calibration.artists) is None:
        yield without
        return
    yield f"{without}:"
    yield f"of {counted(artists.every, 'artist')}, {artists.known:,} had one that was known at an origin"
    if artists.undated:
        yield f"those of {counted(artists.undated, 'artist')} have no date: they count at every origin,"
        yield "and may know later days"


def _why(calibration: Calibration) -> str:
    """Say what the choice of the model rests on: overlapping origins say little more than one."""
    own = _own(calibration)
    if not calibration.choice.is_measured:
        whole = f"{LENGTHS[-1]} full weeks of {counted(FEWEST_TRACKS, 'track')}"
        return f"the default: fewer than {FEWEST_ORIGINS} origins with {whole} before them"
    if not own:
        return "measured on its own origins"
    number, last = counted(len(calibration.origins), "origin"), own[-1]
    months = counted(last.month, "month")
    return f"measured on {number} of up to {months}: they say as much as about {last.independent:.1f}"


def _errors(calibration: Calibration) -> Iterator[str]:
    choice = calibration.choice
    errors = calibration.errors_of(choice.weight, choice.level)
    origins = {own.month: own.origins for own in errors.own}
    yield "how sure: range around the forecast of a month (tracks of 6 months and more)"
    grid = Grid(["month", "a track, 80 %", "a track, 95 %", "the total, 80 %", "origins"])
    yield from grid.lines(
        [
            [
                f"{month}",
                *(_range(errors.half_width(level, month, young=False)) for level in PERCENTS),
                _range(student_t(PERCENTS[0], errors.df(month)) * errors.sigma(month)),
                f"{origins.get(month, 0)}",
            ]
            for month in range(1, MEASURED + 1)
        ]
    )


def _model(weight: float) -> str:
    if weight in (0, 1):
        return "calibrated" if weight else "production"
    return f"blend, {weight:.0%} calibrated"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(half: float) -> str:
    return f"-{1 - math.exp(-half):.0%} +{math.expm1(half):.0%}"
