"""The total of forecasts with its range, for frames."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from forecaster.model.calibrated.uncertainty import prior_errors, totals
from forecaster.model.parameters import Parameters

if TYPE_CHECKING:
    from forecaster.model.calibrated.calibration import Calibration
    from forecaster.model.calibrated.forecast import Model


def total(
    forecasts: pl.LazyFrame,
    /,
    *,
    model: "Calibration | Model | None" = None,
    by: Sequence[str] = (),
    is_part: bool = False,
    horizon: int = Parameters.horizon,
) -> pl.LazyFrame:
    """Add up forecasts of `forecaster.build_forecasts`, per month and cumulated, with ranges. Lazy.

    `model`: what they were made with, as in `build_forecasts`; None: the production model, whose ranges are
    then those of other catalogues. `by`: columns to add up by, such as cm_artist_id. `is_part`: whether the
    tracks (or each of their groups) are a part of the catalogue; then their own errors count, which do not
    average out among few tracks. `horizon`: months 1 to this one, which every track has.

    Returns one row per `by` and month: month, tracks, total, q025, q10, q50, q90, q975; cumulated (months 1
    to this one), cumulated_q025 and so on; in streams, not rounded.
    """
    errors = prior_errors(0.0) if model is None else model.using(None).errors
    rows = forecasts.filter(pl.col("month") <= horizon)
    return totals(rows, errors, horizon=horizon, by=by, is_group=is_part or bool(by))
