"""What ranges rest on, in words."""

from forecaster.model.calibrated.uncertainty import MEASURED, PRIOR_ORIGINS, Errors
from forecaster.model.parameters import model_name
from forecaster.postgres.stored_with import StoredWith
from forecaster.process.numbers import counted


def model_of(made_with: StoredWith, /) -> str:
    """Name the model of stored forecasts, and its level; say so if no run recorded it."""
    return _named(made_with) if made_with.is_known else "model not known: no run recorded it"


def basis_of(made_with: StoredWith, horizon: int, /) -> str:
    """Say what the ranges of so many months of stored forecasts rest on, in one or two lines."""
    if made_with.of_others:
        own = "for those of this one, `forecaster calibrate`,\nthen `forecaster run --replace`"
        return f"ranges of other catalogues: {own}"
    calibration = made_with.calibration
    rests_on = basis(calibration.id if calibration else None, made_with.errors, horizon)
    return rests_on if made_with.is_known else f"{rests_on}\nas if made by the {_named(made_with)}"


def _named(made_with: StoredWith) -> str:
    return f"{model_name(made_with.weight)} model from the last {made_with.level} days"


def basis(calibration: str | None, errors: Errors, horizon: int, /) -> str:
    """Say what the ranges of so many months rest on, in one or two lines."""
    if calibration is None:
        return "ranges of other catalogues: `forecaster calibrate` measures those of this one"
    named, month = f"calibration {calibration}", min(horizon, MEASURED)
    own = next((own for own in errors.own if own.month == month), None)
    if own is None:
        return f"ranges of other catalogues:\n{named} has no origin of {counted(month, 'month')}"
    return (
        f"ranges of {named}: {counted(own.origins, 'origin')} of {counted(month, 'month')},\n"
        f"which count as {own.independent:.1f} independent ones, and other catalogues as {PRIOR_ORIGINS}"
    )


def extrapolated(horizon: int, /) -> list[str]:
    """Say in a sentence what later months assume, if there are any."""
    grow = f"after month {MEASURED} ranges grow with the square root of time, which is an assumption"
    return [grow] if horizon > MEASURED else []
