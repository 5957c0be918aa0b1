"""The immutable record that a calibrated forecast is made with, and its form as JSON."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from forecaster.errors import CalibrationError, InvalidOptionError
from forecaster.model.calibrated.forecast import Model
from forecaster.model.calibrated.rates import Rates
from forecaster.model.calibrated.rows import SHIPPED_ROWS, Row, Rows
from forecaster.model.calibrated.sound import is_sound
from forecaster.model.calibrated.uncertainty import Errors, OwnErrors, prior_errors
from forecaster.model.parameters import NameByWeight, model_name

FORM = 1
"""Version of the form of the record."""

LARGEST = 2_000_000
"""Most characters that a record has: those of one with all its tables are 40,000."""
_MOST_FORMS = 1_000_000

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the calibrated forecast in the geometric mean with that of the production model."""


@dataclass(frozen=True)
class Tried:
    """A model that the catalogue's own origins were forecast with."""

    weight: float
    """Weight of the calibrated forecast: 1 is the calibrated model, 0 the production model."""
    level: int
    """Days whose mean it starts from, 7 or 30."""
    loss: float | None
    """The geometric mean of the WAPEs of the origins; None without an origin."""
    mean: float | None
    """The mean WAPE of the origins."""
    worst: float | None
    """The worst WAPE of an origin."""


@dataclass(frozen=True)
class Choice:
    """The model that suits the catalogue best."""

    weight: float = 0.5
    level: int = 7
    is_measured: bool = False
    """Whether its own origins decided; if not, there is too little history, and it is the default."""
    tried: tuple[Tried, ...] = ()
    flat: tuple[float | None, ...] = ()
    """For comparison: the loss where streams stay at the mean of the last 7, and of the last 30 days."""

    @property
    def model(self) -> NameByWeight:
        """The name of the model; "blend" is the geometric mean of both."""
        return model_name(self.weight)


@dataclass(frozen=True)
class RowsLoss:
    """The loss with and without a row fitted to the catalogue, on origins held out in time."""

    asked: str = "shipped"
    """What was asked for: shipped, fitted or auto."""
    origins: int = 0
    """Number of origins that were held out."""
    before: float | None = None
    """Loss with the shipped rows; None without such origins."""
    after: float | None = None
    """Loss with the row fitted to the earlier origins."""


@dataclass(frozen=True)
class ModelErrors:
    """The error figures of one model."""

    weight: float
    level: int
    errors: Errors


@dataclass(frozen=True)
class RatedArtists:
    """Numbers of artists, by their decay rates (MLDR) in the past."""

    every: int
    known: int
    """With a rate that was known at one of the origins, the newest at the latest."""
    undated: int
    """Of these, with a rate of which nothing says when it became known: it counts at every origin."""


@dataclass(frozen=True)
class Calibration:
    """Facts about a catalogue as of a day. A forecast names the record that it was made with.

    It depends on no day after `as_of`, on no clock and no cut into batches: same data, same record.
    """

    as_of: date
    """D: the last day that is known."""
    tracks: int
    """Number of tracks with a record up to D."""
    first_day: date | None
    """Their first day with a record."""
    rates: Rates
    rows: Rows = SHIPPED_ROWS
    rows_loss: RowsLoss = RowsLoss()
    origins: tuple[date, ...] = ()
    """Days of the past that were forecast from, newest first: every 30th before D."""
    errors: tuple[ModelErrors, ...] = ()
    choice: Choice = Choice()
    form: int = FORM
    artists: RatedArtists | None = field(default=None, compare=False)
    """The artists of the tracks; no part of the record: None where that was read."""

    @property
    def id(self) -> str:
        """Its name: the day, and the beginning of its checksum."""
        return f"{self.as_of}-{self.checksum[:10]}"

    @property
    def checksum(self) -> str:
        """SHA-256 of everything in it."""
        return hashlib.sha256(_compact(self._content()).encode()).hexdigest()

    def errors_of(self, weight: float, level: int) -> Errors:
        """Return the error figures of a model; prior figures if it was not forecast with.

        `weight` of the calibrated forecast (1 calibrated, 0 production), `level` 7 or 30.
        """
        for of_model in self.errors:
            if (of_model.weight, of_model.level) == (weight, level):
                return of_model.errors
        return prior_errors(weight)

    def check_day(self, as_of: date) -> None:
        """Raise `InvalidOptionError` for an as-of day after which this calibration knows days."""
        if as_of < self.as_of:
            raise InvalidOptionError(
                f"as_of is {as_of}: calibration {self.id} knows the days up to {self.as_of}",
                hint="calibrate as of that day, or use an earlier calibration",
            )

    def using(self, level: int | None = None, *, weight: float = 1.0) -> Model:
        """Return what forecasts are made with: by default the calibrated model from the last 7 days."""
        return Model(self, weight, level or Model.level)

    def chosen(self) -> Model:
        """Return the model that suits the catalogue best."""
        return Model(self, self.choice.weight, self.choice.level)

    def decays(self, *, horizon: int) -> list[list[float]]:
        """Return for each age group the decay up to each month: ln(level / forecast)."""
        return self.rows.decays(self.rates, horizon=horizon)

    def to_json(self) -> str:
        """Write it as JSON, in one line."""
        return _compact({"id": self.id, "checksum": self.checksum, **self._content()})

    @classmethod
    def from_json(cls, text: str, /, *, name: str = "calibration") -> "Calibration":
        """Read what `to_json` wrote. `name` is the file or the record, for messages.

        Raises `CalibrationError` if it is not a calibration, has another form, or a byte of it was changed.
        """
        try:
            found = json.loads(text if len(text) <= LARGEST else "")
            form = found["form"]
        except (ValueError, KeyError, TypeError, RecursionError):
            form = None
        if type(form) is not int or not 0 < form <= _MOST_FORMS:
            raise CalibrationError(f"{name} is not a calibration", hint=_HINT)
        if form != FORM:
            raise CalibrationError(
                f"{name} has form {form!r}: this version reads form {FORM}",
                hint="calibrate again with this version, or update `forecaster`",
            )
        try:
            read = _read(found)
            is_as_written = read.to_json() == text.strip()
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            is_as_written = False
        if not is_as_written:
            raise CalibrationError(f"{name} was changed: it does not agree with its checksum", hint=_HINT)
        if not is_sound(read):
            raise CalibrationError(f"{name} has values that no calibration has", hint=_HINT)
        return read

    def _content(self) -> Mapping[str, Any]:
        return (
            {"form": self.form}
            | {name: value for name, value in asdict(self).items() if name != "artists"}
            | {
                "as_of": f"{self.as_of}",
                "first_day": self.first_day and f"{self.first_day}",
                "origins": [f"{day}" for day in self.origins],
                "rates": self.rates._asdict(),
                "rows": {
                    "fitted": self.rows.fitted and self.rows.fitted._asdict(),
                    "weight": self.rows.weight,
                },
            }
        )


_HINT = "`forecaster calibrate` makes a new one"


def _compact(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _read(found: Mapping[str, Any]) -> Calibration:
    fitted = found["rows"]["fitted"]
    choice = found["choice"]
    return Calibration(
        as_of=date.fromisoformat(found["as_of"]),
        tracks=found["tracks"],
        first_day=found["first_day"] and date.fromisoformat(found["first_day"]),
        rates=Rates(**{name: _tuples(value) for name, value in found["rates"].items()}),
        rows=Rows(fitted and Row(**fitted), found["rows"]["weight"]),
        rows_loss=RowsLoss(**found["rows_loss"]),
        origins=tuple(map(date.fromisoformat, found["origins"])),
        errors=tuple(_read_errors(of_model) for of_model in found["errors"]),
        choice=Choice(
            **choice
            | {
                "tried": tuple(Tried(**tried) for tried in choice["tried"]),
                "flat": tuple(choice["flat"]),
            }
        ),
    )


def _read_errors(found: Mapping[str, Any]) -> ModelErrors:
    own = tuple(OwnErrors(**of_month) for of_month in found["errors"]["own"])
    return ModelErrors(found["weight"], found["level"], Errors(own, found["errors"]["widened"]))


def _tuples(value: Any) -> Any:  # noqa: ANN401 - a table of numbers, of any depth
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
